//! The host's command, built with the tests so that they can run it.

fn main() -> std::process::ExitCode {
    rulemill::cli::main()
}
