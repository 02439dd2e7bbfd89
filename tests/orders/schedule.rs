//! One schedule: two requests, polled by hand in the order that is chosen step by step, and what became of them.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use sealed_session::store::RowKey;
use tokio::runtime::Runtime;

use crate::gate::{Pending, Verdict, WHO};
use crate::programs::{NAMES, Outcome, Place, Program, request};
use crate::world::{Beginning, World};

/// Who is woken within this time waits for no store.
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

/// What a request would do next, and what others could notice of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    node: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It arrives, or the handler begins, which ends in a commit.
    Begins(&'static str),
    /// It goes on with the answer to its call, or with its turn.
    GoesOn,
    /// Its call has its effect.
    Acts { key: RowKey, reads: bool, what: &'static str },
    /// Its answer leaves.
    Leaves,
}

impl Step {
    /// Whether the order of the two makes no difference to anybody: they meet neither in a row nor in the memory of a
    /// node, nor does the one begin when the other is known to be over.
    pub(crate) fn is_independent_of(&self, other: &Self) -> bool {
        match (self.kind, other.kind) {
            (Kind::Acts { key, reads, .. }, Kind::Acts { key: others, reads: other_reads, .. }) => {
                key != others || (reads && other_reads)
            }
            (Kind::Acts { .. }, _) | (_, Kind::Acts { .. }) => true,
            (Kind::Leaves, Kind::Begins(_)) | (Kind::Begins(_), Kind::Leaves) => false,
            (Kind::Leaves, _) | (_, Kind::Leaves) => true,
            _ => self.node != other.node,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) who: usize,
    /// Of a call that acts.
    pub(crate) verdict: Verdict,
}

/// Where a choice is to be made.
pub(crate) struct Point {
    /// What each request would do next; `None`: it waits for the other one, or is over.
    pub(crate) next: [Option<Step>; 2],
    pub(crate) faulted: bool,
    pub(crate) last: Option<usize>,
}

/// A request as it came out, with the numbers of some of its steps.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) lost: bool,
    pub(crate) began: Option<usize>,
    pub(crate) handled: Option<usize>,
    pub(crate) left: Option<usize>,
}

pub(crate) struct Finished {
    pub(crate) told: [Told; 2],
    pub(crate) fault: Option<usize>,
    /// The fault is that a write was applied, and the store did not say so. Nobody wrote over it since.
    pub(crate) loses_write: bool,
    pub(crate) choices: Vec<Choice>,
    pub(crate) steps: Vec<String>,
    /// Who never ends, whatever time passes.
    pub(crate) stuck: bool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Request {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    place: Rc<Place>,
    woken: Arc<Flag>,
    began: bool,
    leaves: bool,
    dropped: bool,
    told: Told,
}

/// Runs one schedule, or as much of it as `choose` goes along with.
pub(crate) fn run(
    (program, start, time): (&Program, &Rc<Beginning>, &Runtime),
    world: &World,
    tells: bool,
    mut choose: impl FnMut(&Point) -> Option<Choice>,
) -> Option<Finished> {
    let mut requests = [0, 1].map(|who| {
        let place = Rc::new(Place::default());
        let node = world.nodes[program.node(who)].clone();
        let future = Box::pin(request(who, program.ops[who], node, Rc::clone(start), Rc::clone(&place)));
        Request {
            future: Some(future),
            place,
            woken: Arc::new(Flag(AtomicBool::new(false))),
            began: false,
            leaves: false,
            dropped: false,
            told: Told::default(),
        }
    });
    let (mut fault, mut loses_write, mut last, mut waited) = (None, None, None, Duration::ZERO);
    let (mut choices, mut steps, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let stuck = loop {
        let next = [0, 1]
            .map(|who| requests[who].next(world, who).map(|kind| Step { kind, node: program.node(who) }));
        if next.iter().all(Option::is_none) {
            if requests.iter().all(|request| request.future.is_none()) {
                break false;
            }
            if waited >= PATIENCE {
                break true;
            }
            // Nobody can go on, so time goes by.
            time.block_on(tokio::time::advance(TICK));
            waited += TICK;
            continue;
        }
        let point = Point { next, faulted: fault.is_some(), last };
        let choice @ Choice { who, verdict } = choose(&point)?;
        let step = next[who].expect("who is chosen can go on");
        let number = choices.len();
        choices.push(choice);
        last = Some(who);
        if tells {
            steps.push(describe(step.kind, choice, &mut rows));
        }
        match step.kind {
            Kind::Acts { key, reads, .. } => {
                if verdict != Verdict::Applied {
                    fault = Some(who);
                }
                requests[who].dropped = matches!(verdict, Verdict::DroppedBefore | Verdict::DroppedAfter);
                if world.gate.judge(who, verdict) {
                    loses_write = Some(key);
                } else if !reads && fault != Some(who) {
                    loses_write = loses_write.filter(|written| *written != key);
                }
            }
            Kind::Leaves => {
                requests[who].leaves = false;
                requests[who].told.left = Some(number);
            }
            kind => requests[who].go_on(world, who, kind, number),
        }
    };
    let lost = *world.lost.lock().unwrap();
    let mut told = requests.map(|request| {
        let Request { future, place, told, .. } = request;
        drop(future);
        Told { outcome: place.outcome.take(), ..told }
    });
    for who in [0, 1] {
        told[who].lost = lost[who];
    }
    Some(Finished { told, fault, loses_write: loses_write.is_some(), choices, steps, stuck })
}

impl Request {
    fn next(&self, world: &World, who: usize) -> Option<Kind> {
        if self.leaves {
            return Some(Kind::Leaves);
        }
        self.future.as_ref()?;
        if !self.began {
            return Some(Kind::Begins("arrives"));
        }
        match world.gate.pending(who) {
            Pending::Asked { key, reads, what } => Some(Kind::Acts { key, reads, what }),
            Pending::Answered => Some(Kind::GoesOn),
            Pending::Nothing if self.place.at_handler.get() => Some(Kind::Begins("is handled and commits")),
            Pending::Nothing => self.woken.0.load(Ordering::SeqCst).then_some(Kind::GoesOn),
        }
    }

    fn go_on(&mut self, world: &World, who: usize, kind: Kind, number: usize) {
        match kind {
            Kind::Begins(_) if !self.began => {
                self.began = true;
                self.told.began = Some(number);
            }
            Kind::Begins(_) => self.told.handled = Some(number),
            _ => {}
        }
        if self.dropped {
            world.gate.forget(who);
            as_(who, || drop(self.future.take()));
            return;
        }
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        let Some(future) = &mut self.future else { return };
        if as_(who, || future.as_mut().poll(&mut Context::from_waker(&waker))).is_ready() {
            self.future = None;
            self.leaves = true;
        }
    }
}

fn as_<R>(who: usize, work: impl FnOnce() -> R) -> R {
    WHO.set(Some(who));
    let out = work();
    WHO.set(None);
    out
}

fn describe(kind: Kind, Choice { who, verdict }: Choice, rows: &mut Vec<RowKey>) -> String {
    let name = NAMES[who];
    match kind {
        Kind::Begins(what) => format!("{name} {what}"),
        Kind::GoesOn => format!("{name} goes on"),
        Kind::Leaves => format!("{name} answers"),
        Kind::Acts { key, what, .. } => {
            let known = rows.iter().position(|known| *known == key);
            let row = known.unwrap_or_else(|| {
                rows.push(key);
                rows.len() - 1
            });
            let becomes = match verdict {
                Verdict::Applied => "",
                Verdict::Refused => ": refused",
                Verdict::Lost => ": applied, but the answer is lost",
                Verdict::Silent => ": applied, but there is no answer",
                Verdict::DroppedBefore => ": not applied, and the request is dropped",
                Verdict::DroppedAfter => ": applied, and the request is dropped",
            };
            format!("{name} {what}, row {row}{becomes}")
        }
    }
}

/// The letters for each verdict behind the name of who takes the step.
const VERDICTS: [(Verdict, &str); 6] = [
    (Verdict::Applied, ""),
    (Verdict::Refused, "r"),
    (Verdict::Lost, "l"),
    (Verdict::Silent, "s"),
    (Verdict::DroppedBefore, "d"),
    (Verdict::DroppedAfter, "D"),
];

pub(crate) fn written(choices: &[Choice]) -> String {
    choices.iter().fold(String::new(), |mut text, choice| {
        let letter =
            VERDICTS.iter().find(|(verdict, _)| *verdict == choice.verdict).map_or("", |known| known.1);
        write!(text, "{}{letter}", NAMES[choice.who]).unwrap();
        text
    })
}

pub(crate) fn read(text: &str) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for letter in text.chars() {
        match NAMES.iter().position(|name| *name == letter) {
            Some(who) => choices.push(Choice { who, verdict: Verdict::Applied }),
            None => {
                let known = VERDICTS.iter().find(|(_, known)| *known == letter.to_string());
                let last = choices.last_mut().expect("a verdict stands behind a step");
                last.verdict = known.unwrap_or_else(|| panic!("{letter:?} is no verdict")).0;
            }
        }
    }
    choices
}
