//! Makes a new plugin crate: what `rulemill new` calls.
//!
//! The crate needs nothing but Rust and this binary: the SDK's sources come with it, in `vendor/`
//! ([`vendor`]). It brings a configuration and a few changes, so that the next commands already show
//! rows. Nothing that is there is overwritten; a directory that holds something is refused.

mod vendor;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The files of a new crate. `{{name}}` stands for the crate's name, `{{plugin}}` for the plugin's.
const TEMPLATE: [(&str, &str); 7] = [
    (
        "Cargo.toml",
        include_str!("../../templates/plugin/Cargo.toml.in"),
    ),
    (
        "README.md",
        include_str!("../../templates/plugin/README.md"),
    ),
    (
        ".gitignore",
        include_str!("../../templates/plugin/gitignore"),
    ),
    (
        "rulemill.toml",
        include_str!("../../templates/plugin/rulemill.toml"),
    ),
    (
        "inbox/orders.jsonl",
        include_str!("../../templates/plugin/inbox/orders.jsonl"),
    ),
    (
        "src/lib.rs",
        include_str!("../../templates/plugin/src/lib.rs"),
    ),
    (
        "src/tests.rs",
        include_str!("../../templates/plugin/src/tests.rs"),
    ),
];

/// Names that Rust or the crate itself needs.
const TAKEN_NAMES: [&str; 10] = [
    "alloc",
    "core",
    "inbox",
    "proc_macro",
    "rulemill_sdk",
    "rulemill_sdk_macros",
    "rulemill_wire",
    "std",
    "test",
    "vendor",
];

/// Rust's keywords, those that are reserved included.
const KEYWORDS: [&str; 51] = [
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while",
];

/// A crate that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The crate's name.
    pub name: String,
    /// Its directory, as it was given.
    pub dir: PathBuf,
}

/// What was made, and the next commands.
impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, dir } = self;
        writeln!(
            f,
            "made the plugin crate {name} in {}; next:\n",
            dir.display()
        )?;
        if dir != Path::new(".") {
            writeln!(f, "    cd {}", shell_word(dir))?;
        }
        write!(
            f,
            "    cargo test          # the rule, natively\n    \
             rulemill build      # plugins/{}.wasm\n    \
             rulemill run        # the daemon: inbox/ in, tables out",
            plugin_name(name)
        )
    }
}

/// Makes a plugin crate in `dir`, named like the directory.
///
/// # Errors
/// A directory that holds something, a name that no crate can have, files that can't be written.
pub fn create(dir: &Path) -> Result<Created> {
    let name = name_of(dir)?;
    refuse_occupied(dir)?;
    for (path, text) in TEMPLATE {
        let text = text
            .replace("{{name}}", &name)
            .replace("{{plugin}}", &plugin_name(&name))
            .replace("{{rust_version}}", env!("CARGO_PKG_RUST_VERSION"));
        write(dir, Path::new(path), &text)?;
    }
    for (path, text) in vendor::files()? {
        write(dir, &Path::new("vendor").join(path), &text)?;
    }
    Ok(Created {
        name,
        dir: dir.to_owned(),
    })
}

/// The plugin's name, which is its file's: cargo writes `_` for `-`.
fn plugin_name(name: &str) -> String {
    name.replace('-', "_")
}

fn write(dir: &Path, path: &Path, text: &str) -> Result<()> {
    let path = dir.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("can't make the directory {}", parent.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

fn refuse_occupied(dir: &Path) -> Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!(
                "{} is not empty: name a directory that is new or empty",
                dir.display()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("can't use {} as a directory", dir.display()))
        }
    }
}

fn name_of(dir: &Path) -> Result<String> {
    // `.` and `..` have their name from where they are.
    let full = match dir.file_name() {
        Some(_) => dir.to_owned(),
        None => {
            fs::canonicalize(dir).with_context(|| format!("can't resolve {}", dir.display()))?
        }
    };
    let Some(name) = full.file_name() else {
        bail!("{} has no name to give to a crate", dir.display());
    };
    let name = name.to_string_lossy().into_owned();
    check_name(&name)?;
    Ok(name)
}

fn check_name(name: &str) -> Result<()> {
    let mut characters = name.chars();
    let starts = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic());
    if !starts || !characters.all(|next| next.is_ascii_alphanumeric() || matches!(next, '-' | '_'))
    {
        bail!(
            "{name:?} is no crate name: name the directory with letters, digits, - and _, beginning with \
             a letter"
        );
    }
    let plugin = plugin_name(name);
    if KEYWORDS.contains(&plugin.as_str()) || TAKEN_NAMES.contains(&plugin.as_str()) {
        bail!(
            "{name:?} can't be a crate's name, since it means something else in Rust: choose another"
        );
    }
    Ok(())
}

/// A path as a shell takes it.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~+,:@%".contains(&byte);
    match text.bytes().all(plain) && !text.starts_with('-') {
        true => text,
        false => format!("-- '{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_crate_can_have_are_taken() {
        for name in ["shop", "order-totals", "a1", "My_rules"] {
            check_name(name).unwrap();
        }
        for name in ["", "1st", "-x", "my.rules", "my rules", "größe"] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(
                error.contains("letters, digits, - and _"),
                "{name}: {error}"
            );
        }
        for name in ["match", "test", "rulemill-sdk", "std"] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("choose another"), "{name}: {error}");
        }
    }

    #[test]
    fn a_directory_that_holds_something_stays_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("rules");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("notes"), "mine").unwrap();
        let error = create(&dir).unwrap_err().to_string();
        assert!(
            error.ends_with("is not empty: name a directory that is new or empty"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);

        let error = create(&dir.join("notes")).unwrap_err().to_string();
        assert!(error.contains("as a directory"), "{error}");
    }

    #[test]
    fn an_empty_directory_gets_a_crate_of_its_name() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("order-totals");
        fs::create_dir(&dir).unwrap();
        let created = create(&dir).unwrap();
        assert_eq!(created.name, "order-totals");
        let told = created.to_string();
        for line in [
            "cargo test ",
            "rulemill build ",
            "rulemill run ",
            "# plugins/order_totals.wasm",
        ] {
            assert!(told.contains(line), "{told}");
        }
        for (path, _) in TEMPLATE {
            let text = fs::read_to_string(dir.join(path)).unwrap();
            assert!(!text.contains("{{"), "{path}");
        }
        let manifest: toml::Table = fs::read_to_string(dir.join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("order-totals"));
        assert!(dir.join("vendor/rulemill-sdk/src/lib.rs").exists());
    }

    #[test]
    fn a_path_is_quoted_for_the_shell_where_it_needs_it() {
        assert_eq!(shell_word(Path::new("a/b-c")), "a/b-c");
        assert_eq!(shell_word(Path::new("it's here/x")), r"-- 'it'\''s here/x'");
    }
}
