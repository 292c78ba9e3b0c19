//! Other processes: started on one core, read from `/proc`, ended by their own id.
//!
//! Nothing that was started outlives this program, unless it is killed without a warning.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// A process of ours; ends when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Starts `program` on `core`, with its output in the file `log`.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        core: Option<usize>,
        log: &Path,
    ) -> io::Result<Self> {
        let out = fs::File::create(log)?;
        let errors = out.try_clone()?;
        // Our own components also end when the other end of their input closes.
        let child = command(program, core)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(errors)
            .spawn()?;
        started().push(child.id());
        Ok(Self(child))
    }

    /// Its process id. `taskset` replaces itself, so it is the program's own.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Under the lock, so that the id cannot become another's before it is off the list.
        let mut started = started();
        let _ = self.0.kill();
        let _ = self.0.wait();
        started.retain(|id| *id != self.0.id());
    }
}

/// What has to be ended, should a signal end us.
fn started() -> std::sync::MutexGuard<'static, Vec<u32>> {
    static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends what was started, and this process, when it is told to end.
pub(crate) fn end_all_on_signal() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        for id in started().iter() {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
        std::process::exit(130);
    });
    Ok(())
}

/// The command for `program`, pinned to `core` if one is given.
pub(crate) fn command(program: &Path, core: Option<usize>) -> Command {
    match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    }
}

/// Whether processes can be pinned here.
pub(crate) fn can_pin() -> bool {
    on_path("taskset").is_some()
}

/// Moves all threads of a process to another core.
pub(crate) fn move_to(id: u32, core: usize) -> io::Result<()> {
    let arguments = ["-a", "-c", "-p", &core.to_string(), &id.to_string()];
    Command::new("taskset").args(arguments).stdout(Stdio::null()).status().map(drop)
}

/// Where a program lies.
pub(crate) fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(sbin);
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()))
}

/// CPU time of a process and all below it, to the nanosecond, of threads that live.
pub(crate) fn cpu(id: u32) -> Duration {
    let of_thread = |folder: fs::DirEntry| {
        let line = fs::read_to_string(folder.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    let threads = |id: u32| fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
    trees(&[id]).into_iter().flat_map(threads).flatten().filter_map(of_thread).sum()
}

/// CPU time of one process by the kernel's coarse clock, with that of threads that are gone.
pub(crate) fn ticks(id: u32) -> Duration {
    let stat = fields_of_stat(id);
    let field = |at: usize| stat.get(at).and_then(|text| text.parse().ok()).unwrap_or(0u64);
    Duration::from_millis((field(11) + field(12)) * MILLIS_PER_TICK)
}

/// The same for some processes and all below them.
pub(crate) fn ticks_of_trees(ids: &[u32]) -> Duration {
    trees(ids).into_iter().map(ticks).sum()
}

/// CPU time that the whole machine has spent.
pub(crate) fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let spent = line.split_whitespace().skip(1).enumerate().filter_map(|(at, text)| {
        // Neither idle (3), nor waiting for disks (4), nor stolen (7), nor guests (8 and 9, which
        // are in the others already).
        (!matches!(at, 3 | 4 | 7..)).then(|| text.parse::<u64>().ok())?
    });
    Duration::from_millis(spent.sum::<u64>() * MILLIS_PER_TICK)
}

/// Linux shows times to programs in hundredths of a second, whatever its own clock is.
const MILLIS_PER_TICK: u64 = 10;

/// Resident memory of a process and all below it, in bytes.
pub(crate) fn resident(id: u32) -> u64 {
    let of_one = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    trees(&[id]).into_iter().filter_map(of_one).sum()
}

/// Some processes and their children, and theirs.
fn trees(roots: &[u32]) -> Vec<u32> {
    let numbered = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(numbered)
        .filter_map(|id| Some((id, fields_of_stat(id).get(1)?.parse().ok()?)))
        .collect();
    let mut found = roots.to_vec();
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(all.iter().filter(|(_, its)| *its == parent).map(|(id, _)| *id));
        at += 1;
    }
    found
}

/// What stands in `/proc/<id>/stat` behind the name, which may hold spaces.
fn fields_of_stat(id: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().map(str::to_owned).collect()
}

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
