//! A guest's panic as people read it: what it says first, then where, without the paths of whoever built it.

/// `panicked at PLACE:\nMESSAGE`, as Rust's panic hook has it, as `MESSAGE (panicked at PLACE)`; any other text as it is.
pub(super) fn readable(text: &str) -> String {
    let split = text
        .strip_prefix("panicked at ")
        .and_then(|rest| rest.split_once(":\n"));
    match split {
        Some((place, message)) if !message.trim().is_empty() => {
            format!("{} (panicked at {})", message.trim_end(), short(place))
        }
        Some((place, _)) => format!("panicked at {}", short(place)),
        None => text.to_owned(),
    }
}

/// A place in a source file, from its crate's folder on. Relative paths stay as they are.
fn short(place: &str) -> String {
    let place = place.replace('\\', "/");
    let absolute = place.starts_with('/') || place.get(1..3) == Some(":/");
    if !absolute {
        return place;
    }
    if let Some((_, library)) = place.split_once("/library/")
        && place.starts_with("/rustc/")
    {
        return library.to_owned();
    }
    let parts: Vec<&str> = place.split('/').collect();
    let from = match parts.iter().rposition(|part| *part == "src") {
        // Of a registry only the crate's own folders are left.
        Some(src) => match parts.iter().position(|part| *part == "registry") {
            Some(registry) if registry + 3 < parts.len() && parts[registry + 1] == "src" => {
                registry + 3
            }
            _ => src.saturating_sub(1),
        },
        None => parts.len() - 1,
    };
    parts[from..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(readable(text), expected);
    }

    #[test]
    fn the_message_comes_before_the_place() {
        check(
            "panicked at src/lib.rs:20:84:\nno driver 279",
            "no driver 279 (panicked at src/lib.rs:20:84)",
        );
        check(
            "panicked at src/lib.rs:1:2:\nassertion failed\n  left: 1\n right: 2\n",
            "assertion failed\n  left: 1\n right: 2 (panicked at src/lib.rs:1:2)",
        );
        check(
            "panicked at src/lib.rs:1:2:\n",
            "panicked at src/lib.rs:1:2",
        );
        check("there is no seventh day", "there is no seventh day");
        check("panicked at", "panicked at");
    }

    #[test]
    fn a_builders_folders_are_left_out() {
        for (place, expected) in [
            (
                "/home/ann/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rust_decimal-1.37.0/src/ops/mul.rs:3:5",
                "rust_decimal-1.37.0/src/ops/mul.rs:3:5",
            ),
            (
                "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/core/src/option.rs:1:2",
                "core/src/option.rs:1:2",
            ),
            ("/home/ann/fleet/src/trips.rs:7:1", "fleet/src/trips.rs:7:1"),
            (
                "C:\\Users\\ann\\fleet\\src\\lib.rs:7:1",
                "fleet/src/lib.rs:7:1",
            ),
            ("/lib.rs:7:1", "lib.rs:7:1"),
            ("/src/lib.rs:7:1", "/src/lib.rs:7:1"),
            ("/", ""),
        ] {
            check(
                &format!("panicked at {place}:\nno"),
                &format!("no (panicked at {expected})"),
            );
        }
    }
}
