//! The table graph: which rule must run after which.
//!
//! An edge leads from a table to each rule that is called for its changes or looks it up, and from a
//! rule to each table that it writes. The *level* of a table is 0 if a source writes it, else one more
//! than the highest level of a rule that writes it; the level of a rule is the highest of the tables
//! it reads. The engine runs levels in order, so a rule finds every table that it reads finished. A cycle has no
//! such order and is refused, by the names on it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::catalog::TableId;

/// A rule, as the graph sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `plugin.rule`, for messages.
    pub name: String,
    /// The table whose changes it is called for; `None` for timers.
    pub input: Option<TableId>,
    /// The tables that it looks up.
    pub lookups: Vec<TableId>,
    /// The tables that it writes.
    pub writes: Vec<TableId>,
    /// Nodes (by place) whose level it must reach too: a rule for timers runs with the rules that set
    /// them.
    pub not_before: Vec<usize>,
}

/// The rules depend on themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rules form a cycle: {}", .path.join(" -> "))]
pub struct Cycle {
    /// The names on the cycle, rules and tables in turn; the first is the last.
    pub path: Vec<String>,
}

/// The level of each node, by place.
///
/// # Errors
/// If the graph has a cycle. `table_name` names a table for the message.
pub fn levels(nodes: &[Node], table_name: impl Fn(TableId) -> String) -> Result<Vec<u32>, Cycle> {
    let mut writers: HashMap<TableId, Vec<usize>> = HashMap::new();
    for (place, node) in nodes.iter().enumerate() {
        for &table in &node.writes {
            writers.entry(table).or_default().push(place);
        }
    }
    let mut walk = Walk {
        nodes,
        writers,
        levels: BTreeMap::new(),
        path: Vec::new(),
        on_path: HashSet::new(),
        table_name: &table_name,
    };
    (0..nodes.len()).map(|place| walk.level(place)).collect()
}

struct Walk<'a> {
    nodes: &'a [Node],
    writers: HashMap<TableId, Vec<usize>>,
    levels: BTreeMap<usize, u32>,
    /// From where the walk began to the node being looked at, with the table that led to each.
    path: Vec<(usize, Option<TableId>)>,
    on_path: HashSet<usize>,
    table_name: &'a dyn Fn(TableId) -> String,
}

impl Walk<'_> {
    fn level(&mut self, place: usize) -> Result<u32, Cycle> {
        if let Some(&level) = self.levels.get(&place) {
            return Ok(level);
        }
        self.on_path.insert(place);
        if self.path.is_empty() {
            self.path.push((place, None));
        }
        let node = &self.nodes[place];
        let mut level = 0;
        for &table in node.input.iter().chain(&node.lookups) {
            for writer in self.writers.get(&table).cloned().unwrap_or_default() {
                level = level.max(self.step(writer, Some(table))? + 1);
            }
        }
        for &other in &node.not_before {
            if other != place {
                level = level.max(self.step(other, None)?);
            }
        }
        self.on_path.remove(&place);
        if self.path.len() == 1 {
            self.path.clear();
        }
        self.levels.insert(place, level);
        Ok(level)
    }

    fn step(&mut self, to: usize, through: Option<TableId>) -> Result<u32, Cycle> {
        if self.on_path.contains(&to) {
            return Err(self.cycle(to, through));
        }
        self.path.push((to, through));
        let level = self.level(to)?;
        self.path.pop();
        Ok(level)
    }

    /// The walk went from readers to writers; the message goes the way the data does.
    fn cycle(&self, back_to: usize, through: Option<TableId>) -> Cycle {
        let start = self
            .path
            .iter()
            .position(|&(place, _)| place == back_to)
            .unwrap_or_default();
        let mut path = vec![self.nodes[back_to].name.clone()];
        let name = |path: &mut Vec<String>, table: Option<TableId>| {
            path.extend(table.map(|table| format!("table {}", (self.table_name)(table))));
        };
        name(&mut path, through);
        for &(place, table) in self.path[start..].iter().rev() {
            path.push(self.nodes[place].name.clone());
            if place != back_to {
                name(&mut path, table);
            }
        }
        Cycle { path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, input: u32, lookups: &[u32], writes: &[u32]) -> Node {
        Node {
            name: name.into(),
            input: Some(TableId(input)),
            lookups: lookups.iter().copied().map(TableId).collect(),
            writes: writes.iter().copied().map(TableId).collect(),
            not_before: Vec::new(),
        }
    }

    fn check(nodes: &[Node], expected: Result<&[u32], &str>) {
        let found = levels(nodes, |table| format!("t{table}"));
        match expected {
            Ok(levels) => assert_eq!(found.unwrap(), levels),
            Err(message) => assert_eq!(found.unwrap_err().to_string(), message),
        }
    }

    #[test]
    fn rules_come_after_what_they_read() {
        check(
            &[
                node("month", 10, &[], &[11]),
                node("day", 1, &[], &[10]),
                node("clean", 0, &[], &[1]),
                node("other", 0, &[11], &[12]),
            ],
            Ok(&[2, 1, 0, 3]),
        );
    }

    #[test]
    fn a_rule_may_read_its_own_table_as_it_writes_it_but_not_listen_to_it() {
        check(&[node("a", 0, &[], &[1])], Ok(&[0]));
        check(
            &[node("a", 1, &[], &[1])],
            Err("the rules form a cycle: a -> table t1 -> a"),
        );
    }

    #[test]
    fn a_cycle_is_named_along_the_data() {
        check(
            &[
                node("a", 3, &[], &[1]),
                node("b", 1, &[], &[2]),
                node("c", 0, &[2], &[3]),
            ],
            Err("the rules form a cycle: a -> table t1 -> b -> table t2 -> c -> table t3 -> a"),
        );
    }

    #[test]
    fn a_rule_for_timers_runs_with_those_that_set_them() {
        let mut timer = node("remind", 0, &[], &[9]);
        timer.input = None;
        timer.not_before = vec![1];
        check(
            &[
                timer,
                node("set", 1, &[], &[2]),
                node("first", 0, &[], &[1]),
            ],
            Ok(&[1, 1, 0]),
        );
    }
}
