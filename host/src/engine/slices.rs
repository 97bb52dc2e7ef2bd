//! Where a batch must be cut so that nobody sees that it is one.
//!
//! A rule that looks up a derived table while it handles a change must find what the changes up to this one made of that
//! table, and nothing of those behind it. Rules run level by level, so within a batch the table's writers have handled every
//! change before the rule handles the first. Where the table graph has such a pair, a batch is run in slices: none holds a change that
//! feeds the reader with one behind it that feeds the writer. Two rules of different levels that write one table are such a pair
//! too. Graphs without one, the most, run whole batches.

use std::collections::{BTreeSet, HashMap};

use crate::{catalog::TableId, change::Change};

use super::link::Linked;

/// Pairs that are told apart; with more of them every change is a slice.
const PAIRS_MAX: usize = 64;

/// What feeds a rule: changes of these tables, or of any.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Feeds {
    Any,
    Of(BTreeSet<TableId>),
}

/// The pairs of a table graph.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// By table number: the pairs whose reader its changes feed, and those whose writer, as bits.
    readers: Vec<u64>,
    writers: Vec<u64>,
    /// The same for tables that aren't above.
    any_reader: u64,
    any_writer: u64,
    cuts: bool,
    /// Derived tables whose every state a lookup may ask for.
    pub(super) seen_between: BTreeSet<TableId>,
}

/// A rule, as this needs it.
struct Rule {
    plugin: usize,
    sets_timers: bool,
    level: u32,
    input: Option<TableId>,
    reads: BTreeSet<TableId>,
    writes: BTreeSet<TableId>,
}

impl Slices {
    /// Finds the pairs among the rules of these plugins.
    pub(super) fn of(plugins: &[Linked]) -> Self {
        let mut rules = Vec::new();
        for (place, plugin) in plugins.iter().enumerate() {
            let id = |place: &u16| plugin.tables[usize::from(*place)].id;
            for (linked, declared) in plugin.rules.iter().zip(&plugin.plugin.manifest().rules) {
                rules.push(Rule {
                    plugin: place,
                    sets_timers: declared.sets_timers,
                    level: linked.level,
                    input: linked.input.as_ref().map(id),
                    reads: declared.lookups.iter().map(id).collect(),
                    writes: declared.writes.iter().map(id).collect(),
                });
            }
        }
        let mut writers: HashMap<TableId, Vec<usize>> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            for &table in &rule.writes {
                writers.entry(table).or_default().push(place);
            }
        }
        let mut slices = Self::default();
        let mut pairs: Vec<(Feeds, Feeds)> = Vec::new();
        let mut memo = vec![None; rules.len()];
        for (place_of_reader, reader) in rules.iter().enumerate() {
            // A timer that one change sets and a later one clears fires between them, if it comes due there.
            let setters = rules.iter().enumerate();
            for (place_of_setter, setter) in setters.filter(|(_, rule)| rule.sets_timers) {
                let waits = setter.plugin == reader.plugin && setter.level < reader.level;
                if reader.input.is_none() && waits {
                    pairs.push((
                        Feeds::Any,
                        feeds(place_of_setter, &rules, &writers, &mut memo),
                    ));
                }
            }
            for table in reader.reads.union(&reader.writes) {
                for &place_of_writer in writers.get(table).into_iter().flatten() {
                    let writer = &rules[place_of_writer];
                    if writer.level >= reader.level {
                        continue;
                    }
                    slices.seen_between.insert(*table);
                    let pair = (
                        feeds(place_of_reader, &rules, &writers, &mut memo),
                        feeds(place_of_writer, &rules, &writers, &mut memo),
                    );
                    if !pairs.contains(&pair) {
                        pairs.push(pair);
                    }
                }
            }
        }
        slices.cuts = !pairs.is_empty();
        if pairs.len() > PAIRS_MAX {
            pairs = vec![(Feeds::Any, Feeds::Any)];
        }
        for (number, (reader, writer)) in pairs.into_iter().enumerate() {
            let bit = 1 << number;
            mark(reader, bit, &mut slices.readers, &mut slices.any_reader);
            mark(writer, bit, &mut slices.writers, &mut slices.any_writer);
        }
        slices
    }

    /// The ends of the slices of these changes.
    pub(super) fn ends(&self, changes: &[Change]) -> Vec<usize> {
        let mut ends = Vec::new();
        if self.cuts {
            let mut fed = 0u64;
            for (place, change) in changes.iter().enumerate() {
                let table = change.table.0 as usize;
                let of = |bits: &[u64], any| bits.get(table).copied().unwrap_or(0) | any;
                if fed & of(&self.writers, self.any_writer) != 0 {
                    ends.push(place);
                    fed = 0;
                }
                fed |= of(&self.readers, self.any_reader);
            }
        }
        ends.push(changes.len());
        ends
    }
}

fn mark(feeds: Feeds, bit: u64, bits: &mut Vec<u64>, any: &mut u64) {
    match feeds {
        Feeds::Any => *any |= bit,
        Feeds::Of(tables) => {
            for table in tables {
                let place = table.0 as usize;
                if bits.len() <= place {
                    bits.resize(place + 1, 0);
                }
                bits[place] |= bit;
            }
        }
    }
}

/// The source tables whose changes lead to calls of a rule; a rule for timers is called with any.
fn feeds(
    place: usize,
    rules: &[Rule],
    writers: &HashMap<TableId, Vec<usize>>,
    memo: &mut Vec<Option<Feeds>>,
) -> Feeds {
    if let Some(known) = &memo[place] {
        return known.clone();
    }
    let found = match rules[place].input {
        None => Feeds::Any,
        Some(input) => match writers.get(&input) {
            None => Feeds::Of(BTreeSet::from([input])),
            Some(writers_of) => {
                let mut tables = BTreeSet::new();
                let mut any = false;
                for &writer in writers_of {
                    // Of a lower level, so this ends.
                    match feeds(writer, rules, writers, memo) {
                        Feeds::Any => any = true,
                        Feeds::Of(more) => tables.extend(more),
                    }
                }
                match any {
                    true => Feeds::Any,
                    false => Feeds::Of(tables),
                }
            }
        },
    };
    memo[place] = Some(found.clone());
    found
}
