//! A rule that was to be told how a rebuilt table differs, and that its plugin's next version no longer has: the rows that served before
//! wait for nobody, and go. If the rule comes back, it begins again.

use rulemill::{catalog::Stage, engine::Control};

use crate::world::{World, copies, full, new_place, options};

/// The plugin of the copies, without their rule.
mod no_copies {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "count")]
    pub struct Count {
        #[key]
        id: i64,
        orders: i64,
    }

    #[rule]
    pub fn count(change: Change<Order>, count: &mut Table<Count>) -> Outcome {
        for Delta { sign, .. } in change.deltas() {
            count.entry(0)?.orders += sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(count);
}

/// Tables that served before and are kept for somebody, as the disk knows them.
fn kept(world: &World) -> usize {
    let catalog = world.store.reader().unwrap().catalog().unwrap();
    let is_kept = |stage| matches!(stage, Stage::Replaced { .. });
    catalog
        .tables()
        .filter(|table| is_kept(table.stage))
        .count()
}

fn load(world: &mut World) {
    let event = world.copies();
    world.engine().command(Control::Plugin(event)).unwrap();
    world.settle();
}

/// A world in which the copies have been told a part of what differs.
fn half_told() -> World {
    let mut world = full(options());
    world.begin_rebuild();
    while world.is_rebuilding() {
        world.step();
    }
    assert!(world.step().1 > 0, "a part of it");
    world.settle();
    assert_eq!(kept(&world), 1);
    world
}

#[test]
fn a_replaced_table_goes_with_the_last_rule_that_was_to_be_told_of_it() {
    // The rule runs, stands still, or its plugin was away, when the version without it comes; or the host was down.
    for how in ["runs", "paused", "away", "down"] {
        let mut world = half_told();
        let rule = || "copies.copies".to_owned();
        match how {
            "paused" => {
                let pause = |reply| Control::Pause {
                    rule: rule(),
                    reply,
                };
                world.command(pause).unwrap();
            }
            "away" => {
                let name = "copies".to_owned();
                let gone = rulemill::engine::PluginEvent::Removed { name };
                world.engine().command(Control::Plugin(gone)).unwrap();
                world.settle();
            }
            _ => {}
        }
        // A rule that only stands still is told the rest when it goes on.
        assert_eq!(kept(&world), 1, "{how}");
        world.copies = (no_copies::plugin, "2");
        match how {
            "down" => world.start(),
            _ => load(&mut world),
        }
        world.settle();
        assert_eq!(kept(&world), 0, "{how}");
        world.finish();
        world.apply(&[(7_000, Some(1)), (7_001, Some(2))]);
        world.settle();
        // It knows a part of the rows of the old table and a part of the new one's: its own are made again.
        world.copies = (copies::plugin, "3");
        load(&mut world);
        if how == "paused" {
            let resume = |reply| Control::Resume {
                rule: rule(),
                skip_gap: false,
                reply,
            };
            world.command(resume).unwrap();
        }
        world.finish();
        world.finish();
        assert_eq!(world.status_of("copies.copies"), "running", "{how}");
        world.check(new_place, how);
    }
}

/// A version that still has it goes on with it where it stood.
#[test]
fn a_new_version_of_the_rule_is_told_the_rest() {
    let mut world = half_told();
    world.copies = (copies::plugin, "2");
    load(&mut world);
    assert_eq!(kept(&world), 1);
    world.finish();
    assert_eq!(kept(&world), 0);
    world.check(new_place, "the rest");
}
