//! Makes the manifest from the rules' signatures, and the resources that they share.

use std::any::TypeId;

use rulemill_wire::manifest::{Access, Input as ManifestInput, Manifest, RULES_MAX, Rule, Table};

use super::{
    bind::RuleCall,
    resource::{Clock, Resource},
};
use crate::{notify::Notify, timers::Timers};

/// Binds a rule to a plan: what `#[rule]` writes for it.
#[doc(hidden)]
pub type BindRule = fn(&mut Plan) -> Result<Box<dyn RuleCall>, String>;

/// A plugin while its rules are being declared.
#[doc(hidden)]
pub struct Plan {
    manifest: Manifest,
    config: String,
    calls: Vec<Box<dyn RuleCall>>,
    resources: Vec<Box<dyn Resource>>,
    /// The type of each resource, and the table it shows.
    types: Vec<TypeId>,
    /// The row type through which each owned table is written.
    writers: Vec<(u16, TypeId)>,
}

type Finished = (Manifest, Vec<Box<dyn RuleCall>>, Vec<Box<dyn Resource>>);

impl Plan {
    pub(crate) fn new(name: &str, version: &str, config: &str) -> Self {
        Self {
            manifest: Manifest {
                name: name.to_owned(),
                version: version.to_owned(),
                tables: Vec::new(),
                rules: Vec::new(),
            },
            config: config.to_owned(),
            calls: Vec::new(),
            resources: vec![
                Box::new(Timers::default()),
                Box::new(Notify::default()),
                Box::new(Clock),
            ],
            types: vec![
                TypeId::of::<Timers>(),
                TypeId::of::<Notify>(),
                TypeId::of::<Clock>(),
            ],
            writers: Vec::new(),
        }
    }

    pub(crate) fn of_rules(
        name: &str,
        version: &str,
        config: &str,
        rules: &[BindRule],
    ) -> Result<Self, String> {
        let mut plan = Self::new(name, version, config);
        for bind in rules {
            let call = bind(&mut plan)?;
            plan.calls.push(call);
        }
        Ok(plan)
    }

    pub(crate) fn set_name(&mut self, name: &str, version: &str) {
        self.manifest.name = name.to_owned();
        self.manifest.version = version.to_owned();
    }

    /// The table of this number.
    pub(crate) fn manifest_table(&self, number: u16) -> &Table {
        &self.manifest.tables[usize::from(number)]
    }

    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// Begins the next rule; what is declared from here on is its.
    pub(crate) fn begin_rule(&mut self, name: &str, input: ManifestInput) {
        self.manifest.rules.push(Rule {
            name: name.to_owned(),
            input,
            lookups: Vec::new(),
            writes: Vec::new(),
            notifies: false,
            sets_timers: false,
        });
    }

    pub(crate) fn push_call(&mut self, call: Box<dyn RuleCall>) {
        self.calls.push(call);
    }

    /// The rule being declared.
    pub(crate) fn rule(&mut self) -> &mut Rule {
        match self.manifest.rules.last_mut() {
            Some(rule) => rule,
            None => unreachable!("a rule's input is declared first"),
        }
    }

    /// The number of this table; the same description has the same number.
    pub(crate) fn table(&mut self, table: Table) -> Result<u16, String> {
        let tables = &mut self.manifest.tables;
        let same = |known: &Table| {
            known.name == table.name
                && known.access == table.access
                && known.columns == table.columns
        };
        if let Some(number) = tables.iter().position(same) {
            let known = &mut tables[number];
            if known.key != table.key {
                return Err(format!(
                    "table {} has two row types with different keys; mark the same fields with `#[key]`",
                    table.name
                ));
            }
            if known.indexes != table.indexes {
                return Err(format!(
                    "table {} has two row types with different indexes; use one row type",
                    table.name
                ));
            }
            return Ok(number as u16);
        }
        if let Some(other) = tables.iter().find(|known| known.name == table.name)
            && (other.access == Access::Own || table.access == Access::Own)
        {
            return Err(format!(
                "table {} is owned by this plugin and described twice; use one row type with \
                 `#[table(derived = \"{0}\")]` for it",
                table.name
            ));
        }
        let number = u16::try_from(tables.len()).map_err(|_| "a plugin has too many tables")?;
        tables.push(table);
        Ok(number)
    }

    /// Notes that an owned table is written through this row type: a second one would not see the
    /// first one's writes.
    pub(crate) fn writer(&mut self, table: u16, row: TypeId) -> Result<(), String> {
        let known = self.writers.iter().find(|(number, _)| *number == table);
        match known {
            Some((_, known)) if *known != row => Err(format!(
                "table {} is written through two row types; use one",
                self.manifest.tables[usize::from(table)].name
            )),
            Some(_) => Ok(()),
            None => {
                self.writers.push((table, row));
                Ok(())
            }
        }
    }

    /// The place of the resource of this type; made if there is none.
    pub(crate) fn resource<R: Resource>(
        &mut self,
        make: impl FnOnce(&Self) -> Result<R, String>,
    ) -> Result<usize, String> {
        let ty = TypeId::of::<R>();
        if let Some(place) = self.types.iter().position(|known| *known == ty) {
            return Ok(place);
        }
        let resource = make(self)?;
        self.types.push(ty);
        Ok(self.add_resource(Box::new(resource)))
    }

    /// Adds a resource that only its place finds again.
    pub(crate) fn add_resource(&mut self, resource: Box<dyn Resource>) -> usize {
        self.resources.push(resource);
        self.types
            .resize(self.resources.len(), TypeId::of::<dyn Resource>());
        self.resources.len() - 1
    }

    pub(crate) fn finish(mut self) -> Result<Finished, String> {
        let rules = &self.manifest.rules;
        if rules.is_empty() {
            return Err("the plugin has no rules".to_owned());
        }
        if rules.len() > RULES_MAX {
            return Err(format!(
                "the plugin has {} rules; at most {RULES_MAX} fit into one",
                rules.len()
            ));
        }
        for (place, rule) in rules.iter().enumerate() {
            if rules[..place].iter().any(|other| other.name == rule.name) {
                return Err(format!("two rules are named {}; rename one", rule.name));
            }
            if let ManifestInput::Changes(input) = rule.input
                && rule.writes.contains(&input)
            {
                return Err(format!(
                    "rule {} writes table {}, whose changes it is called for; \
                     write to a table of its own",
                    rule.name,
                    self.manifest.tables[usize::from(input)].name
                ));
            }
        }
        let timer_rules = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.input == ManifestInput::Timers)
            .map(|(number, rule)| (rule.name.clone(), number as u16))
            .collect();
        self.resources[super::TIMERS] = Box::new(Timers::new(timer_rules));
        Ok((self.manifest, self.calls, self.resources))
    }
}
