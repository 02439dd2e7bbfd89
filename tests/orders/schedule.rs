//! One schedule: requests, polled by hand in the order that is chosen step by step, and what became of them.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::gate::{Pending, WHO};
use crate::programs::Program;
use crate::requests::{Outcome, Place, request};
use crate::steps::{Access, Choice, Kind, LATE, Step, Verdict, WORLD, describe};
use crate::world::{Beginning, Time, World};

/// Who is woken within this time waits for no store.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(100);

/// Where a choice is to be made.
pub(crate) struct Point {
    /// Who can go on, and how: requests in their order, then the store and the world.
    pub(crate) next: Vec<Step>,
    /// How much has gone wrong.
    pub(crate) faults: usize,
    /// The request that took the last step of one.
    pub(crate) last: Option<usize>,
    /// How much time has gone by.
    pub(crate) waited: Duration,
}

/// A request as it came out, with the numbers of some of its steps.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) lost: bool,
    pub(crate) began: Option<usize>,
    pub(crate) handled: Option<usize>,
    /// When it was done with, but for the way back.
    pub(crate) done: Option<usize>,
    pub(crate) left: Option<usize>,
    /// How much time went by.
    pub(crate) took: Duration,
}

pub(crate) struct Finished {
    pub(crate) told: Vec<Told>,
    /// Whose calls or futures went wrong, and how.
    pub(crate) faults: Vec<(usize, Verdict)>,
    /// The only fault is that a write was applied, and the store did not say so. Nobody has ended the session since.
    pub(crate) loses_write: bool,
    /// The number of the step at which something happened to all nodes.
    pub(crate) happened: Option<usize>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) steps: Vec<String>,
    /// Somebody never ends, whatever time passes.
    pub(crate) stuck: bool,
}

impl Finished {
    /// Whether something went wrong that is no mere repetition, which is to be noticed by nobody.
    pub(crate) fn is_faulted(&self) -> bool {
        self.faults.iter().any(|(_, verdict)| *verdict != Verdict::Repeated)
    }

    /// Whether the store has lost what it had acknowledged, so that nothing is promised but safety.
    pub(crate) fn is_forgetful(&self) -> bool {
        self.faults.iter().any(|(_, verdict)| *verdict == Verdict::Forgotten)
    }
}

/// How a run ended.
pub(crate) enum Ran {
    Whole(Finished),
    /// `choose` did not go along any further.
    Left,
    /// What was chosen cannot be, because something is drawn by lot and came out otherwise this time.
    Strayed,
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
    (program, start, time): (&Program, &Rc<Beginning>, &Time),
    world: &World,
    tells: bool,
    choose: impl FnMut(&Point) -> Option<Choice>,
) -> Ran {
    time.within(|| run_within((program, start, time), world, tells, choose))
}

fn run_within(
    (program, start, time): (&Program, &Rc<Beginning>, &Time),
    world: &World,
    tells: bool,
    mut choose: impl FnMut(&Point) -> Option<Choice>,
) -> Ran {
    let mut requests: Vec<Request> = (0..program.ops.len())
        .map(|who| {
            let place = Rc::new(Place::default());
            let node = world.nodes[program.node(who)].clone();
            let future = request(who, program.ops[who], node, Rc::clone(start), Rc::clone(&place));
            Request {
                future: Some(Box::pin(future)),
                place,
                woken: Arc::new(Flag(AtomicBool::new(false))),
                began: false,
                leaves: false,
                dropped: false,
                told: Told::default(),
            }
        })
        .collect();
    let (mut faults, mut loses_write, mut last, mut waited) = (Vec::new(), None, None, Duration::ZERO);
    let (mut choices, mut steps, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut happened = None;
    let stuck = loop {
        let mut next: Vec<Step> = Vec::with_capacity(requests.len() + 2);
        for (who, request) in requests.iter().enumerate() {
            let kind = request.next(world, who);
            next.extend(kind.map(|kind| Step { who, node: program.node(who), kind }));
        }
        let late = world.gate.late(|who| requests[who].future.is_none());
        next.extend(late.map(|(key, access, what)| {
            let kind = Kind::Acts { key, access, what };
            Step { who: LATE, node: 0, kind }
        }));
        // What happens when all is over makes no difference.
        if !next.is_empty() && happened.is_none() {
            let kind = program.happening.map(|what| Kind::Happens(what.word()));
            next.extend(kind.map(|kind| Step { who: WORLD, node: 0, kind }));
        }
        if next.is_empty() {
            if requests.iter().all(|request| request.future.is_none()) && !time.has_tasks() {
                break false;
            }
            if waited >= PATIENCE {
                break true;
            }
            // Nobody can go on, so time goes by.
            time.pass(TICK);
            waited += TICK;
            requests.iter_mut().filter(|request| request.future.is_some()).for_each(|request| {
                request.told.took += TICK;
            });
            continue;
        }
        let point = Point { next, faults: faults.len(), last, waited };
        let Some(choice @ Choice { who, verdict }) = choose(&point) else { return Ran::Left };
        let Some(&step) = point.next.iter().find(|step| step.who == who) else { return Ran::Strayed };
        let number = choices.len();
        choices.push(choice);
        if tells {
            steps.push(describe(step, verdict, &mut rows));
        }
        if verdict != Verdict::Applied {
            faults.push((who, verdict));
        }
        match (who, step.kind) {
            (LATE, _) => world.gate.do_late(),
            (WORLD, _) => {
                happened = Some(number);
                world.happen(program.happening.expect("something happens"));
            }
            (_, Kind::Acts { key, access, .. }) => {
                requests[who].dropped |= verdict.drops();
                if world.gate.judge(who, verdict) {
                    loses_write = Some(key);
                } else if (matches!(access, Access::Removes) || program.ops[who].ends())
                    && !matches!(access, Access::Reads)
                    && faults.iter().all(|(faulty, _)| *faulty != who)
                {
                    loses_write = loses_write.filter(|written| *written != key);
                }
            }
            (_, Kind::Leaves) => {
                requests[who].leaves = false;
                requests[who].told.left = Some(number);
            }
            (_, kind) => {
                requests[who].dropped |= verdict.drops();
                requests[who].go_on((world, time), who, kind, number);
            }
        }
        if who < requests.len() {
            last = Some(who);
        }
    };
    let lost = *world.lost.lock().unwrap();
    let told = requests.into_iter().zip(lost).map(|(request, lost)| {
        let Request { future, place, told, .. } = request;
        drop(future);
        Told { outcome: place.outcome.take(), lost, ..told }
    });
    let told = told.collect();
    let loses_write = loses_write.is_some() && faults.len() == 1;
    Ran::Whole(Finished { told, faults, loses_write, happened, choices, steps, stuck })
}

impl Request {
    fn next(&self, world: &World, who: usize) -> Option<Kind> {
        if self.leaves {
            return Some(Kind::Leaves);
        }
        if !self.began {
            return Some(Kind::Begins("arrives"));
        }
        if self.dropped && self.future.is_some() {
            return Some(Kind::GoesOn);
        }
        match world.gate.pending(who) {
            Pending::Asked { key, access, what } => Some(Kind::Acts { key, access, what }),
            Pending::Answered => Some(Kind::GoesOn),
            // What a task of it waits for comes by itself.
            Pending::Nothing if self.future.is_none() => None,
            Pending::Nothing if self.place.at_handler.get() => Some(Kind::Begins("is handled and commits")),
            Pending::Nothing => self.woken.0.load(Ordering::SeqCst).then_some(Kind::GoesOn),
        }
    }

    fn go_on(&mut self, (world, time): (&World, &Time), who: usize, kind: Kind, number: usize) {
        match kind {
            Kind::Begins(_) if !self.began => {
                self.began = true;
                self.told.began = Some(number);
            }
            Kind::Begins(_) => self.told.handled = Some(number),
            _ => {}
        }
        WHO.set(Some(who));
        if std::mem::take(&mut self.dropped) {
            drop(self.future.take());
        } else {
            world.gate.wake(who);
        }
        time.let_tasks_run();
        // The answer may be for a task of it, whose end is what it waits for.
        while let Some(future) = &mut self.future {
            self.woken.0.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&self.woken));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.future = None;
                self.leaves = true;
                self.told.done = Some(number);
            }
            time.let_tasks_run();
            if !self.woken.0.load(Ordering::SeqCst) {
                break;
            }
        }
        WHO.set(None);
    }
}
