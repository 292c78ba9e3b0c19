//! `pillion`: see `pillion --help`, and [`pillion`] for the map of the house.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    pillion::app::run(pillion::cli::Cli::parse())
}
