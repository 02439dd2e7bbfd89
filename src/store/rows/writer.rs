//! One writer at a row: waits for its turn, learns what others have left there, and writes over exactly that.
//!
//! A writer hands a waiting one the row as just written, so that the next need not read it; but not what took a session's place,
//! because the next one would keep what it came with, and another process may have ended that session for good by then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::lock::{Priority, RowLock, RowLocks};
use super::{BoundRow, Content, Deadline, Found, LiveRow, Put, Rows, row_key};
use crate::core::clock::Millis;
use crate::core::error::{CommitError, StoreError};
use crate::core::random;
use crate::core::record::{Packed, SessionId};
use crate::core::row_name::Ancestry;
use crate::core::state::LoadedRow;
use crate::store::{Expected, Revision};

/// Writers of one process hand a row to one another for this long, and for at least so many writes. Then they let other
/// nodes in.
const RUN: Duration = Duration::from_millis(10);
const RUN_WRITES: u32 = 16;
const LONGEST_BREAK: Duration = Duration::from_millis(64);

/// A row as one writer leaves it to the next: what it has just written, and for how long they have been at it.
#[derive(Debug)]
pub(crate) struct HandedOver {
    row: Found,
    /// The keys that were there before it was written. Under others the row might be unreadable.
    edition: u64,
    began: Instant,
    writes: u32,
}

pub(crate) type Writers = RowLocks<HandedOver>;

/// One writer, from its turn to its end.
pub(crate) struct RowWriter<'a> {
    rows: &'a Rows,
    id: SessionId,
    deadline: Deadline,
    lock: RowLock<'a, HandedOver>,
    /// What is there, as far as this writer knows.
    expected: Expected,
    /// The ancestry of a row written over that.
    ancestry: Ancestry,
    expires_at: Millis,
    /// What was observed and not taken yet.
    observed: Option<Found>,
    tries: u32,
    /// When the run of writes that this one continues began, and how many it has.
    run: (Instant, u32),
}

impl Rows {
    /// Waits until no writer of this process is at the row, for a caller that reads it anyway.
    pub(crate) async fn lock(
        &self,
        id: SessionId,
        deadline: Deadline,
    ) -> Result<RowLock<'_, HandedOver>, CommitError> {
        let mut lock = self.writers.lock(row_key(id), deadline).await.ok_or(CommitError::Conflict)?;
        // What was left is what was written, not what becomes of it now.
        lock.take();
        Ok(lock)
    }

    /// Waits for the turn at a row, as it was loaded, or that was not there.
    pub(crate) async fn writer(
        &self,
        id: SessionId,
        loaded: Option<&LoadedRow>,
        deadline: Deadline,
    ) -> Result<RowWriter<'_>, CommitError> {
        self.writer_at(Priority::InOrder, id, loaded, deadline).await
    }

    /// The same for one that ends the session, and goes first.
    pub(crate) async fn ender(
        &self,
        id: SessionId,
        loaded: Option<&LoadedRow>,
        deadline: Deadline,
    ) -> Result<RowWriter<'_>, CommitError> {
        self.writer_at(Priority::First, id, loaded, deadline).await
    }

    async fn writer_at(
        &self,
        priority: Priority,
        id: SessionId,
        loaded: Option<&LoadedRow>,
        deadline: Deadline,
    ) -> Result<RowWriter<'_>, CommitError> {
        let lock =
            self.writers.lock_at(priority, row_key(id), deadline).await.ok_or(CommitError::Conflict)?;
        let mut writer = RowWriter {
            rows: self,
            id,
            deadline,
            lock,
            expected: loaded.map_or(Expected::Absent, |row| Expected::At(row.revision)),
            ancestry: loaded.map_or_else(Ancestry::default, |row| row.ancestry.followed_by(row.revision)),
            expires_at: loaded.map_or(Millis::ZERO, |row| row.expires_at),
            observed: None,
            tries: 0,
            run: (Instant::now(), 0),
        };
        if writer.lock.waited {
            match writer.take_handed_over().await? {
                Some(row) => writer.observe(row),
                None => writer.refresh().await?,
            }
        }
        Ok(writer)
    }
}

impl RowWriter<'_> {
    /// What has become of the row since it was loaded, or since the last time; `None`: nothing known.
    pub(crate) fn take_observed(&mut self) -> Option<Found> {
        self.observed.take()
    }

    /// Writes over what is there, as far as is known. `None`: something else was there, see
    /// [`take_observed`](Self::take_observed).
    pub(crate) async fn write(
        &mut self,
        content: Content<'_>,
        expires_at: Millis,
    ) -> Result<Option<LoadedRow>, CommitError> {
        let (edition, revision) = (self.rows.sealer.ring().edition(), Revision::random());
        let (ancestry, mut is_there) = (self.ancestry, true);
        let (place, expected, deadline) = (&self.lock.key, self.expected, self.deadline);
        let put = Put { place, expected, revision, expires_at, deadline };
        if !self.rows.write(self.id, content, &ancestry, put).await? {
            if self.tries > 0 {
                self.rows.pause(self.tries, self.deadline).await?;
            }
            self.tries += 1;
            self.refresh().await?;
            let is_readable = !matches!(self.observed, Some(Found::Unreadable(..)));
            is_there = is_readable && self.expected == Expected::At(revision);
            let since =
                matches!(&self.observed, Some(Found::Live(row)) if row.seen.ancestry.includes(revision));
            if !is_there && !since {
                return Ok(None);
            }
            // The conflict was with ourselves: a driver repeated a write whose answer was lost, and others may have
            // written over it since. The next writer finds out.
        }
        let expires_at = self.expires_at.max(expires_at);
        (self.expected, self.expires_at, self.observed) = (Expected::At(revision), expires_at, None);
        self.ancestry = ancestry.followed_by(revision);
        let (counter, device) = match content {
            Content::Live { counter, device, .. } => (counter, device.cloned()),
            Content::Bound(_) | Content::Ended(_) => (0, None),
        };
        let written = LoadedRow { revision, ancestry, expires_at, counter, device, retired_key: false };
        if is_there && self.lock.is_awaited() && !matches!(content, Content::Ended(Some(_))) {
            let row = match content {
                Content::Ended(_) => Found::Ended(revision, None),
                Content::Bound(device) => {
                    let device = Arc::clone(device);
                    Found::Bound(BoundRow { device, revision, expires_at, retired_key: false })
                }
                Content::Live { entries, .. } => {
                    let entries = Packed::collect(entries.iter());
                    Found::Live(LiveRow { seen: written.clone(), entries })
                }
            };
            let (began, writes) = self.run;
            self.lock.hand_over(HandedOver { row, edition, began, writes: writes + 1 });
        }
        Ok(Some(written))
    }

    /// Whether another one of this process waits to write the row.
    pub(crate) fn is_awaited(&self) -> bool {
        self.lock.is_awaited()
    }

    /// What the previous writer has left, if usable: under these keys, and not for so long that others starve.
    async fn take_handed_over(&mut self) -> Result<Option<Found>, CommitError> {
        let Some(HandedOver { row, edition, began, writes }) = self.lock.take() else { return Ok(None) };
        let lasted = began.elapsed();
        if writes >= RUN_WRITES && lasted >= RUN {
            let trip = lasted / writes;
            sleep((2 * trip).mul_f64(random::fraction()).min(LONGEST_BREAK)).await;
            return Ok(None);
        }
        self.run = (began, writes);
        Ok((edition == self.rows.sealer.ring().edition()).then_some(row))
    }

    /// Reads the row again.
    pub(crate) async fn refresh(&mut self) -> Result<(), StoreError> {
        let row = self.rows.load(self.id, self.deadline).await?;
        self.observe(row);
        Ok(())
    }

    fn observe(&mut self, row: Found) {
        let none = Ancestry::default();
        (self.expected, self.expires_at, self.ancestry) = match &row {
            Found::Live(LiveRow { seen, .. }) => {
                (Expected::At(seen.revision), seen.expires_at, seen.ancestry.followed_by(seen.revision))
            }
            Found::Bound(row) => (Expected::At(row.revision), row.expires_at, none.followed_by(row.revision)),
            Found::Ended(revision, _) | Found::Unreadable(revision, _) => {
                (Expected::At(*revision), Millis::ZERO, none)
            }
            Found::Absent => (Expected::Absent, Millis::ZERO, none),
        };
        self.observed = Some(row);
    }
}
