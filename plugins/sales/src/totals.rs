//! Sales by day; from the days, by month and the ten best.

use rulemill_sdk::prelude::*;

use crate::clean::Sale;

/// How many days are the best.
const BEST_DAYS: usize = 10;

/// A day with sales.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "sales_by_day")]
pub struct SalesDay {
    /// The day.
    #[key]
    pub day: Date,
    /// Sales on it.
    pub sales: i64,
    /// Pieces sold.
    pub units: i64,
    /// What they cost together.
    pub revenue: Decimal,
}

/// A month with sales.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "sales_by_month")]
pub struct SalesMonth {
    /// The month's first day.
    #[key]
    pub month: Date,
    /// Days with sales.
    pub days: i64,
    /// Sales in it.
    pub sales: i64,
    /// What they cost together.
    pub revenue: Decimal,
}

/// Every day by its revenue: what the best ones are read from.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "sales_days_ranked")]
pub struct RankedDay {
    /// The day.
    #[key]
    pub day: Date,
    /// Its revenue.
    #[index]
    pub revenue: Decimal,
}

/// One of the ten best days.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "sales_best_days")]
pub struct BestDay {
    /// Its place, from 1.
    #[key]
    pub place: i64,
    /// The day. Of two days with the same revenue the later comes first.
    pub day: Date,
    /// Its revenue.
    pub revenue: Decimal,
}

/// Sums sales by day.
#[rule]
pub fn sales_by_day(change: Change<Sale>, days: &mut Table<SalesDay>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let day = days.entry(row.day)?;
        day.sales += sign;
        day.units += row.quantity * sign;
        day.revenue += row.total * sign;
        if day.sales == 0 {
            days.remove(row.day)?;
        }
    }
    Ok(())
}

/// Sums days by month.
#[rule]
pub fn sales_by_month(change: Change<SalesDay>, months: &mut Table<SalesMonth>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let first = row.day.first_of_month();
        let month = months.entry(first)?;
        month.days += sign;
        month.sales += row.sales * sign;
        month.revenue += row.revenue * sign;
        if month.days == 0 {
            months.remove(first)?;
        }
    }
    Ok(())
}

/// Keeps the ten best days, also when one of them falls back or goes.
#[rule]
pub fn sales_best_days(
    change: Change<SalesDay>,
    ranked: &mut Table<RankedDay>,
    best: &mut Table<BestDay>,
) -> Outcome {
    match &change.after {
        Some(SalesDay { day, revenue, .. }) => ranked.insert(RankedDay {
            day: *day,
            revenue: *revenue,
        }),
        None => {
            ranked.remove(change.key())?;
        }
    }
    let order = ranked.by_range(RankedDay::BY_REVENUE, ..).descending();
    let mut top = order
        .limit(BEST_DAYS)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    for place in 1..=BEST_DAYS as i64 {
        let Some(RankedDay { day, revenue }) = top.next() else {
            best.remove(place)?;
            continue;
        };
        let row = BestDay {
            place,
            day,
            revenue,
        };
        if best.get(place)? != Some(&row) {
            best.insert(row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: u32) -> Date {
        Date::from_ymd(2026, 1, number).unwrap()
    }

    fn sale(id: i64, day: Date, quantity: i64, total: i64) -> Sale {
        Sale {
            id,
            receipt: format!("R{id}"),
            day,
            product: "tea".into(),
            quantity,
            price: 1.into(),
            total: total.into(),
        }
    }

    fn sales_day(number: u32, revenue: i64) -> SalesDay {
        SalesDay {
            day: day(number),
            sales: 1,
            units: 1,
            revenue: revenue.into(),
        }
    }

    #[test]
    fn a_sale_that_moves_to_another_day_leaves_the_first() -> Outcome {
        let mut days = Table::in_memory();
        sales_by_day(Change::insert(sale(1, day(1), 2, 20)), &mut days)?;
        sales_by_day(
            Change::update(sale(1, day(1), 2, 20), sale(1, day(2), 3, 30)),
            &mut days,
        )?;
        let expected = SalesDay {
            day: day(2),
            sales: 1,
            units: 3,
            revenue: 30.into(),
        };
        assert_eq!(days.rows(), [expected]);
        Ok(())
    }

    #[test]
    fn months_follow_their_days() -> Outcome {
        let mut months = Table::in_memory();
        sales_by_month(Change::insert(sales_day(1, 20)), &mut months)?;
        sales_by_month(Change::insert(sales_day(31, 5)), &mut months)?;
        sales_by_month(
            Change::update(sales_day(1, 20), sales_day(1, 30)),
            &mut months,
        )?;
        let expected = SalesMonth {
            month: day(1),
            days: 2,
            sales: 2,
            revenue: 35.into(),
        };
        assert_eq!(months.rows(), [expected]);
        sales_by_month(Change::delete(sales_day(1, 30)), &mut months)?;
        sales_by_month(Change::delete(sales_day(31, 5)), &mut months)?;
        assert!(months.rows().is_empty());
        Ok(())
    }

    #[test]
    fn the_best_days_stay_right_when_one_falls_back() -> Outcome {
        let (mut ranked, mut best) = (Table::in_memory(), Table::in_memory());
        for number in 1..=12 {
            let change = Change::insert(sales_day(number, number.into()));
            sales_best_days(change, &mut ranked, &mut best)?;
        }
        let days = |best: &Table<BestDay>| -> Vec<u32> {
            best.rows().iter().map(|row| row.day.day()).collect()
        };
        assert_eq!(days(&best), [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
        let falls = Change::update(sales_day(12, 12), sales_day(12, 1));
        sales_best_days(falls, &mut ranked, &mut best)?;
        assert_eq!(days(&best), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
        for number in 1..=4 {
            let gone = Change::delete(sales_day(number, number.into()));
            sales_best_days(gone, &mut ranked, &mut best)?;
        }
        assert_eq!(
            days(&best),
            [11, 10, 9, 8, 7, 6, 5, 12],
            "eight days are left"
        );
        Ok(())
    }
}
