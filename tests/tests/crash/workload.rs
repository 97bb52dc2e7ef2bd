//! What happens to the host: changes of a source with positions, posted changes with idempotency keys, new plugin versions,
//! a rule that is paused and resumed, parked changes that are retried, a log that is cut, a plugin that is rebuilt.

use rulemill::change::RawOp;
use rulemill_tests::{random::Random, rig::TestChange};
use rulemill_wire::ValueRef;

use crate::plugins::FIRST_FAILS;

pub(crate) const MINUTE: i64 = 60_000_000;

/// A change of one row.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Order {
        op: RawOp,
        id: i64,
        customer: i64,
        amount: i64,
    },
    Customer {
        id: i64,
        name: String,
    },
}

/// A change, and the minute at which it was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) what: What,
    pub(crate) minute: i64,
}

impl Made {
    pub(crate) fn change(&self) -> TestChange<'_> {
        let (table, op, row) = match &self.what {
            What::Order {
                op,
                id,
                customer,
                amount,
            } => (
                "orders",
                *op,
                vec![
                    ("id", ValueRef::I64(*id)),
                    ("customer", ValueRef::I64(*customer)),
                    ("amount", ValueRef::I64(*amount)),
                ],
            ),
            What::Customer { id, name } => (
                "customers",
                RawOp::Upsert,
                vec![("id", ValueRef::I64(*id)), ("name", ValueRef::Text(name))],
            ),
        };
        TestChange {
            table,
            op,
            row,
            time: Some(self.minute * MINUTE),
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The source hands over a transaction; its position is the number of the step.
    Source(Vec<Made>),
    /// A client posts one under a key that is the number of the step.
    Request(Vec<Made>),
    /// The shop's second version.
    Mend,
    /// The late plugin.
    Late,
    Pause,
    /// The log forgets everything: also what the rule that is paused has yet to handle.
    Prune,
    /// So its plugin is rebuilt.
    Resume,
    Retry,
    /// The shop's tables are made again, as somebody asks for.
    Rebuild,
}

impl Step {
    pub(crate) fn made(&self) -> &[Made] {
        match self {
            Self::Source(made) | Self::Request(made) => made,
            _ => &[],
        }
    }
}

/// Rows and changes that a rule which is behind takes at a time: fewer than the late plugin finds, so that a crash comes
/// between, and as many as can come in while the rule is paused.
pub(crate) const BATCH: usize = 10;

/// Some steps with every kind among them.
pub(crate) fn steps(random: &mut Random, count: usize) -> Vec<Step> {
    let mut minute = 0;
    let mut batch = |random: &mut Random| {
        let len = random.between(3, 5);
        (0..len)
            .map(|_| {
                minute += 1;
                Made {
                    what: what(random),
                    minute,
                }
            })
            .collect()
    };
    let mut steps = Vec::new();
    for _ in 0..count {
        steps.push(if random.one_in(4) {
            Step::Request(batch(random))
        } else {
            Step::Source(batch(random))
        });
    }
    // One that is parked, and goes through once the shop is mended.
    if let Some(Step::Source(made) | Step::Request(made)) = steps.first_mut() {
        made[0].what = What::Order {
            op: RawOp::Upsert,
            id: 21,
            customer: 1,
            amount: FIRST_FAILS,
        };
    }
    // From the back, so that places stay.
    let pause = count * 7 / 10;
    let controls = [
        (Step::Retry, count * 9 / 10),
        (Step::Rebuild, count * 17 / 20),
        (Step::Resume, pause + 2),
        // The next commit shows the engine that it is so.
        (Step::Prune, pause + 1),
        (Step::Pause, pause),
        (Step::Late, count * 6 / 10),
        (Step::Retry, count * 5 / 10),
        (Step::Mend, count * 3 / 10),
    ];
    for (step, place) in controls {
        steps.insert(place, step);
    }
    steps
}

fn what(random: &mut Random) -> What {
    if random.one_in(5) {
        return What::Customer {
            id: random.between(1, 4),
            name: format!("name {}", random.below(1_000)),
        };
    }
    What::Order {
        op: if random.one_in(6) {
            RawOp::Delete
        } else {
            RawOp::Upsert
        },
        id: random.between(1, 20),
        customer: random.between(1, 4),
        // Many that the first version, and some that both versions can't take.
        amount: match random.below(8) {
            0 | 1 => 4 * random.between(1, 24),
            2 => 12 * random.between(1, 8),
            _ => random.between(1, 99),
        },
    }
}
