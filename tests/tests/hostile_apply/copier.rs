//! Plugins that copy a table, and misbehave where a row's value is [`POISON`].

use rulemill_wire::{
    ColumnType,
    manifest::{Access, Column, Input, Manifest, Rule, Table},
};

use crate::guests;

/// The value over which a hostile plugin misbehaves.
pub(crate) const POISON: i64 = 666;

/// What a plugin says of itself.
pub(crate) struct Copier {
    /// The table that it copies.
    pub(crate) reads: &'static str,
    /// The column that it copies.
    pub(crate) column: &'static str,
    /// Its own table.
    pub(crate) owns: &'static str,
}

fn columns(value: &str) -> Vec<Column> {
    let column = |name: &str| Column {
        name: name.into(),
        ty: ColumnType::I64,
        nullable: false,
    };
    vec![column("id"), column(value)]
}

/// A table as a plugin names it.
pub(crate) fn table(name: &str, access: Access, value: &str) -> Table {
    Table {
        name: name.into(),
        access,
        columns: columns(value),
        key: vec![0],
        indexes: Vec::new(),
    }
}

impl Copier {
    /// Its manifest.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            name: "copier".into(),
            version: "1.0.0".into(),
            tables: vec![
                table(self.reads, Access::Read, self.column),
                table(self.owns, Access::Own, "value"),
            ],
            rules: vec![Rule {
                name: "copy".into(),
                input: Input::Changes(0),
                lookups: Vec::new(),
                writes: vec![1],
                notifies: false,
                sets_timers: false,
            }],
        }
    }
}

/// The handling of one change, in the place of what the frozen guest does there. `{{hostile}}` is done before a poisoned
/// row is copied.
const ITEM: &str = "(func $item (param $item i64) (param $seq i64) (param $kind i32)
      (local $id i64) (local $value i64) (local $i i32)
      (local.set $id (call $signed))
      (local.set $value (call $signed))
      (if (i32.eq (local.get $kind) (i32.const 1)) (then
        (drop (call $signed))
        (local.set $value (call $signed))))
      (if (i32.eq (local.get $kind) (i32.const 2)) (then
        (call $write (local.get $item) (i32.const 0) (local.get $id))
        (return)))
      (if (i64.eq (local.get $value) (i64.const 666)) (then {{hostile}}))
      (call $put (local.get $item) (local.get $id) (local.get $value)))

    ";

/// The frozen guest of interface v1 with this manifest, made to copy, and to do `hostile` over a poisoned row; `fields` are
/// further ones of its module.
pub(crate) fn assemble(manifest: &Manifest, hostile: &str, fields: &str) -> Vec<u8> {
    let (head, rest) = guests::V1.split_once("(func $item").unwrap();
    let (_, tail) = rest.split_once("(func (export \"apply\")").unwrap();
    let item = ITEM.replace("{{hostile}}", hostile);
    let text = format!("{head}{fields}\n{item}(func (export \"apply\"){tail}");
    guests::assemble(&with_manifest(&with_panicked_at(text), manifest))
}

/// The text of a guest that was made from the frozen one, with this manifest in place of its own.
pub(crate) fn with_manifest(text: &str, manifest: &Manifest) -> String {
    let (head, rest) = text.split_once("(data (i32.const 2048)").unwrap();
    let (_, tail) = rest.split_once(")\n").unwrap();
    let manifest = manifest.to_bytes();
    let escaped: String = manifest
        .iter()
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    let describe = "(call $ok (i32.const 2048) (i32.const 79))";
    assert!(tail.contains(describe), "the frozen guest has changed");
    let tail = tail.replace(
        describe,
        &format!("(call $ok (i32.const 2048) (i32.const {}))", manifest.len()),
    );
    format!("{head}(data (i32.const 2048) \"{escaped}\")\n{tail}")
}

/// The frozen guest as one of interface 1.1, with the import `panicked-at`: item, rule, message, and whether there is
/// anything done, and where.
fn with_panicked_at(mut text: String) -> String {
    if !text.contains("$panicked-at") {
        return text;
    }
    let mut behind = |place: &str, more: &str| {
        assert_eq!(
            text.matches(place).count(),
            1,
            "the frozen guest has changed"
        );
        text = text.replace(place, &format!("{place}\n{more}"));
    };
    behind(
        "(export \"panicked\" (func (param \"message\" string)))",
        "(export \"panicked-at\" (func (param \"item\" u32) (param \"rule\" u32) (param \"message\" string)
            (param \"done\" (option (list u8)))))",
    );
    behind(
        "(core func $panicked (canon lower (func $diagnostics \"panicked\") (memory $memory)))",
        "(core func $panicked-at (canon lower (func $diagnostics \"panicked-at\") (memory $memory)))",
    );
    behind(
        "(import \"diagnostics\" \"panicked\" (func $panicked (param i32 i32)))",
        "(import \"diagnostics\" \"panicked-at\" (func $panicked-at (param i32 i32 i32 i32 i32 i32 i32)))",
    );
    behind(
        "(export \"panicked\" (func $panicked))",
        "(export \"panicked-at\" (func $panicked-at))",
    );
    text.replace("plugin/diagnostics@1.0.0", "plugin/diagnostics@1.1.0")
}
