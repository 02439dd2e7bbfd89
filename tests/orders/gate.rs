//! A store whose calls wait twice: until the scheduler lets one have its effect, and until it hands over the answer.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use sealed_session::ManualClock;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written,
};
use time::OffsetDateTime;

thread_local! {
    /// The request that is being polled. Nobody's calls do not wait.
    pub(crate) static WHO: Cell<Option<usize>> = const { Cell::new(None) };
}

#[derive(Debug)]
pub(crate) enum Call {
    Load,
    Write { data: Vec<u8>, revision: Revision, expires_at: OffsetDateTime, expected: Expected },
    Extend { at: Revision, expires_at: OffsetDateTime },
    Delete,
}

#[derive(Debug)]
enum Reply {
    Row(Option<Row>),
    Written(Written),
    WasThere(bool),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Applied,
    /// Not applied, and the store says so.
    Refused,
    /// Applied, and the store does not say so.
    Lost,
    /// Applied, and there is no answer.
    Silent,
    /// Not applied, and the request's future is dropped at that point.
    DroppedBefore,
    /// Applied, and the request's future is dropped without having heard of it.
    DroppedAfter,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    Asked(RowKey, Call),
    Answered(Result<Reply, StoreError>),
    Silent,
}

#[derive(Debug)]
pub(crate) struct Gate {
    rows: MemoryStore,
    slots: Mutex<[Slot; 2]>,
    written: Mutex<BTreeSet<RowKey>>,
}

/// What a request has at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    Asked { key: RowKey, reads: bool, what: &'static str },
    Answered,
}

impl Gate {
    pub(crate) fn new(clock: &ManualClock, rows: &[(RowKey, Row)]) -> Self {
        let gate = Self {
            rows: MemoryStore::new().clock(clock.clone()),
            slots: Mutex::default(),
            written: Mutex::default(),
        };
        for (key, Row { data, revision, expires_at }) in rows {
            let (data, expected) = (data.clone(), Expected::Absent);
            let call = Call::Write { data, revision: *revision, expires_at: *expires_at, expected };
            gate.apply(key, &call).unwrap();
        }
        gate
    }

    /// All that is there.
    pub(crate) fn rows(&self) -> Vec<(RowKey, Row)> {
        let keys = self.written.lock().unwrap();
        keys.iter().filter_map(|key| Some((*key, at_once(self.rows.load(key)).unwrap()?))).collect()
    }

    fn slots(&self) -> MutexGuard<'_, [Slot; 2]> {
        self.slots.lock().unwrap()
    }

    pub(crate) fn pending(&self, who: usize) -> Pending {
        match &self.slots()[who] {
            Slot::Free | Slot::Silent => Pending::Nothing,
            Slot::Answered(_) => Pending::Answered,
            Slot::Asked(key, call) => {
                let (reads, what) = match call {
                    Call::Load => (true, "load"),
                    Call::Write { expected: Expected::Absent, .. } => (false, "write if absent"),
                    Call::Write { .. } => (false, "write if unchanged"),
                    Call::Extend { .. } => (false, "extend"),
                    Call::Delete => (false, "delete"),
                };
                Pending::Asked { key: *key, reads, what }
            }
        }
    }

    /// Lets the call of this request have its effect, or not. Whether it wrote a row and is not told so.
    pub(crate) fn judge(&self, who: usize, verdict: Verdict) -> bool {
        let Slot::Asked(key, call) = mem::take(&mut self.slots()[who]) else { panic!("nothing was asked") };
        let failed = |error: fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError| {
            error("as the schedule says".into())
        };
        let answer = match verdict {
            Verdict::Refused | Verdict::DroppedBefore => Err(failed(StoreError::Unavailable)),
            _ => self.apply(&key, &call),
        };
        let wrote = matches!(answer, Ok(Reply::Written(Written::Done)));
        self.slots()[who] = match verdict {
            Verdict::Silent => Slot::Silent,
            Verdict::Lost | Verdict::DroppedAfter => {
                Slot::Answered(answer.and(Err(failed(StoreError::Timeout))))
            }
            Verdict::Applied | Verdict::Refused | Verdict::DroppedBefore => Slot::Answered(answer),
        };
        wrote && verdict == Verdict::Lost
    }

    /// The request is gone, and with it its call.
    pub(crate) fn forget(&self, who: usize) {
        self.slots()[who] = Slot::Free;
    }

    fn apply(&self, key: &RowKey, call: &Call) -> Result<Reply, StoreError> {
        Ok(match call {
            Call::Load => Reply::Row(at_once(self.rows.load(key))?),
            Call::Write { data, revision, expires_at, expected } => {
                let row = NewRow { data, revision: *revision, expires_at: *expires_at };
                self.written.lock().unwrap().insert(*key);
                Reply::Written(at_once(self.rows.write(key, row, *expected))?)
            }
            Call::Extend { at, expires_at } => {
                Reply::WasThere(at_once(self.rows.extend(key, *at, *expires_at))?)
            }
            Call::Delete => Reply::WasThere(at_once(self.rows.delete(key))?),
        })
    }

    async fn ask(&self, key: &RowKey, call: Call) -> Result<Reply, StoreError> {
        let Some(who) = WHO.get() else { return self.apply(key, &call) };
        self.slots()[who] = Slot::Asked(*key, call);
        poll_fn(|_| {
            let slot = &mut self.slots()[who];
            match mem::take(slot) {
                Slot::Answered(answer) => Poll::Ready(answer),
                asked => {
                    *slot = asked;
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[async_trait]
impl Store for Gate {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        match self.ask(key, Call::Load).await? {
            Reply::Row(row) => Ok(row),
            other => panic!("{other:?}"),
        }
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        let NewRow { data, revision, expires_at } = row;
        let call = Call::Write { data: data.to_vec(), revision, expires_at, expected };
        match self.ask(key, call).await? {
            Reply::Written(written) => Ok(written),
            other => panic!("{other:?}"),
        }
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        match self.ask(key, Call::Extend { at, expires_at }).await? {
            Reply::WasThere(was_there) => Ok(was_there),
            other => panic!("{other:?}"),
        }
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        match self.ask(key, Call::Delete).await? {
            Reply::WasThere(was_there) => Ok(was_there),
            other => panic!("{other:?}"),
        }
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.rows.sweep(limit).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.rows.count().await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.rows.clear().await
    }
}

/// What a future comes to that waits for nothing.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing waits here"),
    }
}
