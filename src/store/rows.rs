//! The rows of sessions: sealed on the way into the store, opened on the way out, bounded in time, one writer per row
//! and process at a time.

mod lock;
mod writer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use self::lock::{RowLock, RowLocks};
pub(crate) use self::writer::{RowWriter, Writers};
use crate::core::clock::Millis;
use crate::core::entries::Entries;
use crate::core::envelope::RowSealer;
use crate::core::error::{CommitError, Rejection, StoreError, in_full};
use crate::core::event::{Event, EventSink};
use crate::core::key::KeyId;
use crate::core::lifetime;
use crate::core::measure::{self, Opened, StoreCall};
use crate::core::random;
use crate::core::record::{
    self, DeviceKey, Header, Line, NotARecord, Packed, REPLACEMENT_LEN, Replacement, RowContent, SessionId,
};
use crate::core::row_name::Ancestry;
use crate::core::state::{Limits, LoadedRow};
use crate::store::{Expected, NewRow, Revision, Row, RowKey, Store, Written};

/// Between two tries at a contended row: a random part of this, doubled with each try. Never long, because the writers of
/// another node hand the row to one another and leave it only for moments.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);

/// The store, and what is needed to keep sessions in it.
pub(crate) struct Rows {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sealer: RowSealer,
    pub(crate) timeout: Duration,
    pub(crate) sink: EventSink,
    pub(crate) writers: Writers,
}

/// What a session's id leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Live(LiveRow),
    /// Only the device that it is bound to; its data is in its cookie.
    Bound(BoundRow),
    /// Ended, by the write of this revision; and perhaps what took its place.
    Ended(Revision, Option<Replacement>),
    /// Something that this ring cannot open, or not a row of this version; and whether its key, or its version, may be on its way
    /// to this node.
    Unreadable(Revision, bool),
    Absent,
}

impl Found {
    /// The device that the session is bound to.
    pub(crate) fn device(&self) -> Option<&Arc<DeviceKey>> {
        match self {
            Self::Live(row) => row.seen.device.as_ref(),
            Self::Bound(row) => Some(&row.device),
            Self::Ended(..) | Self::Unreadable(..) | Self::Absent => None,
        }
    }

    /// Where the session is, or why it is over.
    pub(crate) fn living(self) -> Result<Living, Rejection> {
        match self {
            Self::Live(row) => Ok(Living::InRow(row)),
            Self::Bound(row) => Ok(Living::InCookie(Some(row))),
            Self::Absent => Ok(Living::InCookie(None)),
            Self::Ended(..) => Err(Rejection::Revoked),
            Self::Unreadable(..) => Err(Rejection::Missing),
        }
    }
}

/// Where a session that goes on is, and the device that it has been bound to since it began.
#[derive(Debug)]
pub(crate) enum Living {
    InCookie(Option<BoundRow>),
    InRow(LiveRow),
}

impl Living {
    pub(crate) fn device(&self) -> Option<&Arc<DeviceKey>> {
        match self {
            Self::InCookie(row) => row.as_ref().map(|row| &row.device),
            Self::InRow(row) => row.seen.device.as_ref(),
        }
    }

    pub(crate) fn row(self) -> Option<LiveRow> {
        if let Self::InRow(row) = self { Some(row) } else { None }
    }
}

#[derive(Debug)]
pub(crate) struct BoundRow {
    pub(crate) device: Arc<DeviceKey>,
    pub(crate) revision: Revision,
    pub(crate) expires_at: Millis,
    /// Whether a retired key had sealed it.
    pub(crate) retired_key: bool,
}

#[derive(Debug)]
pub(crate) struct LiveRow {
    pub(crate) seen: LoadedRow,
    pub(crate) entries: Packed,
}

/// A row, opened as far as it can be.
struct Read {
    content: Result<RowContent, StoreError>,
    may_come: bool,
    retired_key: bool,
    revision: Revision,
    expires_at: Millis,
}

impl Read {
    /// Whether the row was written with this revision, or later over that one.
    fn has_had(&self, revision: Revision) -> bool {
        let since =
            matches!(&self.content, Ok(RowContent::Live { ancestry, .. }) if ancestry.includes(revision));
        self.revision == revision || since
    }
}

/// What a row is to hold.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Live { counter: u32, device: Option<&'a Arc<DeviceKey>>, entries: &'a Entries },
    Bound(&'a Arc<DeviceKey>),
    Ended(Option<Replacement>),
}

/// Which row is to be written, over what, as which revision, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Put<'a> {
    pub(crate) place: &'a RowKey,
    pub(crate) expected: Expected,
    pub(crate) revision: Revision,
    pub(crate) expires_at: Millis,
    pub(crate) deadline: Deadline,
}

/// When one load or commit gives up.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// One use of the store, for a request or by the application: what is done there at this time, and until this deadline.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) limits: &'a Limits,
    /// When the request is judged, or the commit began.
    pub(crate) now: Millis,
    pub(crate) deadline: Deadline,
}

impl Visit<'_> {
    /// The same, with all its time before it.
    pub(crate) fn anew(self) -> Self {
        Self { deadline: self.rows.deadline(), ..self }
    }

    /// Until when a row has to say that this session has ended.
    pub(crate) fn mark_end(&self, header: &Header) -> Millis {
        lifetime::mark_end(&header.times, &self.limits.terms, self.now)
    }

    /// The same, where only the session's id is known.
    pub(crate) fn mark_end_of_any(&self) -> Millis {
        lifetime::mark_end_of_any(&self.limits.terms, self.now)
    }
}

impl Rows {
    pub(crate) fn visit<'a>(&'a self, limits: &'a Limits, now: Millis) -> Visit<'a> {
        Visit { rows: self, limits, now, deadline: self.deadline() }
    }

    fn deadline(&self) -> Deadline {
        Deadline(Instant::now() + self.timeout)
    }

    pub(crate) async fn load(&self, id: SessionId, deadline: Deadline) -> Result<Found, StoreError> {
        let Some(row) = self.read(&row_key(id), &id.0, deadline).await? else { return Ok(Found::Absent) };
        let Read { content, may_come, retired_key, revision, expires_at } = row;
        Ok(match content {
            Ok(RowContent::Ended(replacement)) => Found::Ended(revision, replacement),
            Ok(RowContent::Bound(device)) => {
                Found::Bound(BoundRow { device, revision, expires_at, retired_key })
            }
            Ok(RowContent::Live { counter, ancestry, device, entries }) => {
                let seen = LoadedRow { revision, ancestry, expires_at, counter, device, retired_key };
                Found::Live(LiveRow { seen, entries })
            }
            // Refusing requests for ever makes no row readable: the session starts anew.
            Ok(RowContent::Generation(_) | RowContent::Roster(_)) | Err(_) => {
                Found::Unreadable(revision, may_come)
            }
        })
    }

    /// The generation of a subject under one key, by the place of its row, as far as that can be read.
    pub(crate) async fn load_generation(
        &self,
        place: &RowKey,
        deadline: Deadline,
    ) -> Result<Option<(Result<u64, StoreError>, Revision)>, StoreError> {
        let Some(row) = self.read(place, place.as_bytes(), deadline).await? else { return Ok(None) };
        let generation = row.content.and_then(|content| match content {
            RowContent::Generation(generation) => Ok(generation),
            _ => Err(StoreError::Corrupt("a subject's row holds something else".into())),
        });
        Ok(Some((generation, row.revision)))
    }

    /// The roster of a subject under one key, by the place of its row, as far as that can be read.
    pub(crate) async fn load_roster(
        &self,
        place: &RowKey,
        deadline: Deadline,
    ) -> Result<Option<(Option<Vec<Line>>, Revision)>, StoreError> {
        let Some(row) = self.read(place, place.as_bytes(), deadline).await? else { return Ok(None) };
        let lines = match row.content {
            Ok(RowContent::Roster(lines)) => Some(lines),
            _ => None,
        };
        Ok(Some((lines, row.revision)))
    }

    /// Checks whether the ring's file has changed, whatever the interval.
    pub(crate) fn look_for_keys(&self, now: Millis) {
        let ring = self.sealer.ring();
        self.sink.looked(ring, ring.look_for_unknown(Some(now)));
    }

    async fn read(&self, key: &RowKey, id: &[u8], deadline: Deadline) -> Result<Option<Read>, StoreError> {
        let row = self.bounded("load", deadline, self.store.load(key), |_| false).await?;
        let Some(row) = row else { return Ok(None) };
        let Row { data, revision, expires_at } = row;
        if self.sealer.lacks_key_of(&data) {
            // Another process may have rotated a moment ago, and written this row since.
            let ring = self.sealer.ring();
            self.sink.looked(ring, ring.look_for_unknown(None));
        }
        let opened = self.sealer.open(id, data);
        if let Ok(opened) = &opened {
            measure::opened(opened.key, Opened::Row);
        }
        let retired_key = opened.as_ref().is_ok_and(|opened| opened.retired_key);
        let may_come = match &opened {
            Err(Rejection::UnknownKey(key)) => !self.sealer.ring().has_revoked(*key),
            // What is authentic and no record is a newer version's.
            Err(Rejection::UnknownSuite(_)) | Ok(_) => true,
            Err(_) => false,
        };
        let content = opened
            .map_err(|reason| match reason {
                Rejection::UnknownKey(key) if self.sealer.ring().has_revoked(key) => {
                    Rejection::RevokedKey(key)
                }
                reason => reason,
            })
            .map_err(|reason| reason.to_string())
            .and_then(|opened| record::decode_row(opened).map_err(|NotARecord| "not a record".to_owned()))
            .map_err(|reason| StoreError::Corrupt(format!("row {key:?}: {reason}").into()))
            .inspect_err(|error| self.failed("load", error));
        Ok(Some(Read { content, may_come, retired_key, revision, expires_at: Millis::of(expires_at) }))
    }

    /// Writes the row of a session if what is expected is there; false is a conflict. If the store does not say whether a write
    /// happened, it is looked for, and never repeated.
    pub(crate) async fn write(
        &self,
        id: SessionId,
        content: Content<'_>,
        ancestry: &Ancestry,
        put: Put<'_>,
    ) -> Result<bool, StoreError> {
        let data =
            self.sealer.seal(&id.0, None, content.encoded_len(), |text| content.encode(ancestry, text));
        self.put(&id.0, &data, put).await
    }

    /// Like [`write`](Self::write), for a subject's row under one key.
    pub(crate) async fn write_generation(
        &self,
        key: KeyId,
        generation: u64,
        put: Put<'_>,
    ) -> Result<bool, StoreError> {
        let id = put.place.as_bytes();
        let data = self.sealer.seal(id, Some(key), 1 + size_of::<u64>(), |text| {
            record::encode_generation(generation, text);
        });
        self.put(id, &data, put).await
    }

    /// Like [`write_generation`](Self::write_generation), for a subject's roster.
    pub(crate) async fn write_roster(
        &self,
        key: KeyId,
        lines: &[Line],
        put: Put<'_>,
    ) -> Result<bool, StoreError> {
        let id = put.place.as_bytes();
        let data = self.sealer.seal(id, Some(key), roster_len(lines), |text| {
            record::encode_roster(lines, text);
        });
        self.put(id, &data, put).await
    }

    async fn put(&self, id: &[u8], data: &[u8], put: Put<'_>) -> Result<bool, StoreError> {
        let Put { place, expected, revision, expires_at, deadline } = put;
        let row = NewRow { data, revision, expires_at: expires_at.to_datetime() };
        let write = self.store.write(place, row, expected);
        match self.bounded("write", deadline, write, |written| *written == Written::Conflict).await {
            Ok(Written::Done) => Ok(true),
            Ok(Written::Conflict) => Ok(false),
            Err(error) if error.leaves_open() => {
                let there = self.read(place, id, self.deadline()).await;
                match there {
                    Ok(Some(row)) if row.has_had(revision) => Ok(true),
                    // Others have written since, perhaps over it. A list tells whether it has to be written again.
                    Ok(Some(Read { content: Ok(RowContent::Roster(_)), revision, .. }))
                        if expected != Expected::At(revision) =>
                    {
                        Ok(false)
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the row's expiry to no earlier than this, if it still has this revision; false: it has not.
    pub(crate) async fn extend(
        &self,
        id: SessionId,
        at: Revision,
        expires_at: Millis,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let key = row_key(id);
        let extend = self.store.extend(&key, at, expires_at.to_datetime());
        self.bounded("extend", deadline, extend, |extended| !extended).await
    }

    pub(crate) async fn delete(&self, id: SessionId, deadline: Deadline) -> Result<bool, StoreError> {
        let key = row_key(id);
        self.bounded("delete", deadline, self.store.delete(&key), |_| false).await
    }

    /// A pause before the next try, or giving up.
    pub(crate) async fn pause(&self, tries: u32, deadline: Deadline) -> Result<(), CommitError> {
        let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
        let pause = longest.mul_f64(random::fraction());
        if Instant::now() + pause >= deadline.0 {
            return Err(CommitError::Conflict);
        }
        sleep(pause).await;
        Ok(())
    }

    /// Every call of the store goes through here. `conflicts` says whether an answer shows another row than expected.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        call: impl Future<Output = Result<T, StoreError>>,
        conflicts: impl Fn(&T) -> bool,
    ) -> Result<T, StoreError> {
        let measured = StoreCall::begin(operation);
        let answer = match timeout_at(deadline.0, call).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(StoreError::Timeout(elapsed.into())),
        };
        measured.end(&answer, conflicts);
        answer.inspect_err(|error| self.failed(operation, error))
    }

    fn failed(&self, operation: &'static str, error: &StoreError) {
        self.sink.tell(&Event::StoreFailed { operation, kind: error.as_str(), error: in_full(error) });
    }
}

/// Length of an encoded roster in bytes.
fn roster_len(lines: &[Line]) -> usize {
    record::ROSTER_HEAD + lines.iter().map(Line::encoded_len).sum::<usize>()
}

/// Where the row of a session is.
pub(crate) fn row_key(id: SessionId) -> RowKey {
    RowKey::hash("row", &id.0)
}

impl Content<'_> {
    fn encoded_len(self) -> usize {
        match self {
            Self::Live { device, entries, .. } => {
                record::encoded_row_len(device.map_or(0, |key| key.0.len()), entries.extent())
            }
            Self::Bound(device) => 1 + device.0.len(),
            Self::Ended(replacement) => 1 + replacement.map_or(0, |_| REPLACEMENT_LEN),
        }
    }

    fn encode(self, ancestry: &Ancestry, out: &mut Vec<u8>) {
        match self {
            Self::Live { counter, device, entries } => {
                let device = device.map(|key| &**key);
                record::encode_live(counter, ancestry, device, entries.len(), entries.iter(), out);
            }
            Self::Bound(device) => record::encode_bound(device, out),
            Self::Ended(replacement) => record::encode_ended(replacement, out),
        }
    }
}
