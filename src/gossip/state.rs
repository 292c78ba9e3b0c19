//! What a sidecar knows of the fleet, kept on disk, so that it begins with it again after a crash.
//!
//! Promises that a file is read whole or not at all: it begins with what it is and a checksum, is
//! written beside the old one and put in its place, and ignored where anything is wrong with it.
//! The cluster goes into the checksum, so that the file of another one counts as damaged.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{Context, SHA256};

/// What every file begins with; its last byte is the version.
const MAGIC: &[u8; 8] = b"pillion\x01";
const CHECK: usize = 8;
/// The moment it was written, in milliseconds of Unix time.
const MOMENT: usize = 8;
const HEAD: usize = MAGIC.len() + CHECK + MOMENT;
/// Nothing longer is written or read.
pub const LONGEST: usize = 256 * 1024;

/// Whose state it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder.
    pub folder: PathBuf,
    /// The name of the cluster.
    pub cluster: Box<str>,
    /// The name of the namespace.
    pub namespace: Box<str>,
}

/// What was kept, and how long ago.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// The bytes as they were given.
    pub bytes: Vec<u8>,
    /// The time since.
    pub away: Duration,
}

/// Why what lies there is no use.
#[derive(Debug)]
pub enum Unusable {
    /// It is damaged, or of another cluster.
    Damaged,
    /// It is of another version, or something else altogether.
    Strange,
    /// It is too long.
    TooLong,
    /// It cannot be read.
    Unread(io::Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("it is damaged, or of another cluster"),
            Self::Strange => f.write_str("it is of another version"),
            Self::TooLong => write!(f, "it has more than {LONGEST} bytes"),
            Self::Unread(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Place {
    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("gossip.state")
    }

    /// Keeps bytes. Blocks.
    pub fn keep(&self, bytes: &[u8], unix: Duration) -> io::Result<()> {
        let long = || io::Error::new(io::ErrorKind::InvalidInput, Unusable::TooLong.to_string());
        if bytes.len() > LONGEST - HEAD {
            return Err(long());
        }
        let moment = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        std::fs::create_dir_all(&self.folder)?;
        let fresh = self.folder.join(format!(".gossip.{}.tmp", std::process::id()));
        let written = write(&fresh, &[MAGIC, &self.check(moment, bytes), &moment, bytes]);
        written.and_then(|()| std::fs::rename(&fresh, self.file())).inspect_err(|_| {
            // What is left of it is of no use to anybody.
            let _ = std::fs::remove_file(&fresh);
        })
    }

    /// What was kept; `None` where nothing was. Blocks.
    pub fn kept(&self, unix: Duration) -> Result<Option<Kept>, Unusable> {
        let path = self.file();
        let length = match std::fs::metadata(&path) {
            Ok(is) => is.len(),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(Unusable::Unread(why)),
        };
        if usize::try_from(length).map_or(true, |length| length > LONGEST) {
            return Err(Unusable::TooLong);
        }
        let whole = std::fs::read(&path).map_err(Unusable::Unread)?;
        let rest = whole.strip_prefix(MAGIC).ok_or(Unusable::Strange)?;
        let (check, rest) = rest.split_first_chunk::<CHECK>().ok_or(Unusable::Damaged)?;
        let (moment, bytes) = rest.split_first_chunk::<MOMENT>().ok_or(Unusable::Damaged)?;
        if *check != self.check(*moment, bytes) {
            return Err(Unusable::Damaged);
        }
        let then = Duration::from_millis(u64::from_be_bytes(*moment));
        Ok(Some(Kept { bytes: bytes.to_vec(), away: unix.saturating_sub(then) }))
    }

    fn check(&self, moment: [u8; MOMENT], bytes: &[u8]) -> [u8; CHECK] {
        let mut digest = Context::new(&SHA256);
        for part in [self.cluster.as_bytes(), self.namespace.as_bytes(), &moment, bytes] {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finish();
        digest.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(path)?;
    parts.iter().try_for_each(|part| out.write_all(part))?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path, cluster: &str) -> Place {
        Place { folder: folder.to_owned(), cluster: cluster.into(), namespace: "n".into() }
    }

    const THEN: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn what_is_kept_comes_back_with_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder.path().join("new"), "c");
        assert!(matches!(place.kept(THEN), Ok(None)));
        place.keep(b"one", THEN).unwrap();
        place.keep(b"two", THEN).unwrap();
        let kept = place.kept(THEN + Duration::from_secs(7)).unwrap().unwrap();
        assert_eq!(kept, Kept { bytes: b"two".to_vec(), away: Duration::from_secs(7) });
        let back = place.kept(Duration::ZERO).unwrap().unwrap();
        assert_eq!(back.away, Duration::ZERO, "the clock was set back");
        let files = std::fs::read_dir(&place.folder).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_damaged_cut_or_of_others_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let own = place(folder.path(), "c");
        own.keep(b"what I know", THEN).unwrap();
        assert!(matches!(place(folder.path(), "d").kept(THEN), Err(Unusable::Damaged)));
        let whole = std::fs::read(own.file()).unwrap();
        for length in 0..whole.len() {
            std::fs::write(own.file(), &whole[..length]).unwrap();
            assert!(own.kept(THEN).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 4;
            std::fs::write(own.file(), &other).unwrap();
            assert!(own.kept(THEN).is_err(), "{at}");
        }
        std::fs::write(own.file(), vec![0; LONGEST + 1]).unwrap();
        assert!(matches!(own.kept(THEN), Err(Unusable::TooLong)));
    }

    #[test]
    fn too_much_is_not_kept_and_what_was_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), "c");
        place.keep(b"little", THEN).unwrap();
        assert!(place.keep(&vec![0; LONGEST], THEN).is_err());
        assert_eq!(place.kept(THEN).unwrap().unwrap().bytes, b"little");
    }
}
