//! `rulemill tables`: which tables there are.

use super::{ConfigArg, Failure, JsonArg, access::Access, output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let tables = Access::open(&args.config)?.tables()?;
    if args.json.json {
        return Ok(output::json(&tables)?);
    }
    let rows = tables
        .tables
        .into_iter()
        .map(|table| {
            let columns: Vec<_> = table
                .columns
                .iter()
                .map(|column| match &column.ty {
                    Some(ty) => format!(
                        "{} {ty}{}",
                        column.name,
                        if column.nullable { "?" } else { "" }
                    ),
                    None => column.name.clone(),
                })
                .collect();
            vec![
                table.name,
                table
                    .plugin
                    .map_or(table.kind, |plugin| format!("derived by {plugin}")),
                table.key.join(", "),
                output::short(&columns.join(", "), 100),
            ]
        })
        .collect();
    Ok(output::table(
        &["TABLE", "KIND", "KEY", "COLUMNS"],
        rows,
        "no tables yet",
    )?)
}
