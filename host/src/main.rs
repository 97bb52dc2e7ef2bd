//! The `rulemill` command.

fn main() -> std::process::ExitCode {
    rulemill::cli::main()
}
