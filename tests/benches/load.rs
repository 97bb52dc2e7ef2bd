//! How long a plugin takes from its file's appearance to its rules being live.
//!
//! `cargo bench -p rulemill-tests --bench load [-- ROUNDS]`
//!
//! A host runs with an empty plugin directory; each round the shop plugin is moved in under the same name with
//! other bytes, so that it is compiled anew, and the clock runs until the host says that just these bytes run. The first
//! round loads, the others replace. What `limits.plugin_debounce_ms` waits for is in it, and printed beside.

#![allow(missing_docs)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rulemill::{
    config::Config,
    daemon::{Host, Options},
    guest_build::{self, BuildRequest},
    rule,
};

/// No load takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok());
    let rounds: u32 = rounds.unwrap_or(15);
    let dir = tempfile::Builder::new()
        .prefix("rulemill-load-")
        .tempdir()?;
    let built = dir.path().join("built");
    guest_build::build(&BuildRequest {
        crates: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/shop")],
        out: built.clone(),
        quiet: true,
    })?;
    let code = std::fs::read(built.join("shop.wasm"))?;
    let file = dir.path().join("rulemill.toml");
    std::fs::write(
        &file,
        "data_dir = \"data\"\nplugin_dir = \"plugins\"\n[http]\nenabled = false\n",
    )?;
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins)?;
    let config = Config::load(&file)?;
    let debounce = config.limits.plugin_debounce_ms;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let host = tokio::task::spawn_blocking(move || Host::start(config, Options::default()))
            .await??;
        let mut times = Vec::new();
        for round in 0..rounds {
            let code = with_section(&code, round);
            let hash = rule::hash(&code).to_string();
            let aside = dir.path().join("aside");
            std::fs::write(&aside, &code)?;
            let began = Instant::now();
            std::fs::rename(&aside, plugins.join("shop.wasm"))?;
            loop {
                let changed = host.handle.board.changed();
                let status = host.handle.board.load();
                let plugin = status.plugins.get("shop");
                if let Some(reason) = plugin.and_then(|plugin| plugin.refused.as_ref()) {
                    bail!("refused: {reason}");
                }
                let runs = status
                    .rules
                    .values()
                    .all(|rule| rule.status == "running");
                if runs && plugin.is_some_and(|plugin| plugin.hash.as_ref() == Some(&hash)) {
                    break;
                }
                tokio::time::timeout(PATIENCE, changed)
                    .await
                    .context("the plugin didn't come to run")?;
            }
            times.push(began.elapsed());
        }
        host.stop("measured").await?;
        let first = times[0];
        times.sort();
        println!(
            "shop.wasm, {} KB, {rounds} rounds: first {first:.0?}, median {:.0?}, longest {:.0?}; {debounce} ms of it are plugin_debounce_ms",
            code.len() / 1000,
            times[times.len() / 2],
            times[times.len() - 1],
        );
        Ok(())
    })
}

/// The same code with a custom section behind it.
fn with_section(code: &[u8], round: u32) -> Vec<u8> {
    let mut code = code.to_vec();
    // Custom section: its id, its length, its name with length, its content.
    code.extend_from_slice(&[0, 10, 5]);
    code.extend_from_slice(b"round");
    code.extend_from_slice(&round.to_le_bytes());
    code
}
