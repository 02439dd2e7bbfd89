//! A fresh store, its nodes and a clock, with a browser's session in it: where each schedule begins.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealed_session::store::{Row, RowKey};
use sealed_session::{
    Clock, CommitContext, DeviceBinding, Event, FailurePolicy, Key, KeyRing, Lifetime, ManualClock,
    Revocation, Session, SessionId, Sessions,
};
use time::OffsetDateTime;
use tokio::runtime::{Builder, Runtime};
use tokio::time::advance;

use crate::browser::Browser;
use crate::gate::{Gate, Shared, caller};
use crate::programs::{Happening, MOST, Program, Revoking, Special, Start};
use crate::requests::{Entries, Inspected, LARGE, View, inspected, value};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MS: Duration = Duration::from_millis(1);
/// For how long the other node may not have heard of an end, where nothing else is said.
pub(crate) const HEARD: Duration = Duration::from_secs(60);
/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// By which a clock jumps.
const JUMP: Duration = Duration::from_secs(3600);
/// The breaker in front of a store that has failed is closed again.
const RECOVERED: Duration = Duration::from_secs(5);

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

/// The runtime: its time stands still unless it is told to pass, and tasks run when they are let.
pub(crate) struct Time(RefCell<Runtime>);

impl Time {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(Self::fresh()))
    }

    fn fresh() -> Runtime {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    /// Does the work within the runtime, and ends the tasks that it leaves.
    pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        let out = {
            let runtime = self.0.borrow();
            let _entered = runtime.enter();
            work()
        };
        if self.has_tasks() {
            *self.0.borrow_mut() = Self::fresh();
        }
        out
    }

    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.0.borrow().block_on(future)
    }

    pub(crate) fn pass(&self, by: Duration) {
        self.wait(advance(by));
    }

    pub(crate) fn recover(&self) {
        self.pass(RECOVERED);
    }

    pub(crate) fn has_tasks(&self) -> bool {
        self.0.borrow().metrics().num_alive_tasks() > 0
    }

    /// Lets tasks go on until each waits for something.
    pub(crate) fn let_tasks_run(&self) {
        const ROUNDS: usize = 8;
        if self.has_tasks() {
            self.wait(async {
                for _ in 0..ROUNDS {
                    tokio::task::yield_now().await;
                }
            });
        }
    }
}

/// A session as it was made once, to begin from many times.
pub(crate) struct Beginning {
    pub(crate) cookie: Option<String>,
    /// Of the device to which the session is bound, or about to be.
    pub(crate) proof: Option<String>,
    /// That of the login, from before the session was bound.
    pub(crate) unbound: Option<String>,
    pub(crate) id: Option<SessionId>,
    pub(crate) subject: Option<&'static str>,
    pub(crate) stored: bool,
    pub(crate) entries: Entries,
    /// What the session is called in the list of its subject's.
    pub(crate) handle: Option<String>,
    /// The second session of ada's, with another browser.
    pub(crate) there: Option<There>,
    rows: Vec<(RowKey, Row)>,
    at: OffsetDateTime,
    pub(crate) told: Option<Inspected>,
}

/// A session that is with another browser.
pub(crate) struct There {
    pub(crate) cookie: String,
    pub(crate) handle: String,
}

/// Beginnings, each made once.
#[derive(Default)]
pub(crate) struct Beginnings(RefCell<BTreeMap<(Start, Special), Rc<Beginning>>>);

/// What the schedules of one program happen in.
pub(crate) struct World {
    pub(crate) gate: Shared,
    pub(crate) nodes: Vec<Sessions>,
    pub(crate) clock: ManualClock,
    ring: KeyRing,
    /// When the cookie is over.
    ends: Option<OffsetDateTime>,
    /// Whether a request was told that its changes are lost with the session.
    pub(crate) lost: Arc<Mutex<[bool; MOST]>>,
    special: Special,
}

/// A clock that is ahead of another one.
#[derive(Debug, Clone)]
pub(crate) struct Ahead(ManualClock, Duration);

impl Clock for Ahead {
    fn now(&self) -> OffsetDateTime {
        self.0.now() + self.1
    }
}

fn node(
    ring: &KeyRing,
    gate: &Shared,
    clock: impl Clock,
    lost: &Arc<Mutex<[bool; MOST]>>,
    (revoking, special): (Revoking, Special),
) -> Sessions {
    let lost = Arc::clone(lost);
    let builder = Sessions::builder(ring.clone())
        .cookie_name("s")
        .clock(clock)
        .spill_above(LARGE)
        .store(Arc::clone(gate))
        .on_event(move |event| {
            if let (Event::Lost { .. }, Some(who)) = (event, caller()) {
                lost.lock().unwrap()[who] = true;
            }
        });
    let builder = match revoking {
        Revoking::Default => builder,
        Revoking::Every => builder.revocation(Revocation::EveryRequest),
        Revoking::Off => builder.revocation(Revocation::Off),
    };
    let builder = match special {
        Special::Rolling => builder.rolling(true),
        Special::Idle => builder.lifetime(Lifetime::new(DAY).idle(HOUR)),
        Special::Closed => builder.revocation_failure(FailurePolicy::Closed),
        Special::Cold | Special::Warm | Special::Apart | Special::Behind => builder,
        Special::Listed | Special::OneOldest | Special::OneRefused | Special::TwoOldest => builder,
        Special::Registered | Special::Bound => {
            builder.device_binding(DeviceBinding::WhereOffered).proof_lifetime(DAY)
        }
    };
    let builder = match special.limit() {
        Some((most, overflow)) => builder.max_sessions(most, overflow),
        None => builder,
    };
    // The calls for a list are points where others may go first, and there are more of them than of all others. Where
    // nobody looks at it they would make programs longer and show nothing.
    let builder = if special.is_listed() { builder } else { builder.roster(false) };
    builder.build().unwrap()
}

impl Beginnings {
    pub(crate) fn of(&self, program: &Program, time: &Time) -> Rc<Beginning> {
        let of = (program.start, program.setup.special);
        Rc::clone(self.0.borrow_mut().entry(of).or_insert_with(|| Rc::new(Beginning::of(of, time))))
    }
}

impl Beginning {
    fn of((start, special): (Start, Special), time: &Time) -> Self {
        let moved = matches!(start, Start::Before | Start::Branched);
        let empty = matches!(start, Start::EmptyStored | Start::EmptyOfAda);
        let stored = empty
            || matches!(start, Start::Stored | Start::StoredOfAda | Start::RetiredStored | Start::DueStored);
        let subject = match start {
            Start::None | Start::Cookie | Start::Stored | Start::EmptyStored => None,
            Start::CookieOfBob => Some("bob"),
            _ => Some("ada"),
        };
        let clock = ManualClock::at(OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap());
        let gate = Arc::new(Gate::new(Ahead(clock.clone(), Duration::ZERO), &[]));
        let node = || {
            node(&KeyRing::new(key(1)), &gate, clock.clone(), &Arc::default(), (Revoking::Default, special))
        };
        let (before, other) = (node(), node());
        let browser = special.is_bound().then(|| time.wait(Browser::registered(&before, subject.unwrap())));
        let proof = browser.as_ref().map(|browser| browser.proof.clone());
        // Who comes with a proof binds the session.
        let proves = proof.as_ref().filter(|_| special == Special::Bound);
        let visit = |node: &Sessions, cookie: Option<&String>, work: &dyn Fn(&Session)| {
            time.wait(async {
                let session = node.load(cookie.into_iter().chain(proves)).await.unwrap();
                work(&session);
                let line = node.commit(&session, CommitContext::default()).await.unwrap().pop();
                (line.map(|line| line.split(';').next().unwrap().to_owned()), View::of(&session))
            })
        };
        let login = browser.map(|browser| browser.cookie);
        let (mut cookie, mut view) = visit(&before, login.as_ref(), &|session| {
            if start == Start::None {
                return;
            }
            if let (Some(subject), None) = (subject, &login) {
                session.authenticate(subject).unwrap();
            }
            if !empty {
                session.insert("a", value('0', subject, 8)).unwrap();
                session.insert("n", 100).unwrap();
            }
            if stored {
                session.insert("large", value('0', subject, LARGE)).unwrap();
            }
        });
        if empty {
            // The removal of what is nobody's is on its way.
            view = visit(&before, cookie.as_ref(), &|session| session.clear()).1;
        }
        if moved {
            // Another node knows it to be fine.
            visit(&other, cookie.as_ref(), &|_| {});
            let grown = value('0', subject, LARGE);
            view =
                visit(&before, cookie.as_ref(), &|session| session.insert("large", grown.clone()).unwrap()).1;
        }
        if start == Start::Branched {
            let later = value('0', subject, 8);
            (cookie, view) =
                visit(&other, cookie.as_ref(), &|session| session.insert("b", later.clone()).unwrap());
        }
        match start {
            // So much of the time without use has gone by that a use is written down.
            _ if matches!(special, Special::Idle | Special::Rolling) => clock.advance(HOUR * 2 / 3),
            Start::DueCookie | Start::DueStored => clock.advance(DAY - 3 * HEARD),
            _ => {}
        }
        let there = matches!(special, Special::Listed | Special::TwoOldest) && cookie.is_some();
        let there = there.then(|| {
            clock.advance(MINUTE);
            let (cookie, _) = visit(&before, None, &|session| {
                session.authenticate("ada").unwrap();
                let len = if stored { LARGE } else { 8 };
                session.insert("large", value('0', Some("ada"), len)).unwrap();
            });
            cookie.unwrap()
        });
        if special.is_listed() {
            // What begins from here on is no older than what is there.
            clock.advance(MINUTE);
        }
        let told = cookie.as_ref().map(|cookie| inspected(&before, cookie).unwrap());
        // Under the ring of the nodes to come, and over other rows: who looks is noted.
        let ring = first_ring(start, special);
        let gate_of_handles = Arc::new(Gate::new(Ahead(clock.clone(), Duration::ZERO), &gate.rows()));
        let names =
            self::node(&ring, &gate_of_handles, clock.clone(), &Arc::default(), (Revoking::Default, special));
        let handle = |cookie: &String| {
            let session = time.wait(names.load([cookie])).unwrap();
            session.handle()
        };
        Self {
            handle: cookie.as_ref().and_then(&handle),
            there: there.map(|cookie| There { handle: handle(&cookie).unwrap(), cookie }),
            id: told.as_ref().map(|told| told.id),
            told,
            cookie,
            proof,
            unbound: login.filter(|_| special == Special::Bound),
            subject,
            stored: stored || moved,
            entries: view.entries,
            rows: gate.rows(),
            at: clock.now(),
        }
    }
}

/// The keys of the first node, which are those of all nodes where nothing else is said.
fn first_ring(start: Start, special: Special) -> KeyRing {
    match start.is_retired() || special == Special::Behind {
        true => KeyRing::from_keys([key(2), key(1)]).unwrap(),
        false => KeyRing::new(key(1)),
    }
}

impl World {
    pub(crate) fn of(program: &Program, start: &Beginning, time: &Time) -> Self {
        let (setup, special) = (program.setup, program.setup.special);
        let clock = ManualClock::at(start.at);
        let ahead = if special == Special::Apart { SKEW } else { Duration::ZERO };
        let gate = Arc::new(Gate::new(Ahead(clock.clone(), ahead), &start.rows));
        let first = first_ring(program.start, special);
        let second = match special {
            Special::Behind => {
                let ring = KeyRing::new(key(1));
                ring.schedule(key(2), start.at + DAY * 365).unwrap();
                ring
            }
            // They share a file.
            _ => first.clone(),
        };
        let lost = Arc::default();
        let nodes: Vec<Sessions> = [(&first, Duration::ZERO), (&second, ahead)][..setup.nodes]
            .iter()
            .map(|(ring, ahead)| {
                node(ring, &gate, Ahead(clock.clone(), *ahead), &lost, (setup.revoking, special))
            })
            .collect();
        if special == Special::Warm {
            nodes.iter().for_each(|node| drop(time.wait(node.load(start.cookie.iter())).unwrap()));
        }
        let ends = start.told.as_ref().map(|told| told.expires_at);
        Self { gate, nodes, clock, ring: first, ends, lost, special }
    }

    /// A node like the others that has not seen anything.
    pub(crate) fn unknowing(&self, revoking: Revoking) -> Sessions {
        node(&self.ring, &self.gate, self.clock.clone(), &Arc::default(), (revoking, self.special))
    }

    /// A node that has not seen anything. Without lists it notes nothing either.
    pub(crate) fn fresh(&self, is_listed: bool) -> Sessions {
        let special = if is_listed { self.special } else { Special::Cold };
        node(&self.ring, &self.gate, self.clock.clone(), &Arc::default(), (Revoking::Default, special))
    }

    pub(crate) fn happen(&self, what: Happening) {
        let ends = || self.ends.unwrap_or(self.clock.now() + DAY);
        match what {
            Happening::Rotate => self.ring.rotate(key(3)).unwrap(),
            Happening::RevokeKey => {
                if self.ring.primary() == key(1).id() {
                    self.ring.rotate(key(3)).unwrap();
                }
                self.ring.revoke(key(1).id()).unwrap();
            }
            Happening::End => self.clock.set(ends() + MS),
            Happening::Gone => self.clock.set(ends() + SKEW + MS),
            Happening::Forward => self.clock.advance(JUMP),
            Happening::Back => self.clock.set(self.clock.now() - JUMP),
        }
    }

    /// The clock shows the right time again.
    pub(crate) fn mend(&self, what: Happening) {
        if what == Happening::Back {
            self.clock.advance(JUMP);
        }
    }
}
