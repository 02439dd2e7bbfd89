//! The file that the rows are in.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::failure;
use super::tables::{EXPIRIES, ROWS};
use crate::core::error::StoreError;

/// Opens the file, or makes it.
pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    let file = private(path).map_err(|error| StoreError::Unavailable(error.into()))?;
    database(FileBackend::new(file).map_err(failure)?, cache_bytes)
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

pub(super) fn database(backend: impl StorageBackend, cache_bytes: usize) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    let database = builder.create_with_backend(backend).map_err(failure)?;
    let begin = database.begin_write().map_err(failure)?;
    begin.open_table(ROWS).map_err(failure)?;
    begin.open_table(EXPIRIES).map_err(failure)?;
    begin.commit().map_err(failure)?;
    Ok(database)
}
