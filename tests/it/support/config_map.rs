//! A folder that changes as kubelet changes a mounted ConfigMap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A mount. Each version has a folder of its own; `..data` leads to the newest, and a rename
/// puts the next one in its place.
#[derive(Debug)]
pub(crate) struct ConfigMap {
    folder: tempfile::TempDir,
    version: usize,
}

impl ConfigMap {
    pub(crate) fn new(text: &str) -> Self {
        let mut mount = Self { folder: tempfile::tempdir().unwrap(), version: 0 };
        mount.swap(text);
        symlink("..data/config.yaml", mount.file()).unwrap();
        mount
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    pub(crate) fn swap(&mut self, text: &str) {
        let at = |name: &str| self.folder.path().join(name);
        let before = fs::read_link(at("..data")).ok();
        self.version += 1;
        let fresh = format!("..2026_11_21_12_00_00.{:09}", self.version);
        fs::create_dir(at(&fresh)).unwrap();
        fs::write(at(&fresh).join("config.yaml"), text).unwrap();
        symlink(&fresh, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(self.folder.path().join(before)).unwrap();
        }
    }
}
