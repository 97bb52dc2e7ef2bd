//! How other plugins are told what a rebuilt table has otherwise: a part at a time, however much it is, with live changes between the
//! parts, over crashes, restarts and pauses. The engine is stepped, so that what a step hands over can be counted.

use std::collections::BTreeMap;

use rulemill::engine::{Control, PluginEvent};
use rulemill_tests::{
    random::{Random, from_environment},
    rig::rows,
};

use crate::world::{STEP_MAX, USERS, World, full, new_place, old_place, options};

#[test]
fn no_step_hands_over_or_writes_more_than_a_batch() {
    let mut world = full(options());
    world.begin_rebuild();
    while world.is_rebuilding() {
        let handed = world.step().1;
        assert_eq!(handed, 0, "nobody is told before the switch, nor with it");
    }
    world.settle();
    // Readers have the new table whole; who is called for it has been told of nothing yet.
    let totals = rows(&world.store, "totals").unwrap();
    let new: Vec<i64> = (0..USERS)
        .filter_map(new_place)
        .map(|(key, _)| key)
        .collect();
    assert_eq!(totals.len(), new.len());
    assert_eq!(
        rows(&world.store, "copies").unwrap().len(),
        (0..USERS).filter_map(old_place).count()
    );
    assert_eq!(world.status_of("copies.copies"), "catching up");
    let (mut steps, mut handed) = (0, 0);
    loop {
        let (stepped, of_step) = world.step();
        if !stepped {
            break;
        }
        assert!(of_step <= STEP_MAX as u64, "a step hands over {of_step}");
        // A live batch comes between any two: of a user who is counted by both.
        let (id, user) = (5_000 + steps, 6 * (steps % 3 + 1));
        let before = *world.handed.lock().unwrap();
        world.apply(&[(id, Some(user))]);
        let live = *world.handed.lock().unwrap() - before;
        assert!(live <= 1, "{live}");
        (steps, handed) = (steps + 1, handed + of_step);
    }
    // Every key that is other than it was, but for the three that live changes have made so, or no longer so.
    let mut sides: BTreeMap<i64, [i64; 2]> = BTreeMap::new();
    for user in 0..USERS {
        for (side, place) in [old_place(user), new_place(user)].into_iter().enumerate() {
            if let Some((key, weight)) = place {
                sides.entry(key).or_default()[side] += 2 * weight;
            }
        }
    }
    let differ = sides.values().filter(|[old, new]| old != new).count() as u64;
    assert!(
        (differ - 3..=differ + 3).contains(&handed),
        "{handed} of {differ}"
    );
    assert!(steps as u64 >= differ / STEP_MAX as u64);
    // In the log each of these write sets has a seq.
    world.settle();
    let mut written: BTreeMap<u64, usize> = BTreeMap::new();
    for change in world
        .store
        .reader()
        .unwrap()
        .log(rulemill::change::Seq(1))
        .unwrap()
    {
        *written.entry(change.unwrap().seq.0).or_default() += 1;
    }
    // A copy each, and one change of the sum.
    assert!(
        written.values().all(|&changes| changes <= STEP_MAX + 1),
        "{written:?}"
    );
    world.check(new_place, "at the end");
}

/// Rows that are the same are passed over in steps too, and large ones come few at a time.
#[test]
fn a_step_is_bounded_in_rows_that_it_looks_at_and_in_bytes() {
    let mut limits = options();
    limits.batch_bytes_max = 1;
    let mut world = full(limits);
    world.begin_rebuild();
    while world.is_rebuilding() {
        world.step();
    }
    loop {
        let (stepped, handed) = world.step();
        if !stepped {
            break;
        }
        assert!(handed <= 1, "{handed}");
    }
    world.check(new_place, "one row a step");
    // The same code once more: nothing differs, and a step looks at 16 times what it may hand over.
    let mut limits = options();
    limits.batch_changes_max = 1;
    world.limits = limits;
    world.start();
    world.begin_rebuild();
    while world.is_rebuilding() {
        world.step();
    }
    let mut steps = 0;
    while world.step().0 {
        steps += 1;
    }
    let rows = rows(&world.store, "totals").unwrap().len();
    assert!(steps >= rows / 16, "{steps} steps for {rows} rows");
    assert!(steps <= rows / 16 + 3, "{steps} steps for {rows} rows");
    world.check(new_place, "nothing differs");
}

/// Nothing came between its going and the switch, and yet it knows the old rows only.
#[test]
fn a_plugin_that_went_right_before_the_switch_begins_again() {
    let mut world = full(options());
    world.begin_rebuild();
    while !world.engine().status().rules["shop:rebuild.totals"]
        .status
        .starts_with("running")
    {
        world.step();
        world.settle();
    }
    let name = "copies".to_owned();
    let event = Control::Plugin(PluginEvent::Removed { name });
    world.engine().command(event).unwrap();
    world.finish();
    assert!(!world.is_rebuilding());
    let event = world.copies();
    world.engine().command(Control::Plugin(event)).unwrap();
    world.finish();
    world.check(new_place, "away");
}

/// Random live changes, commits, crashes, pauses, unloads and reloads at every step.
#[test]
fn whatever_comes_between_the_parts_each_row_is_told_once() {
    let first = from_environment("RULEMILL_SEED", 0);
    let seeds = if first == 0 { 1..=40 } else { first..=first };
    for seed in seeds {
        let told = format!(
            "repeat with RULEMILL_SEED={seed} cargo test --workspace --test rebuild whatever_comes"
        );
        let mut random = Random::new(seed);
        let mut limits = options();
        limits.batch_changes_max = random.between(1, 20) as usize;
        let mut world = World::new(limits);
        let users = random.between(5, 60);
        for id in 0..random.between(1, 150) {
            world.apply(&[(id, Some(random.between(0, users)))]);
        }
        world.settle();
        world.begin_rebuild();
        let mut removed = false;
        for _ in 0..400 {
            match random.below(24) {
                0..8 => drop(world.step()),
                8..16 => {
                    let orders: Vec<_> = (0..random.between(1, 3))
                        .map(|_| {
                            (
                                random.between(0, 170),
                                (!random.one_in(4)).then(|| random.between(0, users)),
                            )
                        })
                        .collect();
                    world.apply(&orders);
                }
                16..19 => world.commit(),
                19 if random.one_in(2) => {
                    world.start();
                    removed = false;
                }
                20 if random.one_in(2) => {
                    let pause = random.one_in(2);
                    let rule = ["copies.copies", "sum.sum"][random.below(2) as usize].to_owned();
                    world
                        .command(|reply| match pause {
                            true => Control::Pause { rule, reply },
                            false => Control::Resume {
                                rule,
                                skip_gap: false,
                                reply,
                            },
                        })
                        .ok();
                }
                21 if !removed && random.one_in(3) => {
                    let name = "copies".to_owned();
                    world
                        .engine()
                        .command(Control::Plugin(PluginEvent::Removed { name }))
                        .unwrap();
                    removed = true;
                }
                22 if removed => {
                    let event = world.copies();
                    world.engine().command(Control::Plugin(event)).unwrap();
                    removed = false;
                }
                // What the committer does every minute.
                23 => while world.store.prune(1_000_000, &world.limits).unwrap() {},
                _ => {}
            }
            // As the engine's own loop, which takes nothing while a group is full.
            if world.engine().is_full() {
                world.settle();
            }
        }
        if removed {
            let event = world.copies();
            world.engine().command(Control::Plugin(event)).unwrap();
        }
        for rule in ["copies.copies", "sum.sum"] {
            let rule = rule.to_owned();
            world
                .command(|reply| Control::Resume {
                    rule,
                    skip_gap: false,
                    reply,
                })
                .unwrap();
        }
        world.finish();
        // A rule that was away at the switch has its own tables made again, which may have begun just now.
        world.finish();
        assert!(
            !world.is_rebuilding(),
            "{told}: {:#?}",
            world.engine().status()
        );
        world.check(new_place, &told);
    }
}
