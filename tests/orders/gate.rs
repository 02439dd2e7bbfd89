//! A store whose calls wait twice: until the scheduler lets one have its effect, and until it hands over the answer.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use sealed_session::Clock;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written,
};
use time::OffsetDateTime;
use tokio::task;

use crate::programs::MOST;
use crate::steps::{Access, Verdict};
use crate::world::Ahead;

thread_local! {
    /// The request that is being polled. Nobody's calls do not wait.
    pub(crate) static WHO: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whose the tasks are that requests have spawned, whoever runs them.
    static SPAWNED: RefCell<HashMap<task::Id, Option<usize>>> = RefCell::default();
}

/// Whose work is done at this moment.
pub(crate) fn caller() -> Option<usize> {
    match task::try_id() {
        None => WHO.get(),
        // A task is run for the first time on behalf of who has spawned it.
        Some(id) => SPAWNED.with_borrow_mut(|known| *known.entry(id).or_insert_with(|| WHO.get())),
    }
}

#[derive(Debug, Clone)]
enum Call {
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

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    Asked(RowKey, Call),
    Answered(Result<Reply, StoreError>),
    Silent,
}

/// What the store does when nobody asks for it.
#[derive(Debug)]
enum Late {
    /// It applies the call of this request, once that has looked whether it did, or is over.
    Applies { who: usize, looked: bool, key: RowKey, call: Call },
    /// It loses what was written, which is this, unless somebody has written over it.
    Loses { key: RowKey, written: Revision, before: Option<Row> },
}

#[derive(Debug)]
pub(crate) struct Gate {
    rows: MemoryStore,
    clock: Ahead,
    slots: Mutex<[(Slot, Option<Waker>); MOST]>,
    /// A request that asks several things at once is answered one after the other.
    turns: [tokio::sync::Mutex<()>; MOST],
    late: Mutex<Option<Late>>,
    /// What was written under each key that has ever been, and until when it is there.
    heads: Mutex<BTreeMap<RowKey, (Revision, OffsetDateTime)>>,
}

/// What a request has at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    Asked { key: RowKey, access: Access, what: &'static str },
    Answered,
}

impl Gate {
    pub(crate) fn new(clock: Ahead, rows: &[(RowKey, Row)]) -> Self {
        SPAWNED.with_borrow_mut(HashMap::clear);
        let gate = Self {
            rows: MemoryStore::new().clock(clock.clone()),
            clock,
            slots: Mutex::default(),
            turns: Default::default(),
            late: Mutex::default(),
            heads: Mutex::default(),
        };
        rows.iter().for_each(|(key, row)| gate.put(key, row, Expected::Absent));
        gate
    }

    fn put(&self, key: &RowKey, Row { data, revision, expires_at }: &Row, expected: Expected) {
        let (revision, expires_at) = (*revision, *expires_at);
        self.apply(key, &Call::Write { data: data.clone(), revision, expires_at, expected }).unwrap();
    }

    /// All that is there.
    pub(crate) fn rows(&self) -> Vec<(RowKey, Row)> {
        let heads = self.heads.lock().unwrap();
        heads.keys().filter_map(|key| Some((*key, self.row(key)?))).collect()
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        at_once(self.rows.load(key)).unwrap()
    }

    /// The revision of what is there.
    fn revision(&self, key: &RowKey) -> Option<Revision> {
        let head = self.heads.lock().unwrap().get(key).copied();
        head.filter(|(_, expires_at)| *expires_at > self.clock.now()).map(|(revision, _)| revision)
    }

    fn slots(&self) -> MutexGuard<'_, [(Slot, Option<Waker>); MOST]> {
        self.slots.lock().unwrap()
    }

    pub(crate) fn pending(&self, who: usize) -> Pending {
        match &self.slots()[who].0 {
            Slot::Free | Slot::Silent => Pending::Nothing,
            Slot::Answered(_) => Pending::Answered,
            Slot::Asked(key, call) => {
                let what = match call {
                    Call::Load => "load",
                    Call::Write { expected: Expected::Absent, .. } => "write if absent",
                    Call::Write { .. } => "write if unchanged",
                    Call::Extend { .. } => "extend",
                    Call::Delete => "delete",
                };
                Pending::Asked { key: *key, access: self.access(key, call), what }
            }
        }
    }

    /// What the call would do now.
    fn access(&self, key: &RowKey, call: &Call) -> Access {
        let fails = |fails| if fails { Access::Fails } else { Access::Writes };
        match call {
            Call::Load => Access::Reads,
            Call::Write { expected: Expected::Absent, .. } => fails(self.revision(key).is_some()),
            Call::Write { expected: Expected::At(revision), .. } => {
                fails(self.revision(key) != Some(*revision))
            }
            Call::Extend { at, .. } => fails(self.revision(key) != Some(*at)),
            Call::Delete => Access::Removes,
        }
    }

    /// Lets the call of this request have its effect, or not. Whether it wrote a row and is not told so.
    pub(crate) fn judge(&self, who: usize, verdict: Verdict) -> bool {
        let (Slot::Asked(key, call), waker) = mem::take(&mut self.slots()[who]) else {
            panic!("nothing was asked")
        };
        if let Some(Late::Applies { who: late, looked, .. }) = &mut *self.late.lock().unwrap() {
            *looked |= *late == who;
        }
        let unavailable = || StoreError::Unavailable("as the schedule says".into());
        let timeout = || StoreError::Timeout("as the schedule says".into());
        let before = (verdict == Verdict::Forgotten).then(|| self.row(&key));
        let answer = match verdict {
            Verdict::Refused | Verdict::DroppedBefore => Err(unavailable()),
            Verdict::Late => Err(timeout()),
            _ => self.apply(&key, &call),
        };
        let wrote = matches!(answer, Ok(Reply::Written(Written::Done)));
        let slot = match verdict {
            Verdict::Silent => Slot::Silent,
            Verdict::Lost => Slot::Answered(answer.and(Err(timeout()))),
            // A call outlives the request if it is that of a task.
            Verdict::DroppedBefore | Verdict::Repeated => Slot::Asked(key, call),
            Verdict::Late => {
                *self.late.lock().unwrap() = Some(Late::Applies { who, looked: false, key, call });
                Slot::Answered(answer)
            }
            Verdict::Forgotten => {
                if let (Some(before), Some(written)) = (before, self.revision(&key)) {
                    *self.late.lock().unwrap() = Some(Late::Loses { key, written, before });
                }
                Slot::Answered(answer)
            }
            Verdict::Applied | Verdict::Refused | Verdict::DroppedAfter => Slot::Answered(answer),
        };
        self.slots()[who] = (slot, waker);
        wrote && verdict == Verdict::Lost
    }

    /// What the store is about to do by itself, if this can be now. `is_over`: whether a request is.
    pub(crate) fn late(&self, is_over: impl Fn(usize) -> bool) -> Option<(RowKey, Access, &'static str)> {
        match &*self.late.lock().unwrap() {
            Some(Late::Applies { who, looked, key, call }) if *looked || is_over(*who) => {
                Some((*key, self.access(key, call), "is applied"))
            }
            Some(Late::Loses { key, .. }) => Some((*key, Access::Removes, "is lost")),
            _ => None,
        }
    }

    pub(crate) fn do_late(&self) {
        match self.late.lock().unwrap().take() {
            Some(Late::Applies { key, call, .. }) => drop(self.apply(&key, &call)),
            Some(Late::Loses { key, written, before }) => {
                if self.revision(&key) == Some(written) {
                    self.apply(&key, &Call::Delete).unwrap();
                    before.iter().for_each(|row| self.put(&key, row, Expected::Absent));
                }
            }
            None => panic!("nothing is late"),
        }
    }

    /// Who waits for the answer of this request's call.
    pub(crate) fn wake(&self, who: usize) {
        let waker = self.slots()[who].1.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn apply(&self, key: &RowKey, call: &Call) -> Result<Reply, StoreError> {
        Ok(match call {
            Call::Load => Reply::Row(at_once(self.rows.load(key))?),
            Call::Write { data, revision, expires_at, expected } => {
                let row = NewRow { data, revision: *revision, expires_at: *expires_at };
                let before = self.revision(key);
                let written = at_once(self.rows.write(key, row, *expected))?;
                if written == Written::Done {
                    let mut heads = self.heads.lock().unwrap();
                    let head = heads.entry(*key).or_insert((*revision, *expires_at));
                    let until = if before.is_some() { head.1.max(*expires_at) } else { *expires_at };
                    *head = (*revision, until);
                }
                Reply::Written(written)
            }
            Call::Extend { at, expires_at } => {
                let was_there = at_once(self.rows.extend(key, *at, *expires_at))?;
                if let (true, Some(head)) = (was_there, self.heads.lock().unwrap().get_mut(key)) {
                    head.1 = head.1.max(*expires_at);
                }
                Reply::WasThere(was_there)
            }
            Call::Delete => {
                self.heads.lock().unwrap().remove(key);
                Reply::WasThere(at_once(self.rows.delete(key))?)
            }
        })
    }

    async fn ask(&self, key: &RowKey, call: Call) -> Result<Reply, StoreError> {
        let Some(who) = caller() else { return self.apply(key, &call) };
        let _turn = self.turns[who].lock().await;
        self.slots()[who] = (Slot::Asked(*key, call), None);
        Asking { gate: self, who }.await
    }
}

/// A call that was asked and is not answered; dropped with its request.
struct Asking<'a> {
    gate: &'a Gate,
    who: usize,
}

impl Future for Asking<'_> {
    type Output = Result<Reply, StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(id) = task::try_id() {
            // The request was dropped, and a task goes on with it.
            SPAWNED.with_borrow_mut(|known| known.insert(id, Some(self.who)));
        }
        let (slot, waker) = &mut self.gate.slots()[self.who];
        match mem::take(slot) {
            Slot::Answered(answer) => Poll::Ready(answer),
            asked => {
                *slot = asked;
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let former = mem::take(&mut self.gate.slots()[self.who]);
        drop(former);
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
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing waits here"),
    }
}

/// The store as the nodes have it.
pub(crate) type Shared = Arc<Gate>;
