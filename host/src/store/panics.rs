//! Panics of the database, taken for the damage that they are.
//!
//! redb takes what it reads of its own pages for true and panics where that can't be, so over pages that contradict each other it
//! doesn't return errors only. Owns the judgement which panics those are, by the place in the code that raised them, and turns
//! them into [`Error::Damaged`] at the edges: where a thread of the host begins, a store is opened, or a command runs. They are not printed, as
//! whoever gets the error tells it, unless `RUST_BACKTRACE` asks to see where they come from. Any other panic is a bug, and goes on as if
//! nobody had looked.

use std::{
    any::Any,
    cell::Cell,
    env,
    panic::{self, AssertUnwindSafe},
    sync::{Once, OnceLock},
};

use super::Error;

/// The database's package: its folder is called so, with a version behind it where it comes from a registry.
const DATABASE: &str = "redb";

thread_local! {
    /// Whether somebody on this thread takes panics of the database.
    static TAKES: Cell<bool> = const { Cell::new(false) };
    /// Whether the latest panic of this thread was the database's.
    static IS_DATABASES: Cell<bool> = const { Cell::new(false) };
}

/// What the first panic of the database said. Later ones may be over locks that it left behind.
static FIRST: OnceLock<String> = OnceLock::new();

/// What a panic over a lock says that another panic has left behind.
const POISONED: &str = "PoisonError";

/// Does something with the store, and takes a panic of the database for damage. What it was done with is not to be used again but to
/// end: the database may have stopped in the middle.
///
/// # Errors
/// What `work` returns; [`Error::Damaged`] for a panic of the database.
pub fn despite_panics<T, E: From<Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    watch();
    let took = TAKES.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    TAKES.set(took);
    result.unwrap_or_else(|panic| {
        if !IS_DATABASES.get() {
            panic::resume_unwind(panic);
        }
        let what = message(&*panic);
        Err(Error::Damaged(format!("its pages contradict each other ({what})")).into())
    })
}

/// From now on notes of each panic whether it is the database's, as only a hook can see where it was raised.
fn watch() {
    static WATCHES: Once = Once::new();
    WATCHES.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location();
            let is_there = place.is_some_and(|place| is_of_database(place.file()));
            let is_databases = is_there && is_its_own(&text(panic.payload()));
            IS_DATABASES.set(is_databases);
            if !(is_databases && TAKES.get()) || wants_backtraces() {
                print(panic);
            }
        }));
    });
}

/// Whether a panic in the database's code is its own: a lock may have been left behind by somebody else's, which is a bug.
fn is_its_own(text: &str) -> bool {
    if !text.contains(POISONED) {
        FIRST.get_or_init(|| text.to_owned());
    }
    FIRST.get().is_some()
}

/// Whether a file is of the database's code: `[..]/redb-4.4.0/src/tree_store/btree.rs`, wherever packages lie.
fn is_of_database(file: &str) -> bool {
    let folders: Vec<&str> = file.split(['/', '\\']).collect();
    let root = folders.iter().rposition(|folder| *folder == "src");
    let package = root.and_then(|root| folders.get(root.checked_sub(1)?));
    package.is_some_and(|package| {
        let version = package.strip_prefix(DATABASE);
        version.is_some_and(|version| version.is_empty() || version.starts_with('-'))
    })
}

fn wants_backtraces() -> bool {
    env::var_os("RUST_BACKTRACE").is_some_and(|wanted| wanted != "0")
}

/// What a panic says, on one line. One over a lock that an earlier one has poisoned says what that did.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = text(panic);
    match FIRST.get() {
        Some(first) if text.contains(POISONED) => first.clone(),
        _ => text,
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_code_is_known_by_its_package() {
        for (file, expected) in [
            (
                "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/redb-4.4.0/src/tree_store/btree.rs",
                true,
            ),
            ("vendor/redb/src/db.rs", true),
            ("C:\\cargo\\registry\\src\\x\\redb-4.4.0\\src\\db.rs", true),
            ("host/src/store/reader.rs", false),
            ("/home/redb/src/rulemill/host/src/store/reader.rs", false),
            ("/packages/redbird-1.0.0/src/lib.rs", false),
            ("/rustc/0123/library/core/src/option.rs", false),
            ("src/main.rs", false),
            ("", false),
        ] {
            assert_eq!(is_of_database(file), expected, "{file}");
        }
    }

    #[test]
    fn a_panic_of_anybody_else_goes_on() {
        let caught = panic::catch_unwind(|| {
            let _ = despite_panics::<(), Error>(|| panic!("a bug"));
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"a bug"));
    }
}
