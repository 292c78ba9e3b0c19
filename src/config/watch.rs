//! Watching the files of a configuration and loading them again when they change.
//!
//! Promises that what is served is the last content that could be served, and that [`Status`]
//! says whether that is what is on the disk. Watches directories, never files: a ConfigMap is
//! swapped by renaming a symbolic link, and a watch on the file sees that once and never again.
//! Events are hints to look; what counts is the hash of the content. Where no events come, a
//! slow poll finds the change. Publishing is left to the caller.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::source::{Files, Source};
use super::{Loaded, Problem, last_good};
use crate::lexicon::time::unix_now;

/// Loads the file; in earnest, [`load`](super::load) with the environment of the process.
pub type Load = Arc<dyn Fn(&Files) -> Result<Loaded, Vec<Problem>> + Send + Sync>;

/// What is watched, and how.
#[derive(Clone)]
pub struct Watch {
    /// The files.
    pub files: Files,
    /// How it is loaded; called on a blocking thread.
    pub load: Load,
    /// Where the last good configuration is kept, if anywhere.
    pub state_dir: Option<PathBuf>,
    /// How long events gather before the files are looked at; 300 ms by default.
    pub settle: Duration,
    /// How often the files are looked at without an event; 15 s by default.
    pub poll: Duration,
}

impl Watch {
    /// Watches the files with the default pace and keeps nothing.
    pub fn new(files: impl Into<Files>, load: Load) -> Self {
        let (settle, poll) = (Duration::from_millis(300), Duration::from_secs(15));
        Self { files: files.into(), load, state_dir: None, settle, poll }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What is served and what is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The generation that is served.
    pub loaded_generation: u64,
    /// The hash of the content that is served.
    pub loaded_hash: String,
    /// The hash of the content on the disk; `None` where there is nothing to read.
    pub disk_hash: Option<String>,
    /// Whether they are the same.
    pub in_sync: bool,
    /// Why the content on the disk is not served.
    pub last_error: Option<String>,
    /// When the content that is served was loaded.
    pub last_success_unix: u64,
    /// How often changed content was taken up.
    pub reloads: u64,
    /// How often changed content was refused.
    pub refusals: u64,
}

impl Status {
    /// The status of a sidecar that waits for a configuration which can be served.
    pub fn awaiting(why: String) -> Self {
        Self { last_error: Some(why), ..Self::default() }
    }

    /// Whether anything is served.
    pub const fn is_awaiting(&self) -> bool {
        self.loaded_generation == 0
    }

    /// The status right after the first load.
    pub fn of(loaded: &Loaded) -> Self {
        Self {
            loaded_generation: loaded.snapshot.generation,
            loaded_hash: loaded.snapshot.hash.to_string(),
            disk_hash: Some(loaded.snapshot.hash.to_string()),
            in_sync: true,
            last_error: None,
            last_success_unix: unix_now().as_secs(),
            reloads: 0,
            refusals: 0,
        }
    }
}

/// Watches until it is dropped. `status` holds [`Status::of`] the first load; `publish` gets every
/// later one, its generation counted up.
///
/// Cancel safety: dropped midway, a change is not published; the next start loads it.
pub async fn run(
    watch: Watch,
    status: watch::Sender<Status>,
    mut publish: impl FnMut(Loaded) + Send,
) {
    let stirred = Arc::new(Notify::new());
    let mut watcher = watcher(&stirred);
    let mut tried = None;
    loop {
        let seen = look(&watch).await;
        if let Some(watcher) = &mut watcher {
            follow(watcher, &seen.folders);
        }
        if seen.hash.is_none() || seen.hash != tried {
            tried = consider(&watch, seen, &status, &mut publish).await;
        }
        tokio::select! {
            () = stirred.notified() => tokio::time::sleep(watch.settle).await,
            () = tokio::time::sleep(watch.poll) => {}
        }
    }
}

/// What is on the disk.
struct Seen {
    hash: Option<String>,
    folders: BTreeSet<PathBuf>,
}

async fn look(watch: &Watch) -> Seen {
    let files = watch.files.clone();
    let looked = spawn_blocking(move || {
        let (source, _) = Source::read_all(&files);
        let folder = |path: &Path| match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let mut folders: BTreeSet<_> = source.files.iter().map(|file| folder(&file.path)).collect();
        folders.extend(files.overlay.as_deref().map(folder));
        folders.extend(files.keys);
        Seen { hash: files.path.is_file().then_some(source.hash), folders }
    });
    looked.await.unwrap_or_else(|_| Seen { hash: None, folders: BTreeSet::new() })
}

/// Looks at changed content; returns the hash that need not be tried again.
async fn consider(
    watch: &Watch,
    seen: Seen,
    status: &watch::Sender<Status>,
    publish: &mut (impl FnMut(Loaded) + Send),
) -> Option<String> {
    let Some(hash) = seen.hash else {
        refuse(status, None, format!("{} is not there", watch.files.path.display()));
        return None;
    };
    if status.borrow().loaded_hash == hash {
        keep(watch, &hash).await;
        status.send_modify(|status| {
            status.disk_hash = Some(hash.clone());
            status.in_sync = true;
            status.last_error = None;
        });
        return Some(hash);
    }
    let (load, files) = (Arc::clone(&watch.load), watch.files.clone());
    match spawn_blocking(move || load(&files)).await {
        Ok(Ok(loaded)) => Some(accept(watch, loaded, status, publish).await),
        Ok(Err(problems)) => {
            let first = problems.iter().find(|problem| problem.is_fatal()).or(problems.first());
            let why = first.map_or_else(|| "it cannot be used".to_owned(), Problem::to_string);
            refuse(status, Some(hash.clone()), why);
            Some(hash)
        }
        Err(error) => {
            refuse(status, Some(hash.clone()), format!("loading it ended early: {error}"));
            Some(hash)
        }
    }
}

async fn accept(
    watch: &Watch,
    mut loaded: Loaded,
    status: &watch::Sender<Status>,
    publish: &mut (impl FnMut(Loaded) + Send),
) -> String {
    let generation = status.borrow().loaded_generation + 1;
    loaded.snapshot.generation = generation;
    let hash = loaded.snapshot.hash.to_string();
    let (reloads, refusals) = (status.borrow().reloads + 1, status.borrow().refusals);
    let fresh = Status { reloads, refusals, ..Status::of(&loaded) };
    info!(generation, hash = %hash, "configuration loaded");
    publish(loaded);
    keep(watch, &hash).await;
    status.send_replace(fresh);
    hash
}

fn refuse(status: &watch::Sender<Status>, disk_hash: Option<String>, why: String) {
    let known = status.borrow().last_error.as_deref() == Some(&why);
    if !known {
        warn!(error = %why, "configuration refused; the last good one stays");
    }
    status.send_modify(|status| {
        status.disk_hash = disk_hash;
        status.in_sync = false;
        status.last_error = Some(why);
        status.refusals += u64::from(!known);
    });
}

async fn keep(watch: &Watch, hash: &str) {
    let Some(folder) = watch.state_dir.clone() else { return };
    let (files, hash) = (watch.files.clone(), hash.to_owned());
    let kept = spawn_blocking(move || last_good::keep(&files, &folder, &hash)).await;
    if let Ok(Err(error)) = kept {
        warn!(%error, "the last good configuration is not kept");
    }
}

fn watcher(stirred: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let stirred = Arc::clone(stirred);
    let made = notify::recommended_watcher(move |event| {
        if may_change(&event) {
            stirred.notify_one();
        }
    });
    made.map_err(|error| warn!(%error, "no file events; changes are found by polling")).ok()
}

/// Whether content may have changed: any event says so, errors too, for what happened is for the
/// content to say. Only reading changes nothing, and our own looks are reads: each would lead to
/// the next one.
fn may_change(event: &notify::Result<Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(access)) => access == AccessKind::Close(AccessMode::Write),
        Ok(_) | Err(_) => true,
    }
}

/// Watches the folders. Repeated at every look, because a folder may have been another one then.
fn follow(watcher: &mut RecommendedWatcher, folders: &BTreeSet<PathBuf>) {
    for folder in folders {
        // A folder that is not there cannot be watched; the poll finds it when it comes.
        let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::config_map::ConfigMap;
    use std::fs;

    fn retries(number: u32) -> String {
        format!("router_settings:\n  num_retries: {number}\n")
    }

    fn load() -> Load {
        Arc::new(|files| crate::config::load(files, &|_| None))
    }

    /// Waits until the status is as wanted; bounded, and by its changes alone.
    async fn until(status: &mut watch::Receiver<Status>, want: impl Fn(&Status) -> bool) -> Status {
        let found = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|it| want(it)));
        found.await.expect("the status in time").expect("a watcher").clone()
    }

    /// Runs `story` beside a watcher whose poll is as slow as told.
    async fn with_watcher<F: Future>(
        watch: Watch,
        story: impl FnOnce(watch::Receiver<Status>) -> F,
    ) -> Vec<u64> {
        let first = (watch.load)(&watch.files).unwrap();
        let (sender, receiver) = watch::channel(Status::of(&first));
        let mut published = Vec::new();
        tokio::select! {
            () = run(watch, sender, |loaded| published.push(loaded.snapshot.generation)) => {}
            _ = story(receiver) => {}
        }
        published
    }

    fn by_events(path: PathBuf) -> Watch {
        let settle = Duration::from_millis(20);
        Watch { settle, poll: Duration::from_secs(3600), ..Watch::new(path, load()) }
    }

    fn by_polling(path: PathBuf) -> Watch {
        Watch { poll: Duration::from_millis(20), ..by_events(path) }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_swap_of_a_config_map_is_seen_and_a_broken_one_changes_nothing() {
        let mut mount = ConfigMap::new(&retries(1));
        let published = with_watcher(by_polling(mount.file()), async |mut status| {
            for number in 2..5 {
                mount.swap(&retries(number));
                until(&mut status, |it| it.loaded_generation == u64::from(number)).await;
            }
            mount.swap("router_settings: [");
            let broken = until(&mut status, |it| !it.in_sync).await;
            assert_eq!(broken.loaded_generation, 4);
            assert!(broken.last_error.unwrap().contains("not YAML"));
            mount.swap(&retries(9));
            let mended = until(&mut status, |it| it.loaded_generation == 5).await;
            assert!(mended.in_sync && mended.last_error.is_none());
        })
        .await;
        assert_eq!(published, [2, 3, 4, 5]);
    }

    #[test]
    fn a_look_does_not_lead_to_the_next_one() {
        use notify::event::{CreateKind, ModifyKind, RenameMode};
        let check = |kind: EventKind, want: bool| {
            assert_eq!(may_change(&Ok(Event::new(kind))), want, "{kind:?}");
        };
        check(EventKind::Access(AccessKind::Open(AccessMode::Any)), false);
        check(EventKind::Access(AccessKind::Close(AccessMode::Read)), false);
        check(EventKind::Access(AccessKind::Close(AccessMode::Write)), true);
        check(EventKind::Create(CreateKind::Folder), true);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::Both)), true);
        assert!(may_change(&Err(notify::Error::generic("queue overflow"))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_alone_tell_of_every_swap() {
        let mut mount = ConfigMap::new(&retries(1));
        let mut watch = by_events(mount.file());
        let kept = tempfile::tempdir().unwrap();
        watch.state_dir = Some(kept.path().to_owned());
        with_watcher(watch, async |mut status| {
            // The watch is in place once the first look has kept what is served.
            status.changed().await.unwrap();
            for number in 2..6 {
                mount.swap(&retries(number));
                until(&mut status, |it| it.loaded_generation == u64::from(number)).await;
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deleted_file_leaves_the_last_good_one_and_its_return_is_no_reload() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, retries(1)).unwrap();
        let published = with_watcher(by_polling(path.clone()), async |mut status| {
            fs::remove_file(&path).unwrap();
            let gone = until(&mut status, |it| !it.in_sync).await;
            assert_eq!((gone.disk_hash, gone.loaded_generation), (None, 1));
            fs::write(folder.path().join("fresh"), retries(1)).unwrap();
            fs::rename(folder.path().join("fresh"), &path).unwrap();
            until(&mut status, |it| it.in_sync && it.last_error.is_none()).await;
        })
        .await;
        assert_eq!(published, [0; 0]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_of_an_included_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(&path, "include: [sub/more.yaml]\n").unwrap();
        fs::write(folder.path().join("sub/more.yaml"), retries(1)).unwrap();
        with_watcher(by_events(path), async |mut status| {
            status.changed().await.unwrap();
            fs::write(folder.path().join("sub/fresh"), retries(2)).unwrap();
            fs::rename(folder.path().join("sub/fresh"), folder.path().join("sub/more.yaml"))
                .unwrap();
            until(&mut status, |it| it.loaded_generation == 2).await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_key_that_is_rotated_and_an_overlay_that_comes_are_taken_up_by_events_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["config", "overlay", "keys"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("config/config.yaml"), "general_settings: {master_key: os.environ/KEY}\n")
            .unwrap();
        fs::write(at("keys/KEY"), "sk-1").unwrap();
        let keys = at("keys");
        let load: Load = Arc::new(move |files| {
            crate::config::load(files, &|name| crate::config::from_folder(&keys, name))
        });
        let files = Files {
            path: at("config/config.yaml"),
            overlay: Some(at("overlay/overlay.yaml")),
            keys: Some(at("keys")),
        };
        let watch = Watch { files: files.clone(), load, ..by_events(PathBuf::new()) };
        let swap = |text: &str, path: PathBuf| {
            fs::write(at("fresh"), text).unwrap();
            fs::rename(at("fresh"), path).unwrap();
        };
        let served = std::sync::Mutex::new(Vec::new());
        let (sender, mut status) = watch::channel(Status::of(&(watch.load)(&files).unwrap()));
        tokio::select! {
            () = run(watch, sender, |loaded| {
                served.lock().unwrap().push(loaded.snapshot.master_key.unwrap().reveal().to_owned());
            }) => {}
            () = async {
                status.changed().await.unwrap();
                swap("sk-2", at("keys/KEY"));
                until(&mut status, |it| it.loaded_generation == 2).await;
                swap(&retries(3), at("overlay/overlay.yaml"));
                until(&mut status, |it| it.loaded_generation == 3).await;
            } => {}
        }
        assert_eq!(*served.lock().unwrap(), ["sk-2", "sk-2"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_good_one_is_kept_without_secrets_and_served_when_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let path = folder.path().join("config.yaml");
        let text = "general_settings:\n  master_key: os.environ/THE_KEY\n";
        fs::write(&path, text).unwrap();
        let environment = |name: &str| (name == "THE_KEY").then(|| "sk-secret".to_owned());
        let load: Load = Arc::new(move |files| crate::config::load(files, &environment));
        let mut watch = Watch { load, ..by_polling(path.clone()) };
        watch.state_dir = Some(state.clone());
        with_watcher(watch, async |mut status| {
            fs::write(folder.path().join("fresh"), format!("{text}# again\n")).unwrap();
            fs::rename(folder.path().join("fresh"), &path).unwrap();
            until(&mut status, |it| it.loaded_generation == 2).await;
            fs::remove_file(&path).unwrap();
            until(&mut status, |it| it.disk_hash.is_none()).await;
        })
        .await;
        let kept = fs::read_to_string(state.join("last-good.yaml")).unwrap();
        assert!(kept.contains("os.environ/THE_KEY") && !kept.contains("sk-secret"), "{kept}");
        let path = Files::from(path);
        let served = crate::config::load_or_last_good(&path, Some(&state), &environment).unwrap();
        assert_eq!(served.snapshot.master_key.unwrap().reveal(), "sk-secret");
        assert!(served.warnings[0].is_error(), "{:?}", served.warnings);
        assert!(crate::config::load_or_last_good(&path, None, &environment).is_err());
    }
}
