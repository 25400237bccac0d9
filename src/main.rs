//! argv in, exit code out.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    k3arm::cli::run(std::env::args_os()).await
}
