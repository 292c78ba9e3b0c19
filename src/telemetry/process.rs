//! What the system says about this process, under the names every Prometheus client uses.
//!
//! Promises nothing where there is no `/proc`: what cannot be read is absent, not zero.

/// Memory and CPU time of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    /// Resident memory.
    pub(super) resident_bytes: Option<u64>,
    /// CPU time of user and system.
    pub(super) cpu_seconds: Option<f64>,
}

impl Process {
    /// Reads `/proc/self`.
    pub(super) fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            resident_bytes: file("/proc/self/status").as_deref().and_then(resident),
            cpu_seconds: file("/proc/self/stat").as_deref().and_then(cpu),
        }
    }
}

/// From `status` and not from `statm`, which counts in pages of a size that must be asked for.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// User and system time are the 14th and 15th fields. The second is the program's name, which
/// may contain anything, so counting starts after its closing bracket.
#[expect(clippy::cast_precision_loss, reason = "a process does not run for 2⁵³ ticks")]
fn cpu(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.checked_add(system)? as f64 / TICKS_PER_SECOND)
}

/// Linux shows times to programs in these ticks, whatever its own timer does.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\nThreads: 1\n"), Some(2048 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 1 1 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(cpu("7 (x) S 1"), None);
    }
}
