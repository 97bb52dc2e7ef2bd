//! Puts a built plugin in place, whole or not at all.
//!
//! A daemon may be watching the directory: a half-written file would be a refused plugin, and a file
//! written again without need a reload. So it is written aside and renamed, and left alone where the
//! bytes are the same.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};

use super::BuiltPlugin;

/// Copies `artifact` to `out/NAME.wasm`.
pub(super) fn put(artifact: &Path, name: &str, out: &Path) -> Result<BuiltPlugin> {
    let code = fs::read(artifact).with_context(|| format!("can't read {}", artifact.display()))?;
    fs::create_dir_all(out)
        .with_context(|| format!("can't make the directory {}", out.display()))?;
    let path = out.join(format!("{name}.wasm"));
    // Unreadable is as good as different: the write below says what is wrong.
    let changed = !fs::read(&path).is_ok_and(|present| present == code);
    if changed {
        replace(&path, &code, out).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(BuiltPlugin {
        name: name.to_owned(),
        path,
        bytes: code.len() as u64,
        changed,
    })
}

fn replace(path: &Path, code: &[u8], directory: &Path) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    // The ending keeps it out of the watcher's sight.
    builder.prefix(".").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file (the umask still applies); the default would be private to the builder.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(directory)?;
    file.write_all(code)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_replaced_only_where_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let artifact = directory.path().join("artifact");
        let out = directory.path().join("new/plugins");
        let put = |code: &[u8]| {
            fs::write(&artifact, code).unwrap();
            put(&artifact, "shop", &out).unwrap()
        };
        let first = put(b"one");
        assert_eq!((first.changed, first.bytes), (true, 3));
        assert_eq!(first.path, out.join("shop.wasm"));
        let stamp = || fs::metadata(&first.path).unwrap().modified().unwrap();
        let before = stamp();
        assert!(!put(b"one").changed);
        assert_eq!(stamp(), before);
        assert!(put(b"other").changed);
        assert_eq!(fs::read(&first.path).unwrap(), b"other");
        let names: Vec<_> = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["shop.wasm"], "nothing may be left beside it");
    }
}
