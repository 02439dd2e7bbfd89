//! A fresh store, its nodes and a clock, with a browser's session in it: where each schedule begins.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealed_session::store::{Row, RowKey};
use sealed_session::{
    Clock as _, CommitContext, Event, Key, KeyRing, ManualClock, Revocation, Session, SessionId, Sessions,
};
use time::OffsetDateTime;

use crate::gate::{Gate, WHO, at_once};
use crate::programs::{Entries, LARGE, Program, Revoking, Setup, Start, View, inspected, value};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// For how long the other node may not have heard of an end, where nothing else is said.
pub(crate) const HEARD: Duration = Duration::from_secs(60);

/// A session as it was made once, to begin from many times.
pub(crate) struct Beginning {
    ring: KeyRing,
    pub(crate) cookie: Option<String>,
    pub(crate) id: Option<SessionId>,
    pub(crate) subject: Option<&'static str>,
    pub(crate) stored: bool,
    pub(crate) entries: Entries,
    rows: Vec<(RowKey, Row)>,
    at: OffsetDateTime,
}

/// What the schedules of one program happen in.
pub(crate) struct World {
    pub(crate) gate: Arc<Gate>,
    pub(crate) nodes: Vec<Sessions>,
    pub(crate) clock: ManualClock,
    /// Whether a request was told that its changes are lost with the session.
    pub(crate) lost: Arc<Mutex<[bool; 2]>>,
}

fn node(
    ring: &KeyRing,
    gate: &Arc<Gate>,
    clock: &ManualClock,
    lost: &Arc<Mutex<[bool; 2]>>,
    revoking: Revoking,
) -> Sessions {
    let lost = Arc::clone(lost);
    let builder = Sessions::builder(ring.clone())
        .cookie_name("s")
        .clock(clock.clone())
        .spill_above(LARGE)
        .store(Arc::clone(gate))
        .on_event(move |event| {
            if let (Event::Lost { .. }, Some(who)) = (event, WHO.get()) {
                lost.lock().unwrap()[who] = true;
            }
        });
    let builder = match revoking {
        Revoking::Default => builder,
        Revoking::Every => builder.revocation(Revocation::EveryRequest),
        Revoking::Off => builder.revocation(Revocation::Off),
    };
    builder.build().unwrap()
}

impl Beginning {
    pub(crate) fn of(start: Start) -> Self {
        let key = |n| Key::from_bytes([n; 32]);
        let retired = matches!(start, Start::RetiredCookie | Start::RetiredStored);
        let due = matches!(start, Start::DueCookie | Start::DueStored);
        let empty = matches!(start, Start::EmptyStored | Start::EmptyOfAda);
        let stored = empty
            || matches!(start, Start::Stored | Start::StoredOfAda | Start::RetiredStored | Start::DueStored);
        let subject = match start {
            Start::None | Start::Cookie | Start::Stored | Start::EmptyStored => None,
            _ => Some("ada"),
        };
        let clock = ManualClock::at(OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap());
        let gate = Arc::new(Gate::new(&clock, &[]));
        let before = node(&KeyRing::new(key(1)), &gate, &clock, &Arc::default(), Revoking::Default);
        let visit = |cookie: Option<&String>, work: &dyn Fn(&Session)| {
            at_once(async {
                let session = before.load(cookie).await.unwrap();
                work(&session);
                let line = before.commit(&session, CommitContext::default()).await.unwrap();
                (line.map(|line| line.split(';').next().unwrap().to_owned()), View::of(&session))
            })
        };
        let (cookie, view) = visit(None, &|session| {
            if start == Start::None {
                return;
            }
            if let Some(subject) = subject {
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
        // The removal of what is nobody's is on its way.
        let view = if empty { visit(cookie.as_ref(), &|session| session.clear()).1 } else { view };
        if due {
            clock.advance(DAY - 3 * HEARD);
        }
        Self {
            id: cookie.as_ref().map(|cookie| inspected(&before, cookie).id),
            ring: if retired { KeyRing::from_keys([key(2), key(1)]).unwrap() } else { KeyRing::new(key(1)) },
            cookie,
            subject,
            stored,
            entries: view.entries,
            rows: gate.rows(),
            at: clock.now(),
        }
    }
}

impl World {
    pub(crate) fn of(program: &Program, start: &Beginning) -> Self {
        let Setup { nodes, revoking, warm } = program.setup;
        let clock = ManualClock::at(start.at);
        let gate = Arc::new(Gate::new(&clock, &start.rows));
        let lost = Arc::default();
        let nodes: Vec<Sessions> =
            (0..nodes).map(|_| node(&start.ring, &gate, &clock, &lost, revoking)).collect();
        if warm {
            nodes.iter().for_each(|node| drop(at_once(node.load(start.cookie.iter())).unwrap()));
        }
        Self { gate, nodes, clock, lost }
    }
}
