//! The key file: keys, as a document or a list, that only its owner can read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use rand::Rng as _;
use zeroize::Zeroizing;

use super::document::{self, Member};
use crate::error::KeyError;

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), len: metadata.len(), inode }
    }
}

pub(super) fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| Stamp::of(&metadata))
}

pub(super) fn read(path: &Path) -> Result<(Vec<Member>, Stamp), KeyError> {
    read_from(path, &File::open(path).map_err(failed("read", path))?)
}

fn read_from(path: &Path, file: &File) -> Result<(Vec<Member>, Stamp), KeyError> {
    let metadata = file.metadata().map_err(failed("read", path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path: path.into(), mode });
        }
    }
    let text = Zeroizing::new(io::read_to_string(file).map_err(failed("read", path))?);
    let members = document::parse(&text).map_err(|error| {
        let reason = match error {
            KeyError::Document { reason, .. } => reason,
            error => error.to_string(),
        };
        KeyError::Document { path: Some(path.into()), reason }
    })?;
    Ok((members, Stamp::of(&metadata)))
}

/// Writes a new file. It appears under its name complete or not at all; one that is there stays.
pub(super) fn create(path: &Path, members: &[Member]) -> Result<(), KeyError> {
    let draft = Draft::written(path, members).map_err(failed("create", path))?;
    match fs::hard_link(&draft.0, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("create", path)(error)),
        _ => Ok(()),
    }
}

/// Changes the file, one process at a time. Readers see the former file or the new one, and nothing between.
pub(super) fn edit(
    path: &Path,
    edit: impl FnOnce(Vec<Member>) -> Result<Vec<Member>, KeyError>,
) -> Result<(Vec<Member>, Stamp), KeyError> {
    let file = locked(path).map_err(failed("lock", path))?;
    let (members, _) = read_from(path, &file)?;
    let members = edit(members)?;
    let write = failed("write", path);
    let draft = Draft::written(path, &members).map_err(&write)?;
    fs::rename(&draft.0, path).map_err(&write)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not every system lets folders be opened; there the rename is as safe as it gets.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok((members, stamp(path).map_err(&write)?))
}

/// The file under its lock. Who waited may hold the lock of a file that has been replaced meanwhile.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = File::open(path)?;
        file.lock()?;
        if Stamp::of(&file.metadata()?) == stamp(path)? {
            return Ok(file);
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeyError {
    move |source| KeyError::Io { action, path: path.into(), source }
}

/// A complete file under a name of its own, which is gone when this is dropped.
struct Draft(std::path::PathBuf);

impl Draft {
    fn written(path: &Path, members: &[Member]) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
        name.push(format!(".{:016x}.tmp", rand::rng().next_u64()));
        let draft = Self(path.with_file_name(name));
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft.0)?;
        file.write_all(document::write(members).as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
