//! The demo's directory: configuration, plugin, input and data of one host.

use std::{
    fs::{self, File},
    io::BufWriter,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::guest_build::{self, BuildRequest};

/// Where a host listens unless told otherwise.
const PORT: u16 = 7700;

/// A directory that the demo made or found empty.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory and writes the host's configuration into it.
    pub(super) fn new(wanted: Option<&Path>, serve: bool) -> Result<Self> {
        let path = match wanted {
            Some(path) => {
                fs::create_dir_all(path)
                    .with_context(|| format!("can't make {}", path.display()))?;
                if fs::read_dir(path)?.next().is_some() {
                    bail!(
                        "{} is not empty: --dir names a new or an empty directory, so that nothing of yours is touched",
                        path.display()
                    );
                }
                path.canonicalize()?
            }
            // Kept, so that one can look around afterwards.
            None => tempfile::Builder::new()
                .prefix("rulemill-demo-")
                .tempdir()?
                .keep(),
        };
        let directory = Self { path };
        fs::create_dir(directory.path.join("inbox"))?;
        fs::write(directory.config(), configuration(port(serve)?))?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The host's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join("rulemill.toml")
    }

    fn input(&self) -> PathBuf {
        self.path.join("inbox/shop.jsonl")
    }

    pub(super) fn create_input(&self) -> Result<BufWriter<File>> {
        let path = self.input();
        let file =
            File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    }

    pub(super) fn open_input(&self) -> Result<File> {
        let path = self.input();
        File::open(&path).with_context(|| format!("can't read {}", path.display()))
    }

    /// Compiles the shipped shop plugin into the directory.
    pub(super) fn build_plugins(&self) -> Result<()> {
        guest_build::build(&BuildRequest {
            crates: vec![shipped_plugins()?.join("shop")],
            out: self.path.join("plugins"),
            quiet: false,
        })
        .context("building the shop plugin")?;
        Ok(())
    }
}

fn configuration(port: u16) -> String {
    format!(
        "# A shop's changes in, its derived tables out. Made by `rulemill demo`.\n\
         data_dir   = \"data\"\n\
         plugin_dir = \"plugins\"\n\
         \n\
         [http]\n\
         listen = \"127.0.0.1:{port}\"\n\
         \n\
         [[source]]\n\
         name = \"shop\"\n\
         kind = \"files\"\n\
         path = \"inbox\"\n"
    )
}

/// The usual port, or one that is free where another host has it.
fn port(serve: bool) -> Result<u16> {
    if !serve || TcpListener::bind(("127.0.0.1", PORT)).is_ok() {
        return Ok(PORT);
    }
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The directory of the shipped plugins' sources, in the checkout around the current directory, the
/// binary, or where the binary was built.
pub(super) fn shipped_plugins() -> Result<PathBuf> {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let places = [
        std::env::current_dir().ok(),
        std::env::current_exe().ok(),
        Some(built),
    ];
    let checkout = places
        .iter()
        .flatten()
        .flat_map(|place| place.ancestors())
        .find(|place| {
            place.join("plugins/shop/Cargo.toml").is_file()
                && place.join("sdk/Cargo.toml").is_file()
        });
    match checkout {
        Some(checkout) => Ok(checkout.join("plugins")),
        None => bail!(
            "the demo builds the shipped plugins from source and finds no plugins/shop/Cargo.toml above the \
             current directory: run it inside a checkout of Rulemill"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/shop");
        let made = Directory::new(Some(&path), false).unwrap();
        assert!(made.config().is_file() && path.join("inbox").is_dir());
        let error = Directory::new(Some(&path), false).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }

    #[test]
    fn the_shipped_plugins_are_found() {
        assert!(shipped_plugins().unwrap().join("shop/src/lib.rs").is_file());
    }
}
