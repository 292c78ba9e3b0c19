//! `pillion`: see `pillion --help`, and [`pillion`] for the map of the house.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pillion::app::run(pillion::cli::Cli::parse())
}
