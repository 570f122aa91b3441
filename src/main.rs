//! The program: arguments and environment in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder::cli::run(std::env::args_os(), std::env::vars_os())
}
