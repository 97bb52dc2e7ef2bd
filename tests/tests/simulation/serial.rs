//! Batches and groups don't show: the same input comes to the same bytes however it is cut.

use std::collections::{BTreeMap, BTreeSet};

use rulemill::store::Store;

use crate::{
    compare::{self, DERIVED},
    feed::{Feed, Mix, Said, Source},
    world::{End, Settings, World},
};

/// Seeds that are tried out, each in eight ways.
const SEEDS: u64 = 12;

/// How the input is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Changes in a batch, and so in a call of a plugin.
    batch: usize,
    /// Batches that are decided while a group is on its way to disk; 0: each is durable before the next begins.
    pipelined: usize,
}

const CUTS: [Cut; 8] = [
    Cut {
        batch: 1,
        pipelined: 0,
    },
    Cut {
        batch: 1,
        pipelined: 5,
    },
    Cut {
        batch: 7,
        pipelined: 0,
    },
    Cut {
        batch: 7,
        pipelined: 1,
    },
    Cut {
        batch: 7,
        pipelined: 40,
    },
    Cut {
        batch: 4_096,
        pipelined: 0,
    },
    Cut {
        batch: 4_096,
        pipelined: 1,
    },
    Cut {
        batch: 300,
        pipelined: 3,
    },
];

/// Everything that the store holds of rows, timers, notifications and parked changes, byte by byte, a line each.
type Contents = BTreeMap<String, Vec<String>>;

fn contents_of(store: &Store) -> Result<Contents, Box<dyn std::error::Error>> {
    let reader = store.reader()?;
    let catalog = reader.catalog()?;
    let mut contents = Contents::new();
    let derived = DERIVED.map(|(table, _)| table);
    for name in Source::ALL.map(Source::name).into_iter().chain(derived) {
        let Some(table) = catalog.by_name(name) else {
            continue;
        };
        let lines = contents.entry(format!("table {name}")).or_default();
        for stored in reader.rows(table, &[], None, false)? {
            let (key, stored) = stored?;
            lines.push(format!("{key:?} {:?}", stored.row));
        }
    }
    for timer in reader.timers()? {
        let lines = contents.entry("timers".into()).or_default();
        lines.push(format!("{:?}", timer?));
    }
    for (rule, sent) in compare::notifications(&reader)? {
        contents.insert(format!("notifications of {rule}"), sent);
    }
    for letter in reader.dead_letters()? {
        let letter = letter?;
        // Not the error: a row that doesn't fit is seen before the batch is handed over, also where it then
        // turns out to wait for another.
        let place = format!("parked for {}.{}", letter.plugin, letter.rule);
        contents.entry(place).or_default().push(format!(
            "{} {:?} {}",
            letter.seq, letter.subject, letter.time
        ));
    }
    for record in reader.rules()? {
        // What a later rule sees is a table's net change in each batch: how many those are does show. So do the
        // timers that came due within a batch: only those that the host fires are counted.
        if record.rule != "buckets" && record.rule != "remind" {
            let place = format!("changes handled by {}.{}", record.plugin, record.rule);
            contents.insert(place, vec![record.changes.to_string()]);
        }
    }
    for (place, lines) in &mut contents {
        if place.starts_with("parked") {
            // By key, each key's in the order of their seqs.
            lines.sort();
        }
    }
    Ok(contents)
}

fn transactions(seed: u64) -> Vec<Vec<Said>> {
    let mix = Mix {
        flaw_in: [0, 25, 60][(seed % 3) as usize],
        changes_max: 30,
        keys: 30,
        schema_in: 25,
    };
    let mut feed = Feed::new(seed, mix);
    (0..220).map(|_| feed.transaction()).collect()
}

/// Runs the changes through, each a transaction of its own, in batches of `cut`.
fn contents(seed: u64, changes: &[Said], cut: Cut) -> Result<Contents, End> {
    let mut settings = Settings {
        limits: Settings::limits(),
        is_loose: false,
    };
    settings.limits.batch_changes_max = cut.batch;
    let mut world = World::new(seed, settings);
    world.sent = changes.iter().map(|said| vec![said.clone()]).collect();
    world.start()?;
    let mut decided = 0;
    while world.position < world.sent.len() {
        let left = world.sent.len() - world.position;
        world.source(&vec![1; left.min(cut.batch)])?;
        if cut.pipelined == 0 {
            world.settle_all()?;
            continue;
        }
        decided += 1;
        if decided % cut.pipelined == 0 {
            // What was handed over before has taken until now.
            world.commit()?;
            world.settle()?;
            world.hand_over()?;
        }
    }
    world.check()?;
    let contents = contents_of(world.store());
    contents.map_err(|error| End::Wrong(error.to_string()))
}

#[test]
fn batches_and_groups_do_not_show() {
    for seed in 1..=SEEDS {
        let changes = transactions(seed).concat();
        let results = CUTS.map(|cut| {
            let result = contents(seed, &changes, cut);
            result.unwrap_or_else(|end| panic!("seed {seed}, {cut:?}: {end:?}"))
        });
        for (cut, found) in CUTS.iter().zip(&results) {
            let places: BTreeSet<_> = results[0].keys().chain(found.keys()).collect();
            for place in places {
                let lines = |of: &Contents| of.get(place).cloned().unwrap_or_default();
                if let Err(what) = compare::same(place, &lines(found), &lines(&results[0])) {
                    panic!("seed {seed}, {cut:?} instead of {:?}: {what}", CUTS[0]);
                }
            }
        }
    }
}
