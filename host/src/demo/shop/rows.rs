//! The shop's rows and how they look as JSON lines, in both forms that the host reads.

use std::fmt::Write;

use rulemill_wire::Timestamp;

/// Which form a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The host's own: `{"table":..,"op":..,"after":..}`. Amounts are numbers.
    Rulemill,
    /// Debezium's envelope. Amounts are text, as with `decimal.handling.mode=string`.
    Debezium,
    /// Debezium's envelope under `payload`.
    DebeziumPayload,
}

#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) city: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Product {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) category: &'static str,
    pub(super) price_cents: i64,
    pub(super) stock: i64,
    pub(super) reorder_below: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) id: i64,
    pub(super) user_id: i64,
    pub(super) product_id: i64,
    pub(super) quantity: i64,
    pub(super) amount_cents: i64,
    pub(super) status: &'static str,
    pub(super) placed_millis: i64,
}

/// A row of one of the shop's tables.
pub(super) trait Row {
    const TABLE: &'static str;
    fn id(&self) -> i64;
    fn write(&self, form: Form, out: &mut String);
}

/// Writes to a string, which can't fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        let _ = write!($out, $($text)*);
    }};
}

impl Row for User {
    const TABLE: &'static str = "users";

    fn id(&self) -> i64 {
        self.id
    }

    fn write(&self, _form: Form, out: &mut String) {
        let Self {
            id,
            name,
            email,
            city,
        } = self;
        put!(
            out,
            r#"{{"id":{id},"name":"{name}","email":"{email}","city":"{city}"}}"#
        );
    }
}

impl Row for Product {
    const TABLE: &'static str = "products";

    fn id(&self) -> i64 {
        self.id
    }

    fn write(&self, form: Form, out: &mut String) {
        let Self {
            id, name, category, ..
        } = self;
        put!(
            out,
            r#"{{"id":{id},"name":"{name}","category":"{category}","price":"#
        );
        write_cents(self.price_cents, form, out);
        put!(out, r#","stock":{},"reorder_below":"#, self.stock);
        match self.reorder_below {
            Some(threshold) => put!(out, "{threshold}}}"),
            None => out.push_str("null}"),
        }
    }
}

impl Row for Order {
    const TABLE: &'static str = "orders";

    fn id(&self) -> i64 {
        self.id
    }

    fn write(&self, form: Form, out: &mut String) {
        let Self {
            id,
            user_id,
            product_id,
            quantity,
            ..
        } = self;
        put!(
            out,
            r#"{{"id":{id},"user_id":{user_id},"product_id":{product_id},"quantity":{quantity},"amount":"#
        );
        write_cents(self.amount_cents, form, out);
        put!(
            out,
            r#","status":"{}","placed_at":"{}"}}"#,
            self.status,
            timestamp(self.placed_millis)
        );
    }
}

fn write_cents(cents: i64, form: Form, out: &mut String) {
    let (whole, rest) = (cents / 100, cents % 100);
    match form {
        Form::Rulemill => put!(out, "{whole}.{rest:02}"),
        Form::Debezium | Form::DebeziumPayload => put!(out, r#""{whole}.{rest:02}""#),
    }
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000).unwrap_or_default()
}

/// A change as a line, without the line's end.
pub(super) fn line<T: Row>(
    before: Option<&T>,
    after: Option<&T>,
    form: Form,
    whole_before: bool,
    millis: i64,
) -> String {
    let mut out = String::with_capacity(400);
    if form == Form::Rulemill {
        let op = match (before, after) {
            (None, _) => "insert",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        };
        put!(out, r#"{{"table":"{}","op":"{op}""#, T::TABLE);
        // Of a row that went at least the key is told; of one that changed the host knows it.
        match before {
            Some(row) if whole_before => {
                out.push_str(r#","before":"#);
                row.write(form, &mut out);
            }
            Some(row) if after.is_none() => put!(out, r#","before":{{"id":{}}}"#, row.id()),
            _ => {}
        }
        if let Some(row) = after {
            out.push_str(r#","after":"#);
            row.write(form, &mut out);
        }
        put!(out, r#","ts":"{}"}}"#, timestamp(millis));
        return out;
    }
    let op = match (before, after) {
        (None, _) => "c",
        (Some(_), Some(_)) => "u",
        (Some(_), None) => "d",
    };
    if form == Form::DebeziumPayload {
        out.push_str(r#"{"payload":"#);
    }
    out.push_str(r#"{"before":"#);
    match before {
        Some(row) if whole_before || after.is_none() => row.write(form, &mut out),
        _ => out.push_str("null"),
    }
    out.push_str(r#","after":"#);
    match after {
        Some(row) => row.write(form, &mut out),
        None => out.push_str("null"),
    }
    put!(
        out,
        r#","source":{{"connector":"postgresql","db":"shop","schema":"public","table":"{}","ts_ms":{millis}}},"op":"{op}","ts_ms":{millis}}}"#,
        T::TABLE
    );
    if form == Form::DebeziumPayload {
        out.push('}');
    }
    out
}
