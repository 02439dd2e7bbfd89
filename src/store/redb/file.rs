//! The file that the rows are in.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Database, StorageBackend};

use super::failure;
use super::tables::{EXPIRIES, ROWS};
use crate::core::error::StoreError;

/// Opens the file, or makes it. Who opens it again does so through this handle: by its path it might be gone meanwhile, or
/// be another one.
pub(super) fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem => StoreError::Misconfigured(error.into()),
        _ => StoreError::Unavailable(error.into()),
    })
}

/// It has the file's lock from when a database is made of it until it is closed.
pub(super) fn backend(file: &File) -> Result<FileBackend, StoreError> {
    let file = file.try_clone().map_err(|error| StoreError::Unavailable(error.into()))?;
    FileBackend::new(file).map_err(failure)
}

/// Notes that the disk has failed to sync: what was written since it last did may be lost, while the system's cache, and
/// whoever opens the file again, take it for stored.
#[derive(Debug)]
struct Watched<B> {
    backend: B,
    has_lost: Arc<AtomicBool>,
}

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data().inspect_err(|_| self.has_lost.store(true, Ordering::SeqCst))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    // Without these nothing would lock the file.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

pub(super) fn database(
    backend: impl StorageBackend,
    cache_bytes: usize,
    has_lost: &Arc<AtomicBool>,
) -> Result<Database, StoreError> {
    let backend = Watched { backend, has_lost: Arc::clone(has_lost) };
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    let database = builder.create_with_backend(backend).map_err(failure)?;
    let begin = database.begin_write().map_err(failure)?;
    begin.open_table(ROWS).map_err(failure)?;
    begin.open_table(EXPIRIES).map_err(failure)?;
    begin.commit().map_err(failure)?;
    Ok(database)
}
