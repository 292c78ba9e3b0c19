//! `pillion inject`: manifests in, manifests with the sidecar out.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::{complain, print};
use crate::inject::{Settings, Version};
use crate::manifest::{Edited, Task, change};
use crate::{cli, config};

/// Changes all files, and prints them only where all of them can be changed.
pub(super) fn run(asked: &cli::Inject) -> ExitCode {
    match all(asked) {
        Ok((edited, is_sound)) => {
            for note in &edited.notes {
                let _ = writeln!(io::stderr(), "pillion: {note}");
            }
            if is_sound {
                print(&edited.text);
                ExitCode::SUCCESS
            } else {
                complain("nothing is printed, because a pod cannot have its sidecar")
            }
        }
        Err(why) => complain(&why),
    }
}

fn all(asked: &cli::Inject) -> Result<(Edited, bool), String> {
    let settings = settings(asked)?;
    let server = match asked.kube_version.as_deref() {
        None => None,
        Some(text) => Some(Version::read(text).ok_or_else(|| {
            format!("--kube-version: `{text}` is no version such as 1.31 or v1.33.2")
        })?),
    };
    let task =
        if asked.uninject { Task::Uninject } else { Task::Inject { settings: &settings, server } };
    let standard_input = [Path::new("-").to_owned()];
    let files = if asked.files.is_empty() { &standard_input[..] } else { &asked.files };
    let mut whole = Edited::default();
    for file in files {
        let text = read(file)?;
        let edited = change(&text, task).map_err(|error| format!("{}:{error}", file.display()))?;
        if !whole.text.is_empty() && !edited.text.starts_with("---") {
            if !whole.text.ends_with('\n') {
                whole.text.push('\n');
            }
            whole.text.push_str("---\n");
        }
        whole.text.push_str(&edited.text);
        whole.notes.extend(edited.notes);
    }
    let is_sound = !whole.notes.iter().any(|note| note.is_error);
    Ok((whole, is_sound))
}

fn settings(asked: &cli::Inject) -> Result<Settings, String> {
    let mut settings = match &asked.config {
        Some(file) => read_settings(file)?,
        None => Settings::default(),
    };
    if let Some(image) = &asked.image {
        settings.image.clone_from(image);
    }
    Ok(settings)
}

/// Reads the injector's settings.
pub(super) fn read_settings(file: &Path) -> Result<Settings, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let values = config::read_yaml(&text).map_err(|error| {
        format!("{name}:{}:{}: not YAML: {}", error.place.0, error.place.1, error.what)
    })?;
    Settings::read(values).map_err(|what| format!("{name}: {what}"))
}

fn read(file: &Path) -> Result<String, String> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    read.map_err(|error| format!("{}: cannot be read: {error}", file.display()))
}
