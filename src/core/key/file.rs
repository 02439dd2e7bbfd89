//! The key file: keys, as a document or a list, which nobody but its owner knows and nobody else can replace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

#[cfg(unix)]
use super::custody;
use super::document::{self, Member};
use super::follow::KeyBacking;
use super::{Key, KeyRing};
use crate::core::error::{KeyError, in_full};
use crate::core::random;

/// How old a draft is that nobody is writing any more.
const ABANDONED: Duration = Duration::from_secs(3_600);
const A_FOLDER: &str = "it is a folder; did a container mount a file that was not there?";
const RAW_BYTES: &str = "it holds raw bytes; a key is 43 characters of base64url, to which \
                         `base64 | tr '+/' '-_' | tr -d '='` converts 32 bytes";

/// A key file, for whoever has more to say about it than where it is; else [`KeyRing::open`] does.
///
/// # Who may read it
/// On Unix a file is read only where nobody else can know the keys or put others in their place:
///
/// 1. The file belongs to root or to the user of the process, and nobody else can use it (mode `0600` or stricter). Or it
///    belongs to root and one group can read it (`0440`, `0640`), which is how Kubernetes does it with `fsGroup`, and
///    systemd with `LoadCredential`. Or it is on a read-only mount and none but its owner could write it (`0444`), as
///    Docker's and Kubernetes' secrets are, whoever owns them there.
/// 2. Each folder on the way to it, and to what each symbolic link on that way names, belongs to root or to the user of the
///    process, and nobody else can write it. Or it is sticky, like `/tmp`, and what is on the way in it belongs to one of
///    them. Or it is on a read-only mount. A group in which, as `/etc/passwd` and `/etc/group` say, there is nobody but that
///    user counts as that user, where there is no access list beside: systems with `umask 002` give each user one, and make
///    folders that it can write.
///
/// Whoever mounts something to be read only has decided who reads it, so neither its readers nor the folders behind it are
/// looked at. If that is not so (a folder of the host that anybody can write, mounted with `:ro`, or seen so under systemd's
/// `ProtectSystem=strict`), see to its owner and mode yourself.
///
/// What is looked at is the file that was opened, each time it is read: at the start, and whenever it has changed. On other
/// systems than Unix, protect it by other means.
///
/// ```no_run
/// use sealed_session::KeyFile;
///
/// // A sidecar writes it as another user, into a volume that both can write.
/// let ring = KeyFile::new("/vault/secrets/session.keys").allow_readable().open()?;
/// # Ok::<(), sealed_session::KeyError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KeyFile {
    path: PathBuf,
    allow_readable: bool,
}

impl KeyFile {
    /// The file at `path`, of which nothing is looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), allow_readable: false }
    }

    /// Reads it whoever else can read, replace or own it.
    ///
    /// # Security
    /// Whoever can read the keys can read and forge every session, and so can who puts keys of their own in their place. Say
    /// this where the platform keeps others away by means that the file system does not show, such as a volume that only
    /// two containers of one pod have.
    pub fn allow_readable(mut self) -> Self {
        self.allow_readable = true;
        self
    }

    /// Opens it, and follows its changes. Of several processes that use it, each sees what another one changed within
    /// [`reload_every`](KeyRing::reload_every). Where it is a symbolic link, what that names is followed as well.
    ///
    /// # Errors
    /// [`KeyError::Permissions`] if others can read or replace it, [`KeyError::Document`] if it holds neither a key
    /// document nor keys, [`KeyError::Io`].
    pub fn open(self) -> Result<KeyRing, KeyError> {
        let (members, stamp) = self.read()?;
        Ok(KeyRing::with(members, KeyBacking::File { file: self, stamp: Some(stamp) }))
    }

    /// Like [`open`](Self::open), but makes the file with a fresh key (mode 0600) if there is none. Of several
    /// processes that start at once, one makes the file and all use it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_or_create(self) -> Result<KeyRing, KeyError> {
        match self.clone().open() {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(&self.path, &[Member::primary(Key::generate())])?;
                self.open()
            }
            outcome => outcome,
        }
    }

    /// What the file looks like now.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        stamp(&self.path)
    }

    /// The same, of a file that is opened for it: a client of NFS asks its server then, and for a path answers from memory.
    pub(super) fn stamp_as_opened(&self) -> io::Result<Stamp> {
        // Who has dropped the right to read it, or has no descriptor left, goes on with what it has, as long as that is there.
        stamp_as_opened(&self.path).or_else(|_| self.stamp())
    }

    pub(super) fn read(&self) -> Result<(Vec<Member>, Stamp), KeyError> {
        read_from(&self.path, &self.opened(&self.path)?)
    }

    /// Changes the file, one process at a time. Readers see the former file or the new one, and nothing between. What a
    /// symbolic link names is changed, and the link stays. Owner, group and mode stay as well, so that what root changes
    /// is still there for the application.
    pub(super) fn edit(
        &self,
        edit: impl FnOnce(Vec<Member>) -> Result<Vec<Member>, KeyError>,
    ) -> Result<(Vec<Member>, Stamp), KeyError> {
        let path = &fs::canonicalize(&self.path).map_err(failed("read", &self.path))?;
        let file = self.locked(path)?;
        let (members, _) = read_from(path, &file)?;
        let members = edit(members)?;
        let write = failed("write", path);
        remove_abandoned(path);
        let (draft, stamp) = Draft::written(path, &members, file.metadata().ok().as_ref()).map_err(&write)?;
        fs::rename(&draft.0, path).map_err(&write)?;
        sync_folder(path);
        // Not of what is at the path by now: that may be another process's, whose keys these are not.
        Ok((members, stamp))
    }

    /// The file under its lock. Who waited may hold the lock of a file that has been replaced meanwhile.
    fn locked(&self, path: &Path) -> Result<File, KeyError> {
        let lock = failed("lock", path);
        loop {
            let looked_at = self.opened(path)?;
            // NFS locks only what could be written. Elsewhere a file that nobody may write can be replaced all the same.
            let file = match fs::OpenOptions::new().read(true).write(true).open(path) {
                Err(error) if cannot_be_written(&error) => looked_at.try_clone(),
                opened => opened,
            };
            let file = file.map_err(&lock)?;
            file.lock().map_err(&lock)?;
            let locked = Stamp::of(&file.metadata().map_err(&lock)?);
            let is_that = locked == Stamp::of(&looked_at.metadata().map_err(&lock)?);
            if is_that && locked == stamp_as_opened(path).map_err(&lock)? {
                return Ok(file);
            }
        }
    }

    fn opened(&self, path: &Path) -> Result<File, KeyError> {
        // Before anything is said of a folder's mode. What cannot be looked at is told when it is opened.
        if path.is_dir() {
            return Err(failed("read", path)(io::Error::new(io::ErrorKind::IsADirectory, A_FOLDER)));
        }
        #[cfg(unix)]
        if !self.allow_readable {
            return custody::opened(path);
        }
        File::open(path).map_err(failed("read", path))
    }
}

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

fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| Stamp::of(&metadata))
}

fn stamp_as_opened(path: &Path) -> io::Result<Stamp> {
    File::open(path)?.metadata().map(|metadata| Stamp::of(&metadata))
}

fn read_from(path: &Path, file: &File) -> Result<(Vec<Member>, Stamp), KeyError> {
    let metadata = file.metadata().map_err(failed("read", path))?;
    let mut bytes = Zeroizing::new(Vec::new());
    (&*file).read_to_end(&mut bytes).map_err(failed("read", path))?;
    let unusable = |reason| KeyError::Document { path: Some(path.into()), reason };
    let text = str::from_utf8(&bytes).map_err(|_| unusable(RAW_BYTES.into()))?;
    let members = document::parse(text).map_err(|error| match error {
        KeyError::Document { reason, .. } => unusable(reason),
        error => unusable(in_full(&error)),
    })?;
    Ok((members, Stamp::of(&metadata)))
}

/// Writes a new file. It appears under its name complete or not at all; one that is there stays.
fn create(path: &Path, members: &[Member]) -> Result<(), KeyError> {
    let (draft, _) = Draft::written(path, members, None).map_err(failed("create", path))?;
    match fs::hard_link(&draft.0, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("create", path)(error)),
        Err(_) => Ok(()),
        Ok(()) => {
            sync_folder(path);
            // Where the file was meant to be there already, this is why everybody has to log in again.
            let (key, path) = (members.first().map(|member| member.id), path.display());
            let key = key.map(tracing::field::display);
            tracing::info!(target: "sealed_session", key, %path, "a key file was made, with a fresh key; what other keys have sealed does not open");
            Ok(())
        }
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeyError {
    // A relative path does not tell in which folder it was looked for.
    move |source| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        KeyError::Io { action, path, source }
    }
}

/// Not every system lets folders be opened; there a new name is as safe as it gets.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

fn cannot_be_written(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Removes what a process left that was killed, or whose machine lost its power, while it wrote: there are keys in it.
fn remove_abandoned(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let random = other
            .to_str()
            .and_then(|other| other.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".tmp"));
        let is_draft =
            random.is_some_and(|part| part.len() == 16 && part.bytes().all(|b| b.is_ascii_hexdigit()));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_draft && age().is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A complete file under a name of its own, which is gone when this is dropped.
struct Draft(PathBuf);

impl Draft {
    /// With the owner, the group and the mode of another file, or as its maker's alone.
    fn written(path: &Path, members: &[Member], like: Option<&fs::Metadata>) -> io::Result<(Self, Stamp)> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
        name.push(format!(".{:016x}.tmp", u64::from_ne_bytes(random::from_system())));
        let draft = Self(path.with_file_name(name));
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft.0)?;
        #[cfg(unix)]
        if let Some(like) = like {
            custody::hand_over(&file, like)?;
        }
        #[cfg(not(unix))]
        let _ = like;
        file.write_all(&document::write(members))?;
        file.sync_all()?;
        let stamp = Stamp::of(&file.metadata()?);
        Ok((draft, stamp))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_could_be_written_as_nfs_demands_and_what_was_written_is_known_by_its_looks() {
        let folder = std::env::temp_dir().join(format!("sealed-session-file-{}", Key::generate().id()));
        fs::create_dir(&folder).unwrap();
        let file = KeyFile::new(folder.join("session.keys"));
        file.clone().open_or_create().unwrap();
        let written = file.locked(&file.path).map(|mut locked| locked.write(b""));
        let edited = file.edit(Ok);
        let looks = file.stamp();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(written.unwrap().unwrap(), 0);
        assert_eq!(edited.unwrap().1, looks.unwrap());
    }
}
