//! What a raw row of a sales export is, and what it means.

use rulemill_sdk::prelude::*;

/// A row as the tills export it: nothing but its own number can be relied on.
#[derive(Row, Clone, Debug, PartialEq)]
#[table(source = "sales")]
pub struct RawSale {
    /// The row's number in the export.
    #[key]
    pub id: i64,
    /// The receipt that the sale stands on.
    pub receipt: Option<String>,
    /// The day, as `2026-01-31` or `31.01.2026`.
    pub day: Option<String>,
    /// What was sold.
    pub product: Option<String>,
    /// How many, a whole number.
    pub quantity: Option<String>,
    /// What one cost, with a decimal point or comma.
    pub price: Option<String>,
}

/// What a complete raw row says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed {
    /// The receipt.
    pub(crate) receipt: String,
    /// The day.
    pub(crate) day: Date,
    /// What was sold.
    pub(crate) product: String,
    /// How many.
    pub(crate) quantity: i64,
    /// What one cost.
    pub(crate) price: Decimal,
}

/// Reads a raw row, or says what is wrong with it.
pub(crate) fn parse(raw: &RawSale) -> Result<Parsed, &'static str> {
    let quantity = filled(&raw.quantity).ok_or("quantity is missing")?;
    let price = filled(&raw.price).ok_or("price is missing")?;
    Ok(Parsed {
        receipt: filled(&raw.receipt).ok_or("receipt is missing")?.to_owned(),
        day: day(filled(&raw.day).ok_or("day is missing")?).ok_or("day is no date")?,
        product: filled(&raw.product).ok_or("product is missing")?.to_owned(),
        quantity: quantity
            .parse()
            .ok()
            .filter(|&quantity| quantity > 0)
            .ok_or("quantity is no positive whole number")?,
        price: price
            .replace(',', ".")
            .parse()
            .ok()
            .filter(|&price| price >= Decimal::ZERO)
            .ok_or("price is no amount")?,
    })
}

/// The text, unless it is nothing but blanks.
fn filled(text: &Option<String>) -> Option<&str> {
    let text = text.as_deref()?.trim();
    (!text.is_empty()).then_some(text)
}

fn day(text: &str) -> Option<Date> {
    let Some((day, rest)) = text.split_once('.') else {
        return text.parse().ok();
    };
    let (month, year) = rest.split_once('.')?;
    Date::from_ymd(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn raw(id: i64, receipt: &str, day: &str, quantity: &str, price: &str) -> RawSale {
        RawSale {
            id,
            receipt: Some(receipt.into()),
            day: Some(day.into()),
            product: Some("tea".into()),
            quantity: Some(quantity.into()),
            price: Some(price.into()),
        }
    }

    #[test]
    fn a_row_is_read_in_the_forms_that_tills_use() {
        let plain = parse(&raw(1, "R1", "2026-01-31", "2", "12.50")).unwrap();
        let other = parse(&raw(1, " R1 ", "31.01.2026", " 2", "12,50")).unwrap();
        assert_eq!(plain, other);
        assert_eq!(plain.price, Decimal::new(1250, 2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let reason = |raw: RawSale| parse(&raw).unwrap_err();
        for (row, expected) in [
            (raw(1, " ", "2026-01-31", "2", "1"), "receipt is missing"),
            (raw(1, "R1", "", "2", "1"), "day is missing"),
            (raw(1, "R1", "2026-02-30", "2", "1"), "day is no date"),
            (raw(1, "R1", "30.02.2026", "2", "1"), "day is no date"),
            (
                raw(1, "R1", "2026-01-31", "two", "1"),
                "quantity is no positive whole number",
            ),
            (
                raw(1, "R1", "2026-01-31", "0", "1"),
                "quantity is no positive whole number",
            ),
            (
                raw(1, "R1", "2026-01-31", "2", "free"),
                "price is no amount",
            ),
            (raw(1, "R1", "2026-01-31", "2", "-1"), "price is no amount"),
        ] {
            assert_eq!(reason(row), expected);
        }
        let mut row = raw(1, "R1", "2026-01-31", "2", "1");
        row.product = None;
        assert_eq!(reason(row), "product is missing");
    }
}
