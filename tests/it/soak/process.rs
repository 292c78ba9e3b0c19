//! What the system says about the sidecar's process.

use std::fs;

/// Memory and open files at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) resident_kib: u64,
    pub(crate) files: usize,
}

impl Process {
    pub(crate) fn read(id: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident_kib = line.trim().trim_end_matches(" kB").parse().unwrap();
        let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
        Self { resident_kib, files }
    }
}
