//! The changes, and what their totals must come to.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Result;

/// Product to count and sum in cents.
pub(crate) type Totals = BTreeMap<i64, (i64, i64)>;

/// What was written.
pub(crate) struct Input {
    pub(crate) bytes: u64,
    pub(crate) totals: Totals,
}

#[derive(Clone, Copy)]
struct Order {
    id: u64,
    user: u64,
    product: u64,
    cents: i64,
    status: &'static str,
}

/// [SplitMix64](https://doi.org/10.1145/2714064.2660195).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// An amount that overflows any sum: the rule panics at it.
const OVERFLOWING: i64 = i64::MAX;

/// What is wrong with some of the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The rule panics at them.
    Panic,
    /// It returns an error.
    Error,
}

/// Writes `inbox/orders.jsonl` below `dir`. One of so many changes is an order with a flaw.
pub(crate) fn write(
    dir: &Path,
    changes: u64,
    products: u64,
    flawed: Option<(u64, Flaw)>,
) -> Result<Input> {
    let inbox = dir.join("inbox");
    std::fs::create_dir(&inbox)?;
    let path = inbox.join("orders.jsonl");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    let mut random = Random(42);
    let mut live: Vec<Order> = Vec::new();
    let mut totals = Totals::new();
    let mut written = 0;
    for number in 0..changes {
        // The first hundred orders give the others something to change.
        let kind = if live.len() < 100 {
            0
        } else {
            random.below(10)
        };
        let time = 1_767_225_600_000 + number * 7;
        match kind {
            0..=6 => {
                let mut order = Order {
                    id: number + 1,
                    user: random.below(50_000) + 1,
                    product: random.below(products) + 1,
                    cents: random.below(50_000) as i64 + 100,
                    status: "new",
                };
                let total = totals.get(&(order.product as i64));
                if let Some((each, flaw)) = flawed
                    && number / each > written
                    && total.is_some_and(|(_, cents)| *cents > 0)
                {
                    match flaw {
                        Flaw::Panic => order.cents = OVERFLOWING,
                        Flaw::Error => order.product = 0,
                    }
                    line(&mut out, None, Some(order), time)?;
                    written += 1;
                    continue;
                }
                line(&mut out, None, Some(order), time)?;
                count(&mut totals, order, 1);
                live.push(order);
            }
            7 | 8 => {
                let place = random.below(live.len() as u64) as usize;
                let before = live[place];
                let mut after = before;
                after.cents = random.below(50_000) as i64 + 100;
                after.status = ["paid", "sent", "back"][random.below(3) as usize];
                if random.below(10) == 0 {
                    after.product = random.below(products) + 1;
                }
                live[place] = after;
                line(&mut out, Some(before), Some(after), time)?;
                count(&mut totals, before, -1);
                count(&mut totals, after, 1);
            }
            _ => {
                let place = random.below(live.len() as u64) as usize;
                let before = live.swap_remove(place);
                line(&mut out, Some(before), None, time)?;
                count(&mut totals, before, -1);
            }
        }
    }
    out.flush()?;
    Ok(Input {
        bytes: path.metadata()?.len(),
        totals,
    })
}

fn count(totals: &mut Totals, order: Order, sign: i64) {
    let total = totals.entry(order.product as i64).or_default();
    total.0 += sign;
    total.1 += sign * order.cents;
}

fn line(
    out: &mut impl Write,
    before: Option<Order>,
    after: Option<Order>,
    time: u64,
) -> Result<()> {
    let op = match (&before, &after) {
        (None, _) => "c",
        (_, None) => "d",
        _ => "u",
    };
    write!(out, "{{\"before\":")?;
    row(out, before)?;
    write!(out, ",\"after\":")?;
    row(out, after)?;
    writeln!(
        out,
        ",\"source\":{{\"table\":\"orders\",\"lsn\":{}}},\"op\":\"{op}\",\"ts_ms\":{time}}}",
        time * 13
    )?;
    Ok(())
}

fn row(out: &mut impl Write, order: Option<Order>) -> Result<()> {
    match order {
        None => write!(out, "null")?,
        Some(Order {
            id,
            user,
            product,
            cents: OVERFLOWING,
            status,
        }) => write!(
            out,
            "{{\"id\":{id},\"user_id\":{user},\"product_id\":{product},\"amount\":\"79228162514264337593543950335\",\"status\":\"{status}\"}}"
        )?,
        Some(Order {
            id,
            user,
            product,
            cents,
            status,
        }) => write!(
            out,
            "{{\"id\":{id},\"user_id\":{user},\"product_id\":{product},\"amount\":\"{}.{:02}\",\"status\":\"{status}\"}}",
            cents / 100,
            cents % 100
        )?,
    }
    Ok(())
}
