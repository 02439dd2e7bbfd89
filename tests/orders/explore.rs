//! Every schedule of one program: runs it, goes back to the last point with an alternative, and runs it again.

use std::rc::Rc;

use tokio::runtime::Runtime;

use crate::gate::Verdict;
use crate::programs::Program;
use crate::schedule::{Choice, Finished, Kind, Point, run};
use crate::world::{Beginning, World};

/// How far a program is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How often the one request may go first although the other could go on; `None`: as often as it likes.
    pub(crate) preemptions: Option<usize>,
    pub(crate) faults: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) programs: u64,
    pub(crate) schedules: u64,
    /// Of these with a fault.
    pub(crate) faulty: u64,
    /// Left out, because another one differs from it by the order of steps that do not meet.
    pub(crate) pruned: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.programs += other.programs;
        self.schedules += other.schedules;
        self.faulty += other.faulty;
        self.pruned += other.pruned;
        self.failed += other.failed;
    }
}

/// One point of a run, and which of its alternatives was taken.
struct Branch {
    options: Vec<Choice>,
    taken: usize,
    /// Whether there is a request whose next step was tried before the other's here.
    asleep: [bool; 2],
}

/// The alternatives at a point: who ran last goes on first, without a fault first.
fn options(point: &Point, bounds: Bounds, preemptions: usize, asleep: [bool; 2]) -> Vec<Choice> {
    let first = point.last.unwrap_or(0);
    let mut options = Vec::new();
    for who in [first, 1 - first] {
        let Some(step) = point.next[who] else { continue };
        let preempts = point.last == Some(1 - who) && point.next[first].is_some();
        if asleep[who] || (preempts && bounds.preemptions.is_some_and(|most| preemptions >= most)) {
            continue;
        }
        let verdicts: &[Verdict] = match step.kind {
            Kind::Acts { reads, .. } if bounds.faults && !point.faulted => match reads {
                // What was read and not heard of was not read.
                true => &[Verdict::Applied, Verdict::Refused, Verdict::Silent, Verdict::DroppedBefore],
                false => &[
                    Verdict::Applied,
                    Verdict::Refused,
                    Verdict::Lost,
                    Verdict::Silent,
                    Verdict::DroppedBefore,
                    Verdict::DroppedAfter,
                ],
            },
            _ => &[Verdict::Applied],
        };
        options.extend(verdicts.iter().map(|&verdict| Choice { who, verdict }));
    }
    options
}

pub(crate) fn explore(
    (program, start, time): (&Program, &Rc<Beginning>, &Runtime),
    bounds: Bounds,
    tally: &mut Tally,
    mut check: impl FnMut(&World, &Finished) -> bool,
) {
    tally.programs += 1;
    let mut branches: Vec<Branch> = Vec::new();
    loop {
        let world = World::of(program, start);
        let (mut depth, mut preemptions, mut asleep) = (0, 0, [false; 2]);
        let finished = run((program, start, time), &world, false, |point| {
            if depth == branches.len() {
                let options = options(point, bounds, preemptions, asleep);
                branches.push(Branch { options, taken: 0, asleep });
            }
            let branch = &branches[depth];
            depth += 1;
            let choice @ Choice { who, .. } = *branch.options.get(branch.taken)?;
            let other = 1 - who;
            preemptions += usize::from(point.last == Some(other) && point.next[other].is_some());
            // What the other would do was tried before this step, or sleeps: nothing new comes of it after a step that
            // it does not meet. A bound forbids some of the orders that this relies on.
            let tried = branch.options[..branch.taken].iter().any(|tried| tried.who == other);
            asleep = [false; 2];
            asleep[other] = bounds.preemptions.is_none()
                && (tried || branch.asleep[other])
                && matches!((point.next[who], point.next[other]),
                    (Some(step), Some(others)) if step.is_independent_of(&others));
            Some(choice)
        });
        match finished {
            None => tally.pruned += 1,
            Some(finished) => {
                tally.schedules += 1;
                tally.faulty += u64::from(finished.fault.is_some());
                if !check(&world, &finished) {
                    tally.failed += 1;
                }
            }
        }
        while branches.last().is_some_and(|branch| branch.taken + 1 >= branch.options.len()) {
            branches.pop();
        }
        let Some(branch) = branches.last_mut() else { return };
        branch.taken += 1;
    }
}
