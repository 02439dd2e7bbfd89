//! Random histories against a reference model: nothing acknowledged is lost, nothing destroyed comes back, no older
//! value overwrites a newer one.
//!
//! The model is a map of rows and a map of cookies, on which a commit is one atomic step. Where the store leaves open
//! whether a write happened, or two commits overlap, several worlds are possible; each observation leaves those that
//! agree with it, and one has to remain.
//!
//! Half of the histories are without revocation, half with a question on every request; there a cookie that the session
//! has left behind is as dead as the session, or as good as a reference to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealed_session::store::{MemoryStore, Store};
use sealed_session::{
    CommitContext, CommitError, Event, FailurePolicy, Key, KeyRing, Lifetime, ManualClock, Origin, Placement,
    Rejection, Revocation, Session, SessionId, Sessions,
};
use time::OffsetDateTime;

use crate::engines::{Engine, Place};
use crate::faulty::{Fate, Faulty};

const NAME: &str = "s";
/// Values are told apart by a number that is never used twice.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const COUNTERS: [&str; 2] = ["x", "y"];
const SIZES: [usize; 5] = [0, 40, 700, 1_500, 4_000];
const ACTIONS: usize = 30;
const MOST_WORLDS: usize = 512;

type Entries = BTreeMap<&'static str, Value>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Text { number: u64, size: usize },
    Count(i64),
}

impl Value {
    fn text(number: u64, size: usize) -> String {
        format!("{number}:{}", "x".repeat(size))
    }
}

/// What one request changed, as the design has it.
#[derive(Debug, Clone, Default)]
struct Delta {
    keep_only: Option<BTreeSet<&'static str>>,
    changes: BTreeMap<&'static str, Change>,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Set(Value),
    Unset,
    Add(i64),
}

impl Delta {
    fn shows(&self, key: &str) -> bool {
        self.keep_only.as_ref().is_none_or(|keep| keep.contains(key))
    }

    fn over(&self, base: &Entries) -> Entries {
        let mut entries: Entries =
            base.iter().filter(|(key, _)| self.shows(key)).map(|(&key, &value)| (key, value)).collect();
        for (&key, change) in &self.changes {
            match *change {
                Change::Set(value) => drop(entries.insert(key, value)),
                Change::Unset => drop(entries.remove(key)),
                Change::Add(by) => {
                    let Value::Count(present) = *entries.get(key).unwrap_or(&Value::Count(0)) else {
                        panic!()
                    };
                    entries.insert(key, Value::Count(present + by));
                }
            }
        }
        entries
    }

    fn remove(&mut self, base: &Entries, key: &'static str) {
        if self.shows(key) && base.contains_key(key) {
            self.changes.insert(key, Change::Unset);
        } else {
            self.changes.remove(key);
        }
    }

    fn add(&mut self, key: &'static str) {
        let change = match self.changes.get(key) {
            Some(Change::Set(Value::Count(present))) => Change::Set(Value::Count(present + 1)),
            Some(Change::Unset) => Change::Set(Value::Count(1)),
            Some(Change::Add(by)) => Change::Add(by + 1),
            Some(Change::Set(_)) => panic!("counters are counted"),
            None => Change::Add(1),
        };
        self.changes.insert(key, change);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Live { entries: Entries, counter: u32 },
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cookie {
    id: SessionId,
    counter: u32,
    expires_at: OffsetDateTime,
    /// `None`: they are in the row.
    entries: Option<Entries>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    /// Whether revocation is on.
    guarded: bool,
    rows: BTreeMap<SessionId, Row>,
    cookies: BTreeMap<String, Cookie>,
}

/// A request that was begun and not yet answered.
struct Pending {
    session: Session,
    /// The node that it came to.
    node: Sessions,
    /// The cookie that was accepted.
    from: Option<Cookie>,
    /// What it was loaded with, and what it changed since.
    base: Entries,
    delta: Delta,
    renewed: bool,
    destroyed: bool,
    in_row: bool,
    /// Whether it came with a cookie that was newer than the row, which it has not written since.
    newer: bool,
    /// Whether its cookie was refused because the session is over. A logout ends it for good, which can fail.
    over: bool,
}

impl Pending {
    fn view(&self) -> Entries {
        if self.destroyed { Entries::new() } else { self.delta.over(&self.base) }
    }

    /// What it has to write. Where the entries are those that were loaded, that is nothing.
    fn effect(&self) -> Delta {
        if self.delta.over(&self.base) == self.base { Delta::default() } else { self.delta.clone() }
    }

    fn is_in_row(&self) -> bool {
        self.in_row
    }
}

/// What a commit was seen to do.
#[derive(Debug, Clone)]
enum Seen {
    Issued {
        pair: String,
        id: SessionId,
        counter: u32,
        expires_at: OffsetDateTime,
        in_row: bool,
    },
    Removed,
    Nothing,
    Lost,
    /// 503: the store failed, or others were faster each time.
    Failed,
    Ended,
}

impl World {
    /// The worlds that may come of this commit, if it was seen to do that.
    fn commit(&self, request: &Pending, seen: &Seen) -> Vec<World> {
        let (from, delta) = (request.from.as_ref(), request.effect());
        let row = from.and_then(|cookie| self.rows.get(&cookie.id));
        if request.destroyed {
            let has_end = request.is_in_row() || (self.guarded && from.is_some());
            return match (seen, has_end, from) {
                (Seen::Removed, true, Some(cookie)) => vec![self.ended(cookie.id)],
                (Seen::Failed, true, Some(cookie)) => vec![self.clone(), self.ended(cookie.id)],
                (Seen::Removed | Seen::Nothing, false, _) => vec![self.clone()],
                (Seen::Failed, false, None) if request.over => vec![self.clone()],
                _ => vec![],
            };
        }
        match (from, request.is_in_row(), row) {
            (Some(cookie), true, Some(Row::Live { entries, counter })) => {
                // Unless another request was faster, the row becomes what the cookie has.
                let newer = request.newer && self.is_newer(cookie);
                let merged = if newer { request.view() } else { delta.over(entries) };
                let counter = (*counter).max(cookie.counter);
                let is_idle = !newer && delta.changes.is_empty() && delta.keep_only.is_none();
                if request.renewed {
                    let ended = self.ended(cookie.id);
                    return match seen {
                        Seen::Issued { .. } => ended.issued(seen, merged, 0),
                        Seen::Removed if merged.is_empty() => vec![ended],
                        Seen::Failed => vec![self.clone(), ended],
                        _ => vec![],
                    };
                }
                let written = self.with_row(cookie.id, Row::Live { entries: merged.clone(), counter });
                match seen {
                    // A new key rewrites the row, and a mere extension does not.
                    Seen::Issued { in_row: true, .. } if is_idle => {
                        [self.issued(seen, merged.clone(), counter), written.issued(seen, merged, counter)]
                            .concat()
                    }
                    Seen::Issued { in_row: true, .. } => written.issued(seen, merged, counter),
                    Seen::Nothing if is_idle => vec![self.clone()],
                    Seen::Nothing => vec![written],
                    Seen::Removed if merged.is_empty() => vec![written],
                    Seen::Failed => vec![self.clone(), written],
                    _ => vec![],
                }
            }
            (Some(cookie), true, gone) => {
                let is_idle = delta.changes.is_empty() && delta.keep_only.is_none();
                match seen {
                    Seen::Failed => vec![self.clone()],
                    Seen::Ended if request.renewed => vec![self.clone()],
                    Seen::Lost if !request.renewed => vec![self.clone()],
                    Seen::Nothing | Seen::Removed if is_idle && !request.renewed => vec![self.clone()],
                    // A mere extension may prolong the cookie of a session that has just ended; it leads nowhere.
                    Seen::Issued { id, in_row: true, .. }
                        if is_idle && *id == cookie.id && gone.is_some() =>
                    {
                        self.issued(seen, Entries::new(), 0)
                    }
                    _ => vec![],
                }
            }
            (Some(cookie), false, row) if self.guarded && request.renewed => {
                let merged = match row {
                    None => request.delta.over(&request.base),
                    Some(Row::Live { entries, .. }) => delta.over(entries),
                    Some(Row::Ended) => {
                        return if matches!(seen, Seen::Ended | Seen::Failed) {
                            vec![self.clone()]
                        } else {
                            vec![]
                        };
                    }
                };
                let ended = self.ended(cookie.id);
                match seen {
                    Seen::Issued { .. } => ended.issued(seen, merged, 0),
                    Seen::Removed if merged.is_empty() => vec![ended],
                    Seen::Failed => vec![self.clone(), ended],
                    _ => vec![],
                }
            }
            (_, _, row) => {
                let whole = request.delta.over(&request.base);
                let unchanged = whole == request.base && !request.renewed;
                let loaded = from.filter(|_| !request.renewed).map_or(0, |cookie| cookie.counter);
                let row = if request.renewed { None } else { row };
                match seen {
                    Seen::Issued { in_row: false, .. } => self.issued(seen, whole, 0),
                    Seen::Issued { in_row: true, id, .. } => {
                        match self.spilled(*id, row, whole, request, loaded) {
                            Some((world, entries)) => world.issued(seen, entries, loaded),
                            None => vec![],
                        }
                    }
                    Seen::Removed if whole.is_empty() => vec![self.clone()],
                    Seen::Nothing if unchanged || whole.is_empty() => vec![self.clone()],
                    Seen::Lost if row == Some(&Row::Ended) => vec![self.clone()],
                    Seen::Failed => {
                        // Of the spill it is not known whether it happened. Nothing leads to it but an older cookie.
                        let id = from.filter(|_| !request.renewed).map(|cookie| cookie.id);
                        let spilled = id.and_then(|id| self.spilled(id, row, whole, request, loaded));
                        [Some(self.clone()), spilled.map(|(world, _)| world)].into_iter().flatten().collect()
                    }
                    _ => vec![],
                }
            }
        }
    }

    fn spilled(
        &self,
        id: SessionId,
        row: Option<&Row>,
        whole: Entries,
        request: &Pending,
        loaded: u32,
    ) -> Option<(World, Entries)> {
        let (entries, counter) = match row {
            None => (whole, loaded),
            Some(Row::Live { counter, .. }) if loaded > *counter => (whole, loaded),
            Some(Row::Live { entries, counter }) => (request.effect().over(entries), *counter),
            Some(Row::Ended) => return None,
        };
        Some((self.with_row(id, Row::Live { entries: entries.clone(), counter }), entries))
    }

    fn with_row(&self, id: SessionId, row: Row) -> World {
        let mut world = self.clone();
        world.rows.insert(id, row);
        world
    }

    fn ended(&self, id: SessionId) -> World {
        if self.guarded || self.rows.contains_key(&id) { self.with_row(id, Row::Ended) } else { self.clone() }
    }

    /// With the cookie that was issued, and for a renewed session its row.
    fn issued(&self, seen: &Seen, entries: Entries, counter_of_row: u32) -> Vec<World> {
        let Seen::Issued { pair, id, counter, expires_at, in_row } = seen else { return vec![] };
        let mut world = self.clone();
        if *in_row && !world.rows.contains_key(id) {
            world.rows.insert(*id, Row::Live { entries: entries.clone(), counter: counter_of_row });
        }
        let entries = (!in_row).then_some(entries);
        let cookie = Cookie { id: *id, counter: *counter, expires_at: *expires_at, entries };
        world.cookies.insert(pair.clone(), cookie);
        vec![world]
    }

    /// What a request with this cookie finds.
    fn load(&self, pair: &str, now: OffsetDateTime) -> (Origin, Entries, bool) {
        let Some(cookie) = self.cookies.get(pair) else { return (Origin::New, Entries::new(), false) };
        let rejected = |reason| (Origin::Rejected(reason), Entries::new(), false);
        if now >= cookie.expires_at {
            return rejected(Rejection::Expired(sealed_session::End::Duration));
        }
        match (&cookie.entries, self.rows.get(&cookie.id)) {
            (Some(_), Some(Row::Ended)) if self.guarded => rejected(Rejection::Revoked),
            (Some(entries), Some(Row::Live { entries: stored, .. })) if self.guarded => {
                let newer = self.is_newer(cookie);
                (Origin::Resumed, if newer { entries.clone() } else { stored.clone() }, true)
            }
            (Some(entries), _) => (Origin::Resumed, entries.clone(), false),
            (None, Some(Row::Live { entries, .. })) => (Origin::Resumed, entries.clone(), true),
            (None, Some(Row::Ended)) => rejected(Rejection::Revoked),
            (None, None) => rejected(Rejection::Missing),
        }
    }

    /// Whether the cookie was issued with its entries after the session had moved into the row.
    fn is_newer(&self, cookie: &Cookie) -> bool {
        let row = self.rows.get(&cookie.id);
        cookie.entries.is_some()
            && matches!(row, Some(Row::Live { counter, .. }) if cookie.counter > *counter)
    }
}

/// A small generator, so that a history is named by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn node(
    ring: &KeyRing,
    clock: &ManualClock,
    store: &Arc<Faulty>,
    lost: &Arc<Mutex<bool>>,
    guarded: bool,
) -> Sessions {
    let told = Arc::clone(lost);
    Sessions::builder(ring.clone())
        .cookie_name(NAME)
        .clock(clock.clone())
        .lifetime(Lifetime::new(Duration::from_secs(3_600)))
        .spill_above(1_024)
        .store(Arc::clone(store))
        .store_timeout(Duration::from_secs(20))
        .revocation(if guarded { Revocation::EveryRequest } else { Revocation::Off })
        .revocation_failure(FailurePolicy::Closed)
        .on_event(move |event| *told.lock().unwrap() |= matches!(event, Event::Lost { .. }))
        .build()
        .unwrap()
}

struct History {
    random: Random,
    clock: ManualClock,
    store: Arc<Faulty>,
    nodes: [Sessions; 2],
    guarded: bool,
    ring: KeyRing,
    lost: Arc<Mutex<bool>>,
    worlds: Vec<World>,
    /// The browser's cookie, and all that were ever issued.
    jar: Option<String>,
    issued: Vec<String>,
    pending: Vec<Pending>,
    numbers: u64,
    log: String,
}

impl History {
    fn new(seed: u64, store: Arc<dyn Store>, clock: ManualClock) -> Self {
        let store = Arc::new(Faulty::new(store));
        let ring = KeyRing::new(Key::generate());
        let lost = Arc::new(Mutex::new(false));
        let guarded = seed % 2 == 1;
        let node = || node(&ring, &clock, &store, &lost, guarded);
        Self {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            nodes: [node(), node()],
            guarded,
            clock,
            store,
            ring,
            lost,
            worlds: vec![World { guarded, ..World::default() }],
            jar: None,
            issued: Vec::new(),
            pending: Vec::new(),
            numbers: 0,
            log: format!("history {seed}\n"),
        }
    }

    async fn run(mut self) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..ACTIONS {
            self.act(&mut counts).await;
        }
        self.store.calm();
        while let Some(request) = self.pending.pop() {
            self.finish(request, &mut counts).await;
        }
        // In the end each cookie that was ever issued shows what the model says.
        for pair in self.issued.clone() {
            self.begin(Some(pair)).await;
        }
        counts.histories = 1;
        counts
    }

    async fn act(&mut self, counts: &mut Counts) {
        self.store.calm();
        if self.random.one_in(6) {
            let fates = [Fate::Fails, Fate::TimesOut, Fate::AppliedButTimesOut, Fate::Passes];
            let fates: Vec<Fate> =
                (0..1 + self.random.below(4)).map(|_| fates[self.random.below(4)]).collect();
            let _ = writeln!(self.log, "the store will be: {fates:?}");
            self.store.next(fates);
        }
        match self.random.below(20) {
            // One request from beginning to end.
            0..9 => {
                if let Some(mut request) = self.begin(self.jar.clone()).await {
                    self.change(&mut request).await;
                    self.finish(request, counts).await;
                }
            }
            // A request that takes its time, of the browser or with a cookie from before.
            9..12 if self.pending.len() < 3 => {
                let pair = match self.issued.len() {
                    len if len > 0 && self.random.one_in(3) => {
                        Some(self.issued[self.random.below(len)].clone())
                    }
                    _ => self.jar.clone(),
                };
                if let Some(mut request) = self.begin(pair).await {
                    self.change(&mut request).await;
                    self.pending.push(request);
                }
            }
            12..14 if !self.pending.is_empty() => {
                let at = self.random.below(self.pending.len());
                let mut request = self.pending.swap_remove(at);
                self.change(&mut request).await;
                self.finish(request, counts).await;
            }
            14..16 => {
                let (one, other) = (self.begin(self.jar.clone()).await, self.begin(self.jar.clone()).await);
                if let (Some(mut one), Some(mut other)) = (one, other) {
                    self.change(&mut one).await;
                    self.change(&mut other).await;
                    self.finish_both(one, other, counts).await;
                }
            }
            16 if self.pending.is_empty() => {
                let minutes = [1, 50, 56, 59, 61, 200][self.random.below(6)];
                let _ = writeln!(self.log, "{minutes} minutes pass");
                self.clock.advance(Duration::from_secs(60 * minutes));
            }
            17 => self.clock.advance(Duration::from_millis(400)),
            18 if self.random.one_in(4) => {
                let _ = writeln!(self.log, "the key is rotated");
                self.ring.rotate(Key::generate()).unwrap();
            }
            19 if self.random.one_in(3) => {
                let _ = writeln!(self.log, "the browser forgets its cookie");
                self.jar = None;
            }
            _ => {}
        }
    }

    async fn begin(&mut self, pair: Option<String>) -> Option<Pending> {
        let node = self.random.below(2);
        let now = sealed_session::Clock::now(&self.clock);
        let header = pair.clone().unwrap_or_else(|| "other=1".into());
        let Ok(session) = self.nodes[node].load([&header]).await else {
            let _ = writeln!(self.log, "load fails");
            // It would leave the store alone for a second; a process that starts anew does not.
            self.nodes[node] = self::node(&self.ring, &self.clock, &self.store, &self.lost, self.guarded);
            return None;
        };
        let in_row = matches!(session.placement(), Placement::Store { .. });
        let found = (session.origin(), entries_of(&session), in_row);
        let _ = writeln!(self.log, "load {header:.20} on {node}: {:?}, {:?}", found.0, brief(&found.1));
        let worlds = std::mem::take(&mut self.worlds);
        let expected: Vec<_> = worlds.iter().map(|world| world.load(&header, now)).collect();
        self.worlds =
            worlds.into_iter().zip(&expected).filter(|(_, told)| **told == found).map(|(w, _)| w).collect();
        if self.worlds.is_empty() {
            self.fail(&format!("found {found:?}, expected one of {expected:?}"));
        }
        let resumed = found.0 == Origin::Resumed;
        let over = found.0 == Origin::Rejected(Rejection::Revoked);
        // All worlds that are left agree on what the cookie is.
        let from = pair.filter(|_| resumed).map(|pair| self.worlds[0].cookies[&pair].clone());
        let newer = self.guarded && from.as_ref().is_some_and(|from| self.worlds[0].is_newer(from));
        let (base, delta) = (found.1, Delta::default());
        let node = self.nodes[node].clone();
        let (renewed, destroyed) = (false, false);
        Some(Pending { session, node, from, base, delta, renewed, destroyed, in_row, newer, over })
    }

    async fn change(&mut self, request: &mut Pending) {
        for _ in 0..self.random.below(4) {
            if request.destroyed {
                return;
            }
            let key = KEYS[self.random.below(KEYS.len())];
            let counter = COUNTERS[self.random.below(COUNTERS.len())];
            let Pending { session, base, delta, .. } = &mut *request;
            let what = match self.random.below(16) {
                0..6 => {
                    self.numbers += 1;
                    let (number, size) = (self.numbers, SIZES[self.random.below(SIZES.len())]);
                    session.insert(key, Value::text(number, size)).unwrap();
                    delta.changes.insert(key, Change::Set(Value::Text { number, size }));
                    format!("set {key} to {number}, {size} bytes")
                }
                6..9 => {
                    session.increment(counter, 1).unwrap();
                    delta.add(counter);
                    format!("increment {counter}")
                }
                9 | 10 => {
                    let key = if self.random.one_in(3) { counter } else { key };
                    session.remove(key);
                    delta.remove(base, key);
                    format!("remove {key}")
                }
                11 => {
                    session.clear();
                    *delta = Delta { keep_only: Some(BTreeSet::new()), changes: BTreeMap::new() };
                    "clear".into()
                }
                12 => {
                    session.retain(|k| k != key);
                    delta.remove(base, key);
                    format!("retain all but {key}")
                }
                13 => {
                    session.renew();
                    request.renewed = request.from.is_some();
                    "renew".into()
                }
                14 if self.random.one_in(2) => {
                    session.destroy();
                    request.destroyed = true;
                    "destroy".into()
                }
                14 => {
                    session.touch();
                    "touch".into()
                }
                _ => {
                    self.save(request).await;
                    "save".into()
                }
            };
            let _ = writeln!(self.log, "  {what}");
            let (view, expected) = (entries_of(&request.session), request.view());
            if view != expected {
                self.fail(&format!("the request sees {view:?}, expected {expected:?}"));
            }
        }
    }

    async fn save(&mut self, request: &mut Pending) {
        let differs = request.newer || request.delta.over(&request.base) != request.base;
        let saves = request.is_in_row() && !request.renewed && differs;
        let saved = request.session.save().await;
        let _ = writeln!(self.log, "  saved: {saved:?}");
        if !saves {
            assert!(saved.is_ok());
            return;
        }
        let Some(cookie) = request.from.clone() else { return };
        let worlds = std::mem::take(&mut self.worlds);
        for world in worlds {
            match (world.rows.get(&cookie.id), &saved) {
                (Some(Row::Live { entries, counter }), outcome) => {
                    let newer = request.newer && world.is_newer(&cookie);
                    let row = Row::Live {
                        entries: if newer { request.view() } else { request.delta.over(entries) },
                        counter: (*counter).max(cookie.counter),
                    };
                    let written = world.with_row(cookie.id, row);
                    match outcome {
                        Ok(()) => self.worlds.push(written),
                        Err(CommitError::Ended) => {}
                        Err(_) => self.worlds.extend([world, written]),
                    }
                }
                (_, Err(_)) => self.worlds.push(world),
                (_, Ok(())) => {}
            }
        }
        if saved.is_ok() {
            request.base = entries_of(&request.session);
            request.delta = Delta::default();
            request.newer = false;
            self.worlds.retain(|world| {
                matches!(world.rows.get(&cookie.id), Some(Row::Live { entries, .. }) if *entries == request.base)
            });
        }
        if self.worlds.is_empty() {
            self.fail("no world agrees with the save");
        }
    }

    async fn commit(request: &Pending) -> Result<Option<String>, CommitError> {
        Ok(request.node.commit(&request.session, CommitContext::default()).await?.pop())
    }

    fn seen(&self, outcome: Result<Option<String>, CommitError>, lost: bool, node: &Sessions) -> Seen {
        match outcome {
            Ok(None) if lost => Seen::Lost,
            Ok(None) => Seen::Nothing,
            Ok(Some(line)) if line.starts_with("s=;") => Seen::Removed,
            Ok(Some(line)) => {
                let pair = line.split(';').next().unwrap().to_owned();
                assert!(pair.len() - 1 <= sealed_session::MAX_NAME_VALUE_BYTES);
                let told = node.inspect(&pair[2..]).unwrap();
                let in_row = matches!(told.placement, Placement::Store { .. });
                Seen::Issued { pair, id: told.id, counter: told.counter, expires_at: told.expires_at, in_row }
            }
            Err(CommitError::Store(_) | CommitError::NotEnded { .. } | CommitError::Conflict) => Seen::Failed,
            Err(CommitError::Ended) => Seen::Ended,
            Err(error) => panic!("{error}"),
        }
    }

    async fn finish(&mut self, request: Pending, counts: &mut Counts) {
        *self.lost.lock().unwrap() = false;
        let outcome = Self::commit(&request).await;
        let seen = self.seen(outcome, *self.lost.lock().unwrap(), &request.node);
        let _ = writeln!(self.log, "commit: {}", brief_of(&seen));
        self.learn(|world| world.commit(&request, &seen), &seen);
        self.answer(seen, counts);
    }

    /// Two commits at once, in whatever order the store sees their steps.
    async fn finish_both(&mut self, one: Pending, other: Pending, counts: &mut Counts) {
        *self.lost.lock().unwrap() = false;
        self.store.shuffle(self.random.0);
        let outcomes = tokio::join!(Self::commit(&one), Self::commit(&other));
        self.store.shuffle(0);
        // Which of the two was lost is told by neither; both are tried.
        let lost = *self.lost.lock().unwrap();
        let first = self.seen(outcomes.0, false, &one.node);
        let second = self.seen(outcomes.1, false, &other.node);
        let readings = |seen: &Seen| match seen {
            Seen::Nothing if lost => vec![Seen::Nothing, Seen::Lost],
            seen => vec![seen.clone()],
        };
        let _ = writeln!(self.log, "commit both: {} and {}", brief_of(&first), brief_of(&second));
        let (firsts, seconds) = (readings(&first), readings(&second));
        self.learn(
            |world| {
                let mut worlds = Vec::new();
                for first in &firsts {
                    for second in &seconds {
                        let forward =
                            world.commit(&one, first).into_iter().flat_map(|w| w.commit(&other, second));
                        let backward =
                            world.commit(&other, second).into_iter().flat_map(|w| w.commit(&one, first));
                        worlds.extend(forward.chain(backward));
                    }
                }
                worlds
            },
            &second,
        );
        self.answer(first, counts);
        self.answer(second, counts);
    }

    fn learn(&mut self, step: impl Fn(&World) -> Vec<World>, seen: &Seen) {
        let mut worlds: Vec<World> = self.worlds.iter().flat_map(step).collect();
        worlds.sort();
        worlds.dedup();
        if worlds.is_empty() {
            let rows = self.worlds.iter().map(|world| format!("\n  {:?}", world.rows));
            let before =
                format!("no world agrees with {}; rows before:{}", brief_of(seen), rows.collect::<String>());
            self.fail(&before);
        }
        assert!(worlds.len() <= MOST_WORLDS, "too many worlds to tell anything");
        self.worlds = worlds;
    }

    /// The browser sees the answer, or it is lost on the way.
    fn answer(&mut self, seen: Seen, counts: &mut Counts) {
        let arrives = !self.random.one_in(8);
        counts.note(&seen);
        match seen {
            Seen::Issued { pair, .. } => {
                self.issued.push(pair.clone());
                if arrives {
                    self.jar = Some(pair);
                }
            }
            Seen::Removed if arrives => self.jar = None,
            _ => {}
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.log);
    }
}

/// How often what was seen, so that a test that tests nothing is noticed.
#[derive(Debug, Default)]
struct Counts {
    histories: usize,
    in_row: usize,
    in_cookie: usize,
    removed: usize,
    lost: usize,
    failed: usize,
    ended: usize,
}

impl Counts {
    fn note(&mut self, seen: &Seen) {
        match seen {
            Seen::Issued { in_row: true, .. } => self.in_row += 1,
            Seen::Issued { in_row: false, .. } => self.in_cookie += 1,
            Seen::Removed => self.removed += 1,
            Seen::Lost => self.lost += 1,
            Seen::Failed => self.failed += 1,
            Seen::Ended => self.ended += 1,
            Seen::Nothing => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.in_row += other.in_row;
        self.in_cookie += other.in_cookie;
        self.removed += other.removed;
        self.lost += other.lost;
        self.failed += other.failed;
        self.ended += other.ended;
    }

    fn each_was_seen(&self, least: usize) {
        println!("{self:?}");
        let Self { in_row, in_cookie, removed, lost, failed, ended, .. } = *self;
        assert!(
            [in_row, in_cookie, removed, lost, failed, ended].into_iter().all(|n| n >= least),
            "{self:?}"
        );
    }
}

fn entries_of(session: &Session) -> Entries {
    let known = KEYS.iter().chain(&COUNTERS);
    session
        .keys()
        .into_iter()
        .map(|key| {
            let key = *known.clone().find(|known| **known == key).expect("only known keys were set");
            let value = match COUNTERS.contains(&key) {
                true => Value::Count(session.get(key).unwrap().unwrap()),
                false => {
                    let text: String = session.get(key).unwrap().unwrap();
                    let (number, filler) = text.split_once(':').unwrap();
                    Value::Text { number: number.parse().unwrap(), size: filler.len() }
                }
            };
            (key, value)
        })
        .collect()
}

fn brief(entries: &Entries) -> String {
    let entry = |(key, value): (&&str, &Value)| match value {
        Value::Text { number, .. } => format!("{key}={number}"),
        Value::Count(count) => format!("{key}={count}"),
    };
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn brief_of(seen: &Seen) -> String {
    match seen {
        Seen::Issued { pair, id, counter, in_row, .. } => {
            format!("issued {pair:.20} of {id:?} #{counter}, in the row: {in_row}")
        }
        other => format!("{other:?}"),
    }
}

fn start() -> ManualClock {
    ManualClock::at(OffsetDateTime::now_utc())
}

fn histories(from: u64, count: u64) -> Counts {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut counts = Counts::default();
    for seed in from..from + count {
        let clock = start();
        let store = Arc::new(MemoryStore::new().clock(clock.clone()));
        counts.add(&runtime.block_on(History::new(seed, store, clock).run()));
    }
    counts
}

#[test]
fn on_memory_20_000_histories_agree_with_the_model() {
    const HISTORIES: u64 = 20_000;
    let halves = std::thread::scope(|scope| {
        let other = scope.spawn(|| histories(HISTORIES / 2, HISTORIES / 2));
        [histories(0, HISTORIES / 2), other.join().unwrap()]
    });
    let mut counts = Counts::default();
    halves.iter().for_each(|half| counts.add(half));
    assert_eq!(counts.histories, HISTORIES as usize);
    counts.each_was_seen(1_000);
}

async fn on_a_server(engine: Engine) {
    let mut counts = Counts::default();
    let place: Place = engine.place();
    let clock = start();
    let store = place.open_at(&clock).await;
    for seed in 0..2_000 {
        counts.add(&History::new(1 << 32 | seed, Arc::clone(&store), clock.clone()).run().await);
    }
    counts.each_was_seen(100);
}

#[tokio::test]
async fn on_redis_2_000_histories_agree_with_the_model() {
    on_a_server(Engine::Redis).await;
}

#[tokio::test]
async fn on_postgres_2_000_histories_agree_with_the_model() {
    on_a_server(Engine::Postgres).await;
}
