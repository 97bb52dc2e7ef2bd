;; A plugin of interface v1, frozen: hosts must load it and handle its batches for ever.
;;
;; It was written by hand against sdk/wit/v1/plugin.wit at version 1.0.0, together with the formats of
;; rulemill-wire 0.1 (manifest, batch, effects, keys), so that neither the SDK, nor wit-bindgen, nor
;; wit-component stands between this test and the interface. It must never be edited to suit a host:
;; if a host can't run it any more, that host has broken interface v1.
;;
;; It reads table 0, `numbers` (id i64, value i64, key id) and owns table 1, `sums` (the same columns,
;; an index on value). For each change it writes `sums` under the same id:
;;   insert   the row's value + the value already in `sums` (state.get)
;;   read     the row's value + how many rows a scan of `sums` by its index returns (state.scan)
;;   update   the difference of the values + the value already in `sums` (state.get-many)
;;   delete   the row is removed
;; Each call logs one line, `batch`. A batch may have 127 changes at the most.
(component
  (import "rulemill:plugin/state@1.0.0" (instance $state
    (type $found' (record (field "row" (option (list u8))) (field "until" u64)))
    (export "found" (type $found (eq $found')))
    (type $range' (record
      (field "index" (option u32))
      (field "from" (list u8))
      (field "to" (option (list u8)))
      (field "descending" bool)
      (field "limit" u32)))
    (export "range" (type $range (eq $range')))
    (type $page' (record
      (field "count" u32) (field "rows" (list u8)) (field "next" (option (list u8)))))
    (export "page" (type $page (eq $page')))
    (export "get" (func
      (param "table" u32) (param "key" (list u8)) (param "at" u64) (result $found)))
    (export "get-many" (func
      (param "table" u32) (param "keys" (list (list u8))) (param "at" u64) (result (list $found))))
    (export "scan" (func
      (param "table" u32) (param "range" $range) (param "at" u64) (result $page)))))
  (import "rulemill:plugin/diagnostics@1.0.0" (instance $diagnostics
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "panicked" (func (param "message" string)))))

  ;; Memory and an allocator that only goes forward; `apply` sets it back.
  (core module $libc
    (memory (export "memory") 32)
    (global $heap (export "heap") (mut i32) (i32.const 131072))
    (func (export "realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))

  (core func $get
    (canon lower (func $state "get") (memory $memory) (realloc $realloc)))
  (core func $get-many
    (canon lower (func $state "get-many") (memory $memory) (realloc $realloc)))
  (core func $scan
    (canon lower (func $state "scan") (memory $memory) (realloc $realloc)))
  (core func $log (canon lower (func $diagnostics "log") (memory $memory)))
  (core func $panicked (canon lower (func $diagnostics "panicked") (memory $memory)))

  ;; Memory: 0 what a call returns; 64 what an import returns; 128 a key; 144 a list of one key;
  ;; 1024 texts; 2048 the manifest; 65536 the effects; 131072 the heap.
  (core module $main
    (import "libc" "memory" (memory 32))
    (import "libc" "heap" (global $heap (mut i32)))
    (import "state" "get" (func $get (param i32 i32 i32 i64 i32)))
    (import "state" "get-many" (func $get-many (param i32 i32 i32 i64 i32)))
    (import "state" "scan"
      (func $scan (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32)))
    (import "diagnostics" "log" (func $log (param i32 i32 i32)))
    (import "diagnostics" "panicked" (func $panicked (param i32 i32)))

    (data (i32.const 1024) "batch")
    (data (i32.const 1040) "no such kind")
    (data (i32.const 2048)
      "\06frozen\051.0.0"
      "\02"
      "\07numbers\00\02\02id\01\00\05value\01\00\01\00\00"
      "\04sums\01\02\02id\01\00\05value\01\00\01\00\01\01\01"
      "\01\04sums\00\00\01\00\01\01\00\00")

    (global $in (mut i32) (i32.const 0))
    (global $out (mut i32) (i32.const 0))

    (func $ok (param $at i32) (param $len i32) (result i32)
      (i32.store8 (i32.const 0) (i32.const 0))
      (i32.store (i32.const 4) (local.get $at))
      (i32.store (i32.const 8) (local.get $len))
      (i32.const 0))

    (func (export "describe") (param i32 i32) (result i32)
      (call $ok (i32.const 2048) (i32.const 79)))

    (func $byte (result i32)
      (i32.load8_u (global.get $in))
      (global.set $in (i32.add (global.get $in) (i32.const 1))))

    (func $unsigned (result i64)
      (local $byte i64) (local $value i64) (local $shift i64)
      (loop $more
        (local.set $byte (i64.extend_i32_u (call $byte)))
        (local.set $value
          (i64.or (local.get $value)
            (i64.shl (i64.and (local.get $byte) (i64.const 127)) (local.get $shift))))
        (local.set $shift (i64.add (local.get $shift) (i64.const 7)))
        (br_if $more (i64.ge_u (local.get $byte) (i64.const 128))))
      (local.get $value))

    (func $signed (result i64)
      (local $raw i64)
      (local.set $raw (call $unsigned))
      (i64.xor
        (i64.shr_u (local.get $raw) (i64.const 1))
        (i64.sub (i64.const 0) (i64.and (local.get $raw) (i64.const 1)))))

    (func $write-byte (param $byte i32)
      (i32.store8 (global.get $out) (local.get $byte))
      (global.set $out (i32.add (global.get $out) (i32.const 1))))

    (func $write-unsigned (param $value i64)
      (loop $more
        (if (i64.lt_u (local.get $value) (i64.const 128))
          (then (call $write-byte (i32.wrap_i64 (local.get $value))) (return)))
        (call $write-byte
          (i32.or (i32.wrap_i64 (i64.and (local.get $value) (i64.const 127))) (i32.const 128)))
        (local.set $value (i64.shr_u (local.get $value) (i64.const 7)))
        (br $more)))

    (func $write-signed (param $value i64)
      (call $write-unsigned
        (i64.xor
          (i64.shl (local.get $value) (i64.const 1))
          (i64.shr_s (local.get $value) (i64.const 63)))))

    ;; The key form of an i64, at 128.
    (func $key (param $id i64)
      (local $place i32)
      (local.set $id (i64.xor (local.get $id) (i64.const 0x8000000000000000)))
      (local.set $place (i32.const 8))
      (loop $more
        (local.set $place (i32.sub (local.get $place) (i32.const 1)))
        (i64.store8 (i32.add (i32.const 128) (local.get $place)) (local.get $id))
        (local.set $id (i64.shr_u (local.get $id) (i64.const 8)))
        (br_if $more (local.get $place))))

    ;; The value in a `found` record; 0 if there is no row.
    (func $value-of (param $found i32) (result i64)
      (local $in i32) (local $value i64)
      (if (i32.eqz (i32.load8_u (local.get $found))) (then (return (i64.const 0))))
      (local.set $in (global.get $in))
      (global.set $in (i32.load offset=4 (local.get $found)))
      (drop (call $signed))
      (local.set $value (call $signed))
      (global.set $in (local.get $in))
      (local.get $value))

    (func $sum-by-get (param $id i64) (param $at i64) (result i64)
      (call $key (local.get $id))
      (call $get (i32.const 1) (i32.const 128) (i32.const 8) (local.get $at) (i32.const 64))
      (call $value-of (i32.const 64)))

    (func $sum-by-get-many (param $id i64) (param $at i64) (result i64)
      (call $key (local.get $id))
      (i32.store (i32.const 144) (i32.const 128))
      (i32.store (i32.const 148) (i32.const 8))
      (call $get-many (i32.const 1) (i32.const 144) (i32.const 1) (local.get $at) (i32.const 64))
      (if (i32.ne (i32.load (i32.const 68)) (i32.const 1)) (then (unreachable)))
      (call $value-of (i32.load (i32.const 64))))

    ;; Index 0, from the key at 128, no end, descending, 5 rows.
    (func $count-by-scan (param $id i64) (param $at i64) (result i64)
      (call $key (local.get $id))
      (call $scan
        (i32.const 1)
        (i32.const 1) (i32.const 0)
        (i32.const 128) (i32.const 8)
        (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 1)
        (i32.const 5)
        (local.get $at)
        (i32.const 64))
      (i64.extend_i32_u (i32.load (i32.const 64))))

    (func $write (param $item i64) (param $op i32) (param $id i64)
      (call $write-unsigned (i64.const 1))
      (call $write-unsigned (local.get $item))
      (call $write-byte (local.get $op))
      (call $write-signed (local.get $id)))

    (func $put (param $item i64) (param $id i64) (param $value i64)
      (call $write (local.get $item) (i32.const 1) (local.get $id))
      (call $write-signed (local.get $value)))

    (func $item (param $item i64) (param $seq i64) (param $kind i32)
      (local $id i64) (local $value i64)
      (local.set $id (call $signed))
      (local.set $value (call $signed))
      (if (i32.eq (local.get $kind) (i32.const 0)) (then
        (call $put (local.get $item) (local.get $id)
          (i64.add (local.get $value) (call $sum-by-get (local.get $id) (local.get $seq))))
        (return)))
      (if (i32.eq (local.get $kind) (i32.const 1)) (then
        (drop (call $signed))
        (call $put (local.get $item) (local.get $id)
          (i64.add
            (i64.sub (call $signed) (local.get $value))
            (call $sum-by-get-many (local.get $id) (local.get $seq))))
        (return)))
      (if (i32.eq (local.get $kind) (i32.const 2)) (then
        (call $write (local.get $item) (i32.const 0) (local.get $id))
        (return)))
      (if (i32.eq (local.get $kind) (i32.const 3)) (then
        (call $put (local.get $item) (local.get $id)
          (i64.add (local.get $value) (call $count-by-scan (local.get $id) (local.get $seq))))
        (return)))
      (call $panicked (i32.const 1040) (i32.const 12))
      (unreachable))

    (func (export "apply") (param $batch i32) (param $len i32) (result i32)
      (local $seq i64) (local $count i64) (local $item i64)
      (call $log (i32.const 1) (i32.const 1024) (i32.const 5))
      (global.set $in (local.get $batch))
      (global.set $out (i32.const 65537))
      (local.set $seq (call $unsigned))
      (drop (call $signed))
      (local.set $count (call $unsigned))
      (block $done
        (loop $more
          (br_if $done (i64.eq (local.get $item) (local.get $count)))
          (local.set $seq (i64.add (local.get $seq) (call $unsigned)))
          (drop (call $signed))
          (drop (call $unsigned))
          (call $item (local.get $item) (local.get $seq) (call $byte))
          (local.set $item (i64.add (local.get $item) (i64.const 1)))
          (br $more)))
      (i32.store8 (i32.const 65536) (i32.wrap_i64 (local.get $count)))
      (call $write-byte (i32.const 0))
      (call $write-byte (i32.const 0))
      (call $write-byte (i32.const 0))
      (global.set $heap (i32.const 131072))
      (call $ok (i32.const 65536) (i32.sub (global.get $out) (i32.const 65536)))))

  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "state" (instance
      (export "get" (func $get))
      (export "get-many" (func $get-many))
      (export "scan" (func $scan))))
    (with "diagnostics" (instance
      (export "log" (func $log))
      (export "panicked" (func $panicked))))))

  (func (export "describe") (param "config" string) (result (result (list u8) (error string)))
    (canon lift (core func $main "describe") (memory $memory) (realloc $realloc)))
  (func (export "apply") (param "batch" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $main "apply") (memory $memory) (realloc $realloc))))
