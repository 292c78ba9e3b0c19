//! The whole proxy over the loopback, beside what it could cost at best.
//!
//! `cargo bench --bench wire` starts a provider, two bare proxies on hyper, nginx where there is
//! one, and Pillion, drives them in turn and prints Markdown; `-- --help` says what can be asked.
//! Linux only. Every component is this binary again, in a process of its own.
//!
//! CPU per call is the steady figure. Latencies depend on where the kernel puts what, so that
//! they are shown for everything on one core, and for the gateway on a core of its own.

#[cfg(target_os = "linux")]
#[path = "wire/compare.rs"]
mod compare;
#[cfg(target_os = "linux")]
#[path = "wire/floor.rs"]
mod floor;
#[cfg(target_os = "linux")]
#[path = "wire/footprint.rs"]
mod footprint;
#[cfg(target_os = "linux")]
#[path = "wire/http.rs"]
mod http;
#[cfg(target_os = "linux")]
#[path = "wire/load.rs"]
mod load;
#[cfg(target_os = "linux")]
#[path = "wire/mock.rs"]
mod mock;
#[cfg(target_os = "linux")]
#[path = "wire/process.rs"]
mod process;
#[cfg(target_os = "linux")]
#[path = "wire/report.rs"]
mod report;
#[cfg(target_os = "linux")]
#[path = "wire/round.rs"]
mod round;
#[cfg(target_os = "linux")]
#[path = "wire/target.rs"]
mod target;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    compare::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
