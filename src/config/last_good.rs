//! The last configuration that could be served, kept on disk for a start without the real one.
//!
//! Kept is the joined document as it was written, references unresolved: no key that was not in
//! the file itself ever reaches the disk. Written whole or not at all, readable by its owner only.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::raw;
use super::source::{Files, Source};

/// Where it is below the state directory.
pub(super) fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("last-good.yaml")
}

/// Keeps the file with all that is joined to it, if its hash is still the one that was loaded; a
/// crash midway leaves the one before.
pub(super) fn keep(files: &Files, state_dir: &Path, hash: &str) -> io::Result<()> {
    let (source, problems) = Source::read_all(files);
    if source.hash != hash || problems.iter().any(super::Problem::is_fatal) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it changed while it was kept"));
    }
    let text = raw::write(&Value::Object(source.root))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it cannot be written"))?;
    std::fs::create_dir_all(state_dir)?;
    let fresh = state_dir.join(format!(".last-good.{}.tmp", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(&fresh)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&fresh, file(state_dir))
}
