//! The `rulemill` command, for the tests that run it: cargo builds a package's own binaries for its tests,
//! another package's it doesn't.

fn main() -> std::process::ExitCode {
    rulemill::cli::main()
}
