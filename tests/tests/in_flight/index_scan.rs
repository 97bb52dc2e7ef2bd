//! Scans of keys and of secondary indexes over rows that are committed, settling and young at once.
//!
//! The host once wrote a null byte before every indexed column, and the SDK only before those that may be
//! null. Scans of rows that were still on their way to disk found them (the SDK's own entries, in its own form),
//! scans of committed rows found nothing, and every test passed, since none of them waited for the disk
//! between writing and scanning. So here random changes move rows between index values, delete them and bring them
//! back, in all three places at once, over pages of three rows, up and down, before and after a restart;
//! and every scan is compared with a map.
//!
//! `RULEMILL_SEED=N` runs one seed, as a failure prints it.

use std::sync::{Arc, atomic::Ordering};

use rulemill::{engine::Status, store::Store};
use rulemill_tests::{
    native::Make,
    random::{Random, from_environment},
    rig::{Options, Rig},
    wait::until,
};

use crate::{
    held::{Submitted, hold, submit, wait_until_committed},
    model::{Item, Model, Query, Step},
    plugins::{owner, reader},
};

const SEEDS: u64 = 4;
const ROUNDS: usize = 10;

struct World {
    seed: u64,
    random: Random,
    rig: Rig,
    model: Model,
    queries: i64,
}

fn start(store: Arc<Store>) -> Rig {
    let mut options = Options::default();
    options.limits.scan_page_rows_max = 3;
    // Each batch that is handed in stays a batch of its own.
    options.limits.batch_changes_max = 1;
    let plugins: [(&str, Make, &str); 2] = [
        ("owner", owner::plugin, "1"),
        ("reader", reader::plugin, "1"),
    ];
    Rig::start(store, &options, &plugins).unwrap()
}

impl World {
    /// A few random changes with queries between them; the last one is a query.
    fn batch(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..self.random.between(0, 8) {
            steps.push(match self.random.below(6) {
                0 => Step::Ask(self.query()),
                1 => Step::Delete(self.random.between(-8, 24)),
                _ => Step::Put(Item::random(&mut self.random)),
            });
        }
        steps.push(Step::Ask(self.query()));
        self.model.apply(&steps);
        steps
    }

    fn query(&mut self) -> Query {
        self.queries += 1;
        Query::random(self.queries, &mut self.random)
    }

    fn submit(&self, steps: &[Step]) -> Submitted {
        let changes: Vec<_> = steps.iter().map(Step::change).collect();
        submit(&self.rig, &changes, None)
    }

    /// Waits until the engine has answered every query so far, durable or not.
    fn wait_until_answered(&self) {
        until("the engine to answer", || {
            (owner::ANSWERED.load(Ordering::SeqCst) >= self.queries).then_some(())
        });
    }

    /// A round that the reader sleeps through: it then looks up what was there at each query.
    fn slept_through(&mut self) {
        self.rig.pause("reader.look").unwrap();
        self.round();
        self.rig.resume("reader.look").unwrap();
        let last = self.queries;
        let at_head = |status: &Status| {
            let rule = &status.rules["reader.look"];
            rule.status == "running" && rule.lag_changes == 0
        };
        self.rig.wait_for(at_head);
        until("the reader's last answer to be durable", || {
            let rows = self.rig.rows("looked_up").unwrap();
            rows.iter()
                .any(|row| row.starts_with(&format!("id={last} ")))
                .then_some(())
        });
    }

    /// Rows in all three places, and queries over them.
    fn round(&mut self) {
        let committed = self.batch();
        let committed = self.submit(&committed);
        wait_until_committed(&self.rig, &committed);
        // Nothing but committed rows below these.
        for _ in 0..3 {
            let query = [Step::Ask(self.query())];
            self.model.apply(&query);
            let committed = self.submit(&query);
            wait_until_committed(&self.rig, &committed);
        }
        let settling = self.batch();
        let changes: Vec<_> = settling.iter().map(Step::change).collect();
        let held = hold(&self.rig, &changes);
        self.wait_until_answered();
        let mut young = Vec::new();
        for _ in 0..3 {
            let steps = self.batch();
            young.push(self.submit(&steps));
            self.wait_until_answered();
        }
        held.release();
        for batch in &young {
            wait_until_committed(&self.rig, batch);
        }
    }

    fn check(&self) {
        let owned = self.model.owned.iter();
        let owned: Vec<String> = owned
            .map(|(id, found)| line(*id, &[("found", found)]))
            .collect();
        self.compare("owned", &owned);
        let looked_up: Vec<String> = self
            .model
            .looked_up
            .iter()
            .map(|(id, found)| {
                let items = &self.model.items_found[id];
                line(*id, &[("found", found), ("items", items)])
            })
            .collect();
        self.compare("looked_up", &looked_up);
    }

    fn compare(&self, table: &str, expected: &[String]) {
        let rows = self.rig.rows(table).unwrap();
        for (found, expected) in rows.iter().zip(expected) {
            assert_eq!(
                found, expected,
                "table {table}; repeat with RULEMILL_SEED={}",
                self.seed
            );
        }
        assert_eq!(rows.len(), expected.len());
    }
}

fn line(id: i64, cells: &[(&str, &String)]) -> String {
    let mut line = format!("id={id}");
    for (name, text) in cells {
        line += &format!(" {name}={text}");
    }
    line
}

fn check(seed: u64) {
    owner::ANSWERED.store(0, Ordering::SeqCst);
    let mut world = World {
        seed,
        random: Random::new(seed),
        rig: start(Arc::new(Store::in_memory().unwrap())),
        model: Model::default(),
        queries: 0,
    };
    for round in 0..ROUNDS {
        match world.random.one_in(2) {
            true => world.slept_through(),
            false => world.round(),
        }
        world.check();
        if round == ROUNDS / 2 {
            // What the plugins remember goes, and the rows stay.
            let store = world.rig.stop().unwrap();
            world.rig = start(store);
        }
    }
    assert!(world.model.owned.values().any(|found| !found.is_empty()));
    world.rig.stop().unwrap();
}

/// One test, as the answers are counted in one place.
#[test]
fn scans_find_what_a_map_finds() {
    let first = from_environment("RULEMILL_SEED", 0);
    let seeds = if first == 0 { 1..=SEEDS } else { first..=first };
    for seed in seeds {
        check(seed);
    }
}
