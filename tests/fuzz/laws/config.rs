//! A configuration is served or refused for a reason that points into the file.

use pillion::config::{self, Problem};

/// The reading of a configuration file, without any environment.
pub fn config(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("there is room for a file");
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, bytes).expect("a file can be written");
    let told = config::check(&path, &|_| None);
    assert_eq!(config::check(&path, &|_| None), told, "it is told the same twice");
    let problems = match config::load(&path.clone().into(), &|_| None) {
        Ok(loaded) => {
            assert!(!told.iter().any(Problem::is_fatal), "{told:#?}");
            loaded.warnings
        }
        Err(problems) => {
            assert!(problems.iter().any(Problem::is_fatal), "{problems:#?}");
            problems
        }
    };
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    for problem in told.iter().chain(&problems) {
        assert!(!problem.what.is_empty());
        // The end may count as a line, and YAML knows more breaks of lines than these.
        assert!(problem.line <= lines + 1 + bytes.len() / 2, "{problem}");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = config::load_text(text, "memory", &|_| None);
    }
}
