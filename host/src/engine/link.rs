//! Fitting a plugin to the tables that are there.
//!
//! A plugin's manifest names tables and columns; linking finds or makes them in the catalog, checks that
//! everybody's idea of them agrees, and gives each rule its level in the table graph. It works on a copy of the
//! catalog, so a plugin that is refused leaves no trace.

use std::{borrow::Cow, sync::Arc};

use rulemill_wire::{
    ColumnType,
    manifest::{self, Access, Input, WHOLE_ROW},
};

use crate::{
    catalog::{Catalog, Column, Index, Origin, Stage, Table, TableId},
    change::Seq,
    graph::{self, Node},
    row::ColumnId,
    rule::{Instance, Plugin},
};

use super::{instances::Spare, projection::Projection, rebuild, setup::PluginOptions};

/// A plugin that is fitted to the catalog.
pub(super) struct Linked {
    pub(super) name: Arc<str>,
    pub(super) plugin: Arc<dyn Plugin>,
    /// The store's number for this code.
    pub(super) version: u32,
    pub(super) options: PluginOptions,
    /// By manifest number.
    pub(super) tables: Arc<Vec<LinkedTable>>,
    /// By manifest number.
    pub(super) rules: Vec<LinkedRule>,
    /// Kept between batches; gone after a fault.
    pub(super) instance: Option<Box<dyn Instance>>,
    /// The next one, while panics are to be expected.
    pub(super) spare: Option<Spare>,
    /// Items in which they are, since the last one: it is asked to keep what each call has done.
    pub(super) wary: u64,
    /// It has been asked so in the run at hand.
    pub(super) kept: bool,
    /// About how many items have lain between the last panics.
    pub(super) between: u64,
}

/// A manifest's table, found in the catalog.
#[derive(Debug, Clone)]
pub(super) struct LinkedTable {
    pub(super) id: TableId,
    pub(super) owned: bool,
    pub(super) projection: Projection,
    /// The key's places among the manifest's columns, in the catalog's key order.
    pub(super) key_places: Vec<u16>,
    /// The catalog's index for each of the manifest's.
    pub(super) indexes: Vec<usize>,
}

/// A rule with its place in the graph.
#[derive(Debug, Clone)]
pub(super) struct LinkedRule {
    /// `plugin.rule`.
    pub(super) full_name: Arc<str>,
    pub(super) level: u32,
    /// The manifest table whose changes it is called for; `None` for timers.
    pub(super) input: Option<u16>,
}

/// Finds or makes in `catalog` the tables that `manifest` names.
///
/// `others` are the manifests of the plugins that run beside it, by name; `is_empty` tells whether a table has no
/// rows; `now` is the last seq.
///
/// # Errors
/// With a sentence that names table and column, if they can't be had as the manifest says.
pub(super) fn link_tables(
    name: &str,
    manifest: &manifest::Manifest,
    catalog: &mut Catalog,
    others: &[(&str, &manifest::Manifest)],
    configured: &dyn Fn(&str) -> bool,
    is_empty: &dyn Fn(&Table) -> anyhow::Result<bool>,
    now: Seq,
) -> Result<Vec<LinkedTable>, String> {
    // Owned tables first: a rule may read what its own plugin makes.
    for declared in owned(manifest) {
        own(name, declared, catalog, others, configured, is_empty, now)?;
    }
    for declared in &manifest.tables {
        if declared.access == Access::Read {
            read(name, declared, catalog, others, configured)?;
        }
    }
    manifest
        .tables
        .iter()
        .map(|declared| linked_table(name, declared, catalog))
        .collect()
}

/// What a manifest's table is called in the catalog: a plugin that is being rebuilt makes its tables beside those that serve.
fn catalog_name<'a>(plugin: &str, declared: &'a manifest::Table) -> Cow<'a, str> {
    match declared.access {
        Access::Own if rebuild::is_shadow(plugin) => rebuild::shadow(&declared.name).into(),
        _ => Cow::Borrowed(&declared.name),
    }
}

fn owned(manifest: &manifest::Manifest) -> impl Iterator<Item = &manifest::Table> {
    manifest
        .tables
        .iter()
        .filter(|table| table.access == Access::Own)
}

fn linked_table(
    plugin: &str,
    declared: &manifest::Table,
    catalog: &Catalog,
) -> Result<LinkedTable, String> {
    let table = catalog
        .by_name(&catalog_name(plugin, declared))
        .ok_or_else(|| format!("table {} is not in the catalog", declared.name))?;
    let projection = Projection::new(declared, table)
        .map_err(|column| format!("table {} has no column {column}", declared.name))?;
    let key_places = table
        .key_columns()
        .map(|(_, column)| {
            declared
                .columns
                .iter()
                .position(|declared| declared.name == column.name)
                .map(|place| place as u16)
                .ok_or_else(|| {
                    format!(
                        "table {}: its key column {} is missing from the row type",
                        declared.name, column.name
                    )
                })
        })
        .collect::<Result<_, _>>()?;
    let indexes = declared
        .indexes
        .iter()
        .map(|index| {
            let columns = index_columns(declared, index);
            table
                .indexes
                .iter()
                .position(|have| {
                    have.columns
                        .iter()
                        .map(|&id| table.columns[usize::from(id)].name.as_str())
                        .eq(columns.iter().copied())
                })
                .ok_or_else(|| {
                    format!(
                        "table {} has no index on {}: only the plugin that owns a table can index it",
                        declared.name,
                        columns.join(", ")
                    )
                })
        })
        .collect::<Result<_, _>>()?;
    Ok(LinkedTable {
        id: table.id,
        owned: declared.access == Access::Own,
        projection,
        key_places,
        indexes,
    })
}

fn index_columns<'a>(declared: &'a manifest::Table, index: &manifest::Index) -> Vec<&'a str> {
    index
        .columns
        .iter()
        .map(|&place| declared.columns[usize::from(place)].name.as_str())
        .collect()
}

fn key_names(declared: &manifest::Table) -> Vec<&str> {
    declared
        .key_columns()
        .map(|column| column.name.as_str())
        .collect()
}

/// Makes an owned table, or checks that the one there is this plugin's and fits.
fn own(
    plugin: &str,
    declared: &manifest::Table,
    catalog: &mut Catalog,
    others: &[(&str, &manifest::Manifest)],
    configured: &dyn Fn(&str) -> bool,
    is_empty: &dyn Fn(&Table) -> anyhow::Result<bool>,
    now: Seq,
) -> Result<(), String> {
    let name = catalog_name(plugin, declared);
    let fresh = |id| Table {
        id,
        name: name.to_string(),
        generation: 0,
        origin: Origin::Derived {
            plugin: plugin.to_owned(),
        },
        columns: declared
            .columns
            .iter()
            .map(|column| Column {
                name: column.name.clone(),
                ty: Some(column.ty),
                nullable: column.nullable,
            })
            .collect(),
        key: declared.key.clone(),
        indexes: declared
            .indexes
            .iter()
            .map(|index| Index {
                columns: index.columns.clone(),
            })
            .collect(),
        mirror: true,
        stage: match rebuild::is_shadow(plugin) {
            true => Stage::Rebuilding,
            false => Stage::default(),
        },
    };
    let Some(existing) = catalog.by_name(&name).cloned() else {
        catalog.put(fresh(catalog.next_id()));
        return Ok(());
    };
    match &existing.origin {
        Origin::Derived { plugin: owner } if owner == plugin => {}
        Origin::Derived { plugin: owner } => {
            return Err(format!(
                "claims table {}, which belongs to plugin {owner}: a derived table has one owner; give it another name",
                declared.name
            ));
        }
        Origin::Source => {
            // A plugin that only reads the table may have come before the one that makes it.
            let made_by_readers = !configured(&declared.name)
                && is_empty(&existing).map_err(|error| error.to_string())?;
            if !made_by_readers {
                return Err(format!(
                    "claims table {}, whose rows come from a source: give the derived table another name",
                    declared.name
                ));
            }
            let made = fresh(existing.id);
            let key_of = |table: &Table| -> Vec<(String, Option<ColumnType>)> {
                let columns = table.key_columns();
                columns.map(|(_, c)| (c.name.clone(), c.ty)).collect()
            };
            if key_of(&existing) == key_of(&made) {
                catalog.put(claimed(&existing, made, others)?);
            } else {
                catalog.put(rebuild::dropped(&existing));
                let since = now.0;
                catalog.put(Table {
                    id: catalog.next_id(),
                    stage: Stage::Serving { since },
                    ..made
                });
            }
            return Ok(());
        }
    }
    catalog.put(widened(plugin, declared, &existing)?);
    Ok(())
}

/// A table that only readers had so far, as its owner makes it. Its dictionary grows by what is new: rows of before, from outside
/// and gone again, are still in the log, parked, or what a rule last saw.
fn claimed(
    existing: &Table,
    made: Table,
    others: &[(&str, &manifest::Manifest)],
) -> Result<Table, String> {
    for (other, manifest) in others {
        let mut tables = manifest.tables.iter();
        let Some(read) = tables.find(|table| table.name == made.name) else {
            continue;
        };
        let is_made = |name: &str| name == WHOLE_ROW || made.column(name).is_some();
        if let Some(column) = read.columns.iter().find(|column| !is_made(&column.name)) {
            return Err(format!(
                "would break plugin {other}: {}",
                has_no_column(&column.name, &made.name)
            ));
        }
    }
    let mut columns = existing.columns.clone();
    for column in &mut columns {
        // What the owner doesn't make is null from now on.
        column.nullable = true;
    }
    let places: Vec<ColumnId> = made
        .columns
        .iter()
        .map(|column| {
            let known = columns.iter().position(|known| known.name == column.name);
            let place = known.unwrap_or(columns.len());
            match columns.get_mut(place) {
                Some(known) => *known = column.clone(),
                None => columns.push(column.clone()),
            }
            place as ColumnId
        })
        .collect();
    let placed = |ids: &[ColumnId]| ids.iter().map(|&id| places[usize::from(id)]).collect();
    Ok(Table {
        columns,
        key: placed(&made.key),
        indexes: made
            .indexes
            .iter()
            .map(|index| Index {
                columns: placed(&index.columns),
            })
            .collect(),
        ..made
    })
}

fn has_no_column(column: &str, table: &str) -> String {
    format!("reads column {column} of table {table}, which has none of that name")
}

/// The existing table with the optional columns that a new version of its plugin adds.
fn widened(plugin: &str, declared: &manifest::Table, existing: &Table) -> Result<Table, String> {
    let refuse = |what: String| {
        Err(format!(
            "table {}: {what}; the rows there were made otherwise: `rulemill rebuild {plugin}` makes them again from a snapshot of what they come from (or give the table another name, or keep it as it was)",
            declared.name
        ))
    };
    let mut table = existing.clone();
    for column in &declared.columns {
        match existing.column(&column.name) {
            Some((_, have)) if have.ty != Some(column.ty) || have.nullable != column.nullable => {
                return refuse(format!(
                    "column {} was {}{} and would become {}{}",
                    column.name,
                    have.ty.map_or("untyped", |ty| ty.name()),
                    if have.nullable { " or null" } else { "" },
                    column.ty,
                    if column.nullable { " or null" } else { "" },
                ));
            }
            Some(_) => {}
            None if column.nullable => table.columns.push(Column {
                name: column.name.clone(),
                ty: Some(column.ty),
                nullable: true,
            }),
            None => {
                return refuse(format!(
                    "column {} is new and not optional, so the rows there have no value for it",
                    column.name
                ));
            }
        }
    }
    for column in &existing.columns {
        if !column.nullable && !declared.columns.iter().any(|c| c.name == column.name) {
            return refuse(format!("column {} is gone", column.name));
        }
    }
    let key: Vec<_> = existing
        .key_columns()
        .map(|(_, column)| column.name.as_str())
        .collect();
    if key != key_names(declared) {
        return refuse(format!(
            "its key was ({}) and would become ({})",
            key.join(", "),
            key_names(declared).join(", ")
        ));
    }
    let have: Vec<Vec<&str>> = existing
        .indexes
        .iter()
        .map(|index| {
            index
                .columns
                .iter()
                .map(|&id| existing.columns[usize::from(id)].name.as_str())
                .collect()
        })
        .collect();
    for index in &declared.indexes {
        let columns = index_columns(declared, index);
        if !have.contains(&columns) {
            return refuse(format!("an index on {} is new", columns.join(", ")));
        }
    }
    Ok(table)
}

/// Makes or checks a table that the plugin only reads.
fn read(
    plugin: &str,
    declared: &manifest::Table,
    catalog: &mut Catalog,
    others: &[(&str, &manifest::Manifest)],
    configured: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let existing = catalog.by_name(&declared.name).cloned();
    let mut table = existing.as_deref().cloned().unwrap_or_else(|| Table {
        id: catalog.next_id(),
        name: declared.name.clone(),
        generation: 0,
        origin: Origin::Source,
        columns: Vec::new(),
        key: Vec::new(),
        indexes: Vec::new(),
        mirror: true,
        stage: Stage::default(),
    });
    for column in &declared.columns {
        if column.name == WHOLE_ROW {
            continue;
        }
        let is_key = key_names(declared).contains(&column.name.as_str());
        match table.columns.iter_mut().find(|c| c.name == column.name) {
            None if matches!(table.origin, Origin::Derived { .. }) => {
                return Err(has_no_column(&column.name, &declared.name));
            }
            None => table.columns.push(Column {
                name: column.name.clone(),
                ty: Some(column.ty),
                nullable: !is_key,
            }),
            Some(have) if matches!(table.origin, Origin::Derived { .. }) => {
                if have.ty != Some(column.ty) || (have.nullable && !column.nullable) {
                    return Err(format!(
                        "reads column {}.{} as {}{}, but its plugin made it {}{}",
                        declared.name,
                        column.name,
                        column.ty,
                        if column.nullable { " or null" } else { "" },
                        have.ty.map_or("untyped", |ty| ty.name()),
                        if have.nullable { " or null" } else { "" },
                    ));
                }
            }
            Some(have) => {
                if have.ty.is_some_and(|ty| ty != column.ty) {
                    let by = others.iter().find(|(_, other)| {
                        other.tables.iter().any(|table| {
                            table.name == declared.name
                                && table.columns.iter().any(|c| c.name == column.name)
                        })
                    });
                    let named_by = match by {
                        Some((other, _)) => Some(format!("plugin {other}")),
                        None if configured(&declared.name) => Some("[[table]]".to_owned()),
                        None => None,
                    };
                    if let Some(by) = named_by {
                        return Err(format!(
                            "{plugin} reads column {}.{} as {}, but {by} has it as {}: a column has one type",
                            declared.name,
                            column.name,
                            column.ty,
                            have.ty.map_or("untyped", |ty| ty.name()),
                        ));
                    }
                }
                have.ty = Some(column.ty);
                if is_key {
                    have.nullable = false;
                }
            }
        }
    }
    let key = key_names(declared);
    if table.key.is_empty() {
        table.key = key
            .iter()
            .filter_map(|name| table.column(name).map(|(id, _)| id))
            .collect();
    } else {
        let have: Vec<_> = table
            .key_columns()
            .map(|(_, column)| column.name.as_str())
            .collect();
        if have != key {
            return Err(format!(
                "says that the key of table {} is ({}), but it is ({})",
                declared.name,
                key.join(", "),
                have.join(", ")
            ));
        }
    }
    if existing.as_deref() != Some(&table) {
        catalog.put(table);
    }
    Ok(())
}

/// The levels of all rules of these plugins, in their order.
///
/// # Errors
/// If they form a cycle, by name.
pub(super) fn rule_levels(
    plugins: &[(&str, &manifest::Manifest, &[LinkedTable])],
    catalog: &Catalog,
) -> Result<Vec<Vec<LinkedRule>>, String> {
    let mut nodes = Vec::new();
    for (name, manifest, tables) in plugins {
        let first = nodes.len();
        let id = |place: &u16| tables[usize::from(*place)].id;
        let setters: Vec<usize> = (0..manifest.rules.len())
            .filter(|&place| manifest.rules[place].sets_timers)
            .map(|place| first + place)
            .collect();
        for rule in &manifest.rules {
            nodes.push(Node {
                name: format!("{name}.{}", rule.name),
                input: match &rule.input {
                    Input::Changes(table) => Some(id(table)),
                    Input::Timers => None,
                },
                lookups: rule.lookups.iter().map(id).collect(),
                writes: rule.writes.iter().map(id).collect(),
                not_before: match rule.input {
                    Input::Changes(_) => Vec::new(),
                    Input::Timers => setters.clone(),
                },
            });
        }
    }
    let levels = graph::levels(&nodes, |table| catalog.table(table).name.clone())
        .map_err(|cycle| cycle.to_string())?;
    let mut places = levels.into_iter().zip(nodes);
    Ok(plugins
        .iter()
        .map(|(_, manifest, _)| {
            manifest
                .rules
                .iter()
                .zip(places.by_ref())
                .map(|(rule, (level, node))| LinkedRule {
                    full_name: node.name.into(),
                    level,
                    input: match rule.input {
                        Input::Changes(table) => Some(table),
                        Input::Timers => None,
                    },
                })
                .collect()
        })
        .collect())
}
