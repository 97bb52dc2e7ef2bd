//! The steps of an example, read from its `steps.txt`. An empty line or one that begins with `#` says
//! nothing.

/// One thing that a user does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// `plugin NAME from DIR`: compile the crate (its path from the checkout's root) and put it into the plugin
    /// directory as NAME; a daemon that runs takes it up.
    Plugin { name: String, from: String },
    /// `run once`: a batch run.
    RunOnce,
    /// `start`: a daemon, until it is ready.
    Start,
    /// `append FILE to PATH`: more lines for a source; a daemon that runs takes them.
    Append { file: String, to: String },
    /// `post FILE`: changes over HTTP.
    Post { file: String },
    /// `expect DIR`: the tables are those of its files, each named after its table.
    Expect { dir: String },
    /// `stop`: the daemon ends as it does on SIGTERM.
    Stop,
    /// `fresh`: throw the store away.
    Fresh,
}

/// Reads a file of steps.
pub(crate) fn read(text: &str) -> Vec<Step> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words {
                ["plugin", name, "from", from] => Step::Plugin {
                    name: name.into(),
                    from: from.into(),
                },
                ["run", "once"] => Step::RunOnce,
                ["start"] => Step::Start,
                ["append", file, "to", to] => Step::Append {
                    file: file.into(),
                    to: to.into(),
                },
                ["post", file] => Step::Post { file: file.into() },
                ["expect", dir] => Step::Expect { dir: dir.into() },
                ["stop"] => Step::Stop,
                ["fresh"] => Step::Fresh,
                _ => panic!("no step: {line}"),
            }
        })
        .collect()
}
