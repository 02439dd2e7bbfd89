//! The rows, and by when they expire: what is done to them in one transaction.

use redb::{ReadableTable as _, StorageError, TableDefinition};

use crate::core::clock::Millis;
use crate::store::{Expected, REVISION_LEN, ROW_KEY_LEN, Revision, RowKey};

/// Key → revision, expiry (milliseconds, big-endian), data.
pub(super) const ROWS: TableDefinition<'_, &[u8; ROW_KEY_LEN], &[u8]> = TableDefinition::new("rows");
/// (expiry, key): which rows expire when.
pub(super) const EXPIRIES: TableDefinition<'_, (i64, &[u8; ROW_KEY_LEN]), ()> =
    TableDefinition::new("expiries");
const HEAD_LEN: usize = REVISION_LEN + size_of::<i64>();

pub(super) enum Task {
    Write { key: RowKey, data: Vec<u8>, revision: Revision, expires_at: Millis, expected: Expected },
    Extend { key: RowKey, at: Revision, expires_at: Millis },
    Delete { key: RowKey },
    Sweep { limit: usize },
    Clear,
}

impl Task {
    /// About how much memory it takes.
    pub(super) fn len(&self) -> usize {
        let data = if let Self::Write { data, .. } = self { data.len() } else { 0 };
        size_of::<Self>() + data
    }
}

/// The tables of one transaction.
pub(super) struct Tables<'t> {
    pub(super) rows: redb::Table<'t, &'static [u8; ROW_KEY_LEN], &'static [u8]>,
    pub(super) expiries: redb::Table<'t, (i64, &'static [u8; ROW_KEY_LEN]), ()>,
    pub(super) now: Millis,
    /// Whether there is anything to commit.
    pub(super) is_changed: bool,
}

impl Tables<'_> {
    pub(super) fn carry_out(&mut self, task: &Task) -> Result<u64, StorageError> {
        match task {
            Task::Write { key, data, revision, expires_at, expected } => {
                let present = self.live(key)?;
                let expires_at = match (expected, present) {
                    (Expected::Absent, None) => *expires_at,
                    (Expected::At(expected), Some((present, before))) if present == *expected => {
                        before.max(*expires_at)
                    }
                    _ => return Ok(0),
                };
                self.put(key, *revision, expires_at, data)?;
                Ok(1)
            }
            Task::Extend { key, at, expires_at } => match self.live(key)? {
                Some((present, before)) if present == *at => {
                    if before < *expires_at {
                        let data = self.rows.get(key.as_bytes())?.map(|row| row.value()[HEAD_LEN..].to_vec());
                        self.put(key, present, *expires_at, &data.unwrap_or_default())?;
                    }
                    Ok(1)
                }
                _ => Ok(0),
            },
            Task::Delete { key } => {
                let was_live = self.live(key)?.is_some();
                self.remove(key)?;
                Ok(u64::from(was_live))
            }
            Task::Sweep { limit } => self.sweep(*limit),
            Task::Clear => {
                self.is_changed = true;
                self.rows.retain(|_, _| false)?;
                self.expiries.retain(|_, ()| false)?;
                Ok(0)
            }
        }
    }

    fn live(&self, key: &RowKey) -> Result<Option<(Revision, Millis)>, StorageError> {
        let Some(stored) = self.rows.get(key.as_bytes())? else { return Ok(None) };
        let (revision, expires_at, _) = split(stored.value())?;
        Ok((expires_at > self.now).then_some((revision, expires_at)))
    }

    fn put(
        &mut self,
        key: &RowKey,
        revision: Revision,
        expires_at: Millis,
        data: &[u8],
    ) -> Result<(), StorageError> {
        self.is_changed = true;
        let stored = [&revision.as_bytes()[..], &expires_at.0.to_be_bytes(), data].concat();
        let before = match self.rows.insert(key.as_bytes(), &stored[..])? {
            Some(replaced) => Some(split(replaced.value())?.1),
            None => None,
        };
        // Most writes do not move it.
        if before == Some(expires_at) {
            return Ok(());
        }
        if let Some(before) = before {
            self.expiries.remove((before.0, key.as_bytes()))?;
        }
        self.expiries.insert((expires_at.0, key.as_bytes()), ())?;
        Ok(())
    }

    fn remove(&mut self, key: &RowKey) -> Result<(), StorageError> {
        let before = match self.rows.remove(key.as_bytes())? {
            Some(stored) => split(stored.value())?.1,
            None => return Ok(()),
        };
        self.is_changed = true;
        self.expiries.remove((before.0, key.as_bytes()))?;
        Ok(())
    }

    pub(super) fn sweep(&mut self, limit: usize) -> Result<u64, StorageError> {
        let mut expired = Vec::new();
        for entry in self.expiries.iter()?.take(limit) {
            let (entry, _) = entry?;
            let (expires_at, key) = entry.value();
            if expires_at > self.now.0 {
                break;
            }
            expired.push(RowKey::from_bytes(*key));
        }
        for key in &expired {
            self.remove(key)?;
        }
        Ok(expired.len() as u64)
    }
}

/// Revision, expiry and data of what was stored.
pub(super) fn split(stored: &[u8]) -> Result<(Revision, Millis, &[u8]), StorageError> {
    let corrupted = || StorageError::Corrupted("a row is shorter than its head".into());
    let (revision, rest) = stored.split_first_chunk().ok_or_else(corrupted)?;
    let (expires_at, data) = rest.split_first_chunk().ok_or_else(corrupted)?;
    Ok((Revision::from_bytes(*revision), Millis(i64::from_be_bytes(*expires_at)), data))
}
