//! A memory store that counts the calls, and fails when told to.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use async_trait::async_trait;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written,
};
use sealed_session::{ManualClock, Revocation, Session, SessionsBuilder};
use time::OffsetDateTime;

use crate::support::{Answer, Bed, Jar, key, now, start};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    /// Nothing happens, and the store says so.
    Fails,
    /// It happens, and the store says that it does not know.
    AppliedButTimesOut,
    /// Nothing happens, and the store says that it does not know.
    TimesOut,
    /// A write happens, and is then tried again by the driver.
    AppliedButConflicts,
    /// Nothing happens, and the store says that it has no room.
    #[cfg(feature = "metrics")]
    Full,
    /// Nor does anything here: it does not let us in.
    #[cfg(feature = "metrics")]
    Refuses,
    /// It says that what is there makes no sense.
    #[cfg(feature = "metrics")]
    Corrupts,
    /// It passes, after so many turns of others.
    Takes(usize),
    /// It passes, and the answer comes after so many turns of others.
    AppliedThenTakes(usize),
    /// It never answers.
    Hangs,
}

#[derive(Debug)]
pub(crate) struct Spy {
    pub(crate) rows: MemoryStore,
    calls: Mutex<Vec<&'static str>>,
    fates: Mutex<VecDeque<Fate>>,
    down: Mutex<bool>,
    keys: Mutex<BTreeSet<RowKey>>,
    /// The rows that were asked for, in the order of the first time, if each is to be a part of the store.
    parts: Mutex<Option<Vec<RowKey>>>,
    loaded: Mutex<Vec<RowKey>>,
    silent: Mutex<Option<RowKey>>,
    slow: AtomicBool,
    takes: Mutex<Duration>,
    ahead: AtomicBool,
    overtaken: AtomicBool,
    before: Mutex<Option<(&'static str, Before)>>,
}

struct Before(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

impl Spy {
    pub(crate) fn new(clock: &ManualClock) -> Arc<Self> {
        Arc::new(Self {
            rows: MemoryStore::new().clock(clock.clone()),
            calls: Mutex::default(),
            fates: Mutex::default(),
            down: Mutex::default(),
            keys: Mutex::default(),
            parts: Mutex::default(),
            loaded: Mutex::default(),
            silent: Mutex::default(),
            slow: AtomicBool::new(false),
            takes: Mutex::default(),
            ahead: AtomicBool::new(false),
            overtaken: AtomicBool::new(false),
            before: Mutex::default(),
        })
    }

    /// Takes the names of the calls since the last time.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// What becomes of the next calls.
    pub(crate) fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }

    /// Takes back what was to become of the next calls.
    pub(crate) fn passes_all(&self) {
        self.fates.lock().unwrap().clear();
    }

    pub(crate) fn go_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// Whether from now on each call gives way to others before it does anything.
    pub(crate) fn slowly(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
    }

    /// Takes the rows that were loaded since the last time.
    pub(crate) fn loaded(&self) -> Vec<RowKey> {
        std::mem::take(&mut self.loaded.lock().unwrap())
    }

    /// From now on each row is a part of the store.
    pub(crate) fn falls_apart(&self) {
        *self.parts.lock().unwrap() = Some(Vec::new());
    }

    /// From now on this row's part does not answer.
    pub(crate) fn falls_silent(&self, row: Option<RowKey>) {
        *self.silent.lock().unwrap() = row;
    }

    /// From now on each call takes so long, by tokio's clock.
    pub(crate) fn takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }

    /// From now on somebody else writes each row just before anybody does.
    pub(crate) fn always_ahead(&self) {
        self.ahead.store(true, Ordering::SeqCst);
    }

    /// From now on each extension comes too late.
    pub(crate) fn extends_none(&self) {
        self.overtaken.store(true, Ordering::SeqCst);
    }

    /// The next write is applied, and then answered like the second of two of the same.
    pub(crate) fn conflict_with_itself(&self) {
        self.next([Fate::AppliedButConflicts]);
    }

    /// Does something just before the next call of this name reaches the store, or a driver's `repeat` of a write.
    pub(crate) fn before(&self, call: &'static str, act: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some((call, Before(Box::new(act))));
    }

    fn comes_to(&self, call: &'static str) {
        let act = self.before.lock().unwrap().take_if(|(name, _)| *name == call);
        if let Some((_, Before(act))) = act {
            act();
        }
    }

    async fn pass<T>(
        &self,
        call: &'static str,
        inner: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.comes_to(call);
        self.calls.lock().unwrap().push(call);
        let takes = *self.takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if self.slow.load(Ordering::SeqCst) {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
        }
        if *self.down.lock().unwrap() {
            return Err(StoreError::Unavailable("the spy is down".into()));
        }
        let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Passes);
        match fate {
            Fate::Passes => inner.await,
            Fate::Fails => Err(StoreError::Unavailable("the spy was told to fail".into())),
            Fate::TimesOut => Err(StoreError::Timeout("the spy was told to".into())),
            #[cfg(feature = "metrics")]
            Fate::Refuses => Err(StoreError::Misconfigured("the spy was told to".into())),
            #[cfg(feature = "metrics")]
            Fate::Full => Err(StoreError::Full("the spy was told to".into())),
            #[cfg(feature = "metrics")]
            Fate::Corrupts => Err(StoreError::Corrupt("the spy was told to".into())),
            Fate::AppliedButTimesOut => {
                inner.await?;
                Err(StoreError::Timeout("the spy was told to".into()))
            }
            Fate::AppliedButConflicts => inner.await,
            Fate::Takes(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                inner.await
            }
            Fate::AppliedThenTakes(turns) => {
                let answer = inner.await;
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                answer
            }
            Fate::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Store for Spy {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.loaded.lock().unwrap().push(*key);
        let is_silent = *self.silent.lock().unwrap() == Some(*key);
        if is_silent {
            return std::future::pending().await;
        }
        let row = self.pass("load", self.rows.load(key)).await;
        self.comes_to("what was loaded");
        row
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.keys.lock().unwrap().insert(*key);
        if self.ahead.load(Ordering::SeqCst)
            && let Some(Row { data, revision, expires_at }) = self.rows.load(key).await?
        {
            let row = NewRow { data: &data, revision: Revision::random(), expires_at };
            assert_eq!(self.rows.write(key, row, Expected::At(revision)).await?, Written::Done);
        }
        let twice = self.fates.lock().unwrap().front() == Some(&Fate::AppliedButConflicts);
        let written = self.pass("write", self.rows.write(key, row, expected)).await?;
        self.comes_to("what was written");
        if !twice {
            return Ok(written);
        }
        self.comes_to("repeat");
        self.rows.write(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let at = if self.overtaken.load(Ordering::SeqCst) { Revision::random() } else { at };
        self.pass("extend", self.rows.extend(key, at, expires_at)).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        self.pass("delete", self.rows.delete(key)).await
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

    fn part(&self, key: &RowKey) -> u16 {
        let Some(apart) = &mut *self.parts.lock().unwrap() else { return 0 };
        let known = apart.iter().position(|other| other == key);
        known.unwrap_or_else(|| {
            apart.push(*key);
            apart.len() - 1
        }) as u16
    }
}

/// Sessions over a spied store, without revocation.
pub(crate) fn stored(configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> (Bed, Arc<Spy>) {
    guarded(|builder| configure(builder.revocation(Revocation::Off)))
}

/// Sessions over a spied store.
pub(crate) fn guarded(configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> (Bed, Arc<Spy>) {
    let clock = ManualClock::at(start());
    let spy = Spy::new(&clock);
    let store = Arc::clone(&spy);
    let keys = sealed_session::KeyRing::new(key(1));
    (Bed::on(keys, clock, |builder| configure(builder.store(store))), spy)
}

/// Another process with the same keys, clock and store.
pub(crate) fn other_node(
    bed: &Bed,
    spy: &Arc<Spy>,
    configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
) -> Bed {
    let store = Arc::clone(spy);
    Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| configure(builder.store(store)))
}

/// What a request comes to whose answer may be a failure.
pub(crate) async fn status(bed: &Bed, jar: &mut Jar, work: impl Fn(&Session) + 'static) -> StatusCode {
    let cookies: Vec<&[u8]> = jar.0.iter().map(String::as_bytes).collect();
    let reply = bed
        .call(&cookies, move |request| {
            work(&now(request.session())?);
            Ok(Answer::ok())
        })
        .await;
    jar.keep(&reply);
    reply.status
}

impl Spy {
    /// The keys that were written, in ascending order.
    pub(crate) fn row_keys(&self) -> Vec<RowKey> {
        self.keys.lock().unwrap().iter().copied().collect()
    }

    /// Puts other data into a row.
    pub(crate) async fn overwrite(&self, key: &RowKey, data: &[u8]) {
        let Row { revision, expires_at, .. } = self.rows.load(key).await.unwrap().unwrap();
        let row = NewRow { data, revision, expires_at };
        assert_eq!(self.rows.write(key, row, Expected::At(revision)).await.unwrap(), Written::Done);
    }
}
