//! The demo's result for people: the top rows of each derived table.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use rulemill_wire::Value;

use super::recompute::{Row, Rows, Tables, show};

/// Rows shown of each table.
const ROWS_SHOWN: usize = 5;

/// How a table is shown.
struct View {
    table: &'static str,
    what: &'static str,
    /// Columns, in order.
    columns: &'static [&'static str],
    /// The column whose greatest values come first; with `-` before it, the smallest.
    order: &'static str,
}

const VIEWS: [View; 4] = [
    View {
        table: "product_totals",
        what: "best-selling products",
        columns: &["product_id", "orders", "units", "revenue"],
        order: "revenue",
    },
    View {
        table: "user_totals",
        what: "best customers",
        columns: &["user_id", "orders", "spent"],
        order: "spent",
    },
    View {
        table: "order_details",
        what: "latest orders, with today's names",
        columns: &[
            "order_id",
            "user_name",
            "city",
            "product_name",
            "quantity",
            "amount",
            "status",
        ],
        order: "order_id",
    },
    View {
        table: "low_stock",
        what: "running low",
        columns: &["product_id", "name", "stock", "since"],
        order: "-stock",
    },
];

/// The top rows of each table, as text.
pub(super) fn tables(tables: &Tables) -> String {
    let empty = Rows::new();
    VIEWS
        .iter()
        .map(|view| {
            let rows = tables.get(view.table).unwrap_or(&empty);
            let count = thousands(rows.len() as u64);
            format!(
                "{} ({}; {count} rows)\n{}\n",
                view.table,
                view.what,
                top(view, rows)
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn top(view: &View, rows: &Rows) -> String {
    let (column, descending) = match view.order.strip_prefix('-') {
        Some(column) => (column, false),
        None => (view.order, true),
    };
    let mut rows: Vec<&Row> = rows.values().collect();
    rows.sort_by(|a, b| {
        let order = compare(a.get(column), b.get(column));
        if descending { order.reverse() } else { order }
    });
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(view.columns.iter().copied());
    for row in rows.into_iter().take(ROWS_SHOWN) {
        table.add_row(
            view.columns
                .iter()
                .map(|column| row.get(*column).map(show).unwrap_or_default()),
        );
    }
    for (place, column) in view.columns.iter().enumerate() {
        let is_text = column.contains("name") || ["city", "status", "since"].contains(column);
        if let (false, Some(column)) = (is_text, table.column_mut(place)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| format!(" {}", line.trim_end()))
        .collect();
    lines.join("\n")
}

/// Numbers by size; what is no number counts as equal, so that the order of the keys stays.
fn compare(a: Option<&Value>, b: Option<&Value>) -> std::cmp::Ordering {
    match (a, b) {
        (Some(Value::I64(a)), Some(Value::I64(b))) => a.cmp(b),
        (Some(Value::Decimal(a)), Some(Value::Decimal(b))) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    }
}

/// A number with a comma between thousands.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_in_aligned_columns() {
        let row = |id: i64, revenue: i64| {
            let columns = [
                ("product_id", Value::I64(id)),
                ("orders", Value::I64(id * 10)),
                ("units", Value::I64(1)),
            ];
            let mut row: Row = columns.map(|(name, value)| (name.to_owned(), value)).into();
            row.insert("revenue".into(), Value::Decimal(revenue.into()));
            (id, row)
        };
        let tables = Tables::from([(
            "product_totals".to_owned(),
            Rows::from([row(1, 5), row(20, 1234)]),
        )]);
        let text = super::tables(&tables);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "product_totals (best-selling products; 2 rows)");
        assert!(
            lines[2].contains("20") && lines[2].ends_with("1234.00"),
            "{text}"
        );
        assert_eq!(lines[2].len(), lines[3].len(), "{text}");
    }

    #[test]
    fn thousands_are_told_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (200_000, "200,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }
}
