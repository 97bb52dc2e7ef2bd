;; A guest of interface v1 with gaps, which tests/guests/mod.rs fills in.
(component
  (import "rulemill:plugin/state@1.0.0" (instance $state
    (type $found' (record (field "row" (option (list u8))) (field "until" u64)))
    (export "found" (type $found (eq $found')))
    (export "get" (func
      (param "table" u32) (param "key" (list u8)) (param "at" u64) (result $found)))
    (export "get-many" (func
      (param "table" u32) (param "keys" (list (list u8))) (param "at" u64)
      (result (list $found))))))
  (import "rulemill:plugin/diagnostics@1.0.0" (instance $diagnostics
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "panicked" (func (param "message" string)))))

  (core module $libc
    (memory (export "memory") 2)
    (global $heap (mut i32) (i32.const 65536))
    ;; Goes forward only, and grows the memory when it has to.
    (func (export "realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (loop $more
        (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
          (then
            (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
            (br $more))))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $get
    (canon lower (func $state "get") (memory $memory) (realloc $realloc)))
  (core func $get-many
    (canon lower (func $state "get-many") (memory $memory) (realloc $realloc)))
  (core func $log (canon lower (func $diagnostics "log") (memory $memory)))
  (core func $panicked (canon lower (func $diagnostics "panicked") (memory $memory)))

  (core module $main
    (import "libc" "memory" (memory 2))
    (import "state" "get" (func $get (param i32 i32 i32 i64 i32)))
    (import "state" "get-many" (func $get-many (param i32 i32 i32 i64 i32)))
    (import "diagnostics" "log" (func $log (param i32 i32 i32)))
    (import "diagnostics" "panicked" (func $panicked (param i32 i32)))
    (data (i32.const 1024) "there is no seventh day")
    (data (i32.const 2048) "\00\00\00\00")
    (data (i32.const 4096) "{{manifest}}")

    (func $return (param $tag i32) (param $at i32) (param $len i32) (result i32)
      (i32.store8 (i32.const 0) (local.get $tag))
      (i32.store (i32.const 4) (local.get $at))
      (i32.store (i32.const 8) (local.get $len))
      (i32.const 0))
    (func $ok (param $at i32) (param $len i32) (result i32)
      (call $return (i32.const 0) (local.get $at) (local.get $len)))
    ;; An error with the text at 1024.
    (func $error (result i32) (call $return (i32.const 1) (i32.const 1024) (i32.const 23)))
    (func $manifest (result i32) (call $ok (i32.const 4096) (i32.const {{manifest-len}})))
    ;; No effects at all.
    (func $effects (result i32) (call $ok (i32.const 2048) (i32.const 4)))
    {{fields}}
    (func (export "describe") (param $config i32) (param $len i32) (result i32)
      {{describe}})
    (func (export "apply") (param $batch i32) (param $len i32) (result i32)
      {{apply}}))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "state" (instance (export "get" (func $get)) (export "get-many" (func $get-many))))
    (with "diagnostics" (instance
      (export "log" (func $log))
      (export "panicked" (func $panicked))))))
  {{component-fields}}
  (func (export "describe") (param "config" string) (result (result (list u8) (error string)))
    (canon lift (core func $main "describe") (memory $memory) (realloc $realloc)))
  (func (export "apply") (param "batch" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $main "apply") (memory $memory) (realloc $realloc))))
