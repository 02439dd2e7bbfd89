//! Every schedule of one program: runs it, goes back to the last point with an alternative, and runs it again.

use std::collections::HashSet;
use std::rc::Rc;

use crate::gate::Pending;
use crate::programs::Program;
use crate::schedule::{Finished, Point, Ran, run};
use crate::steps::{Access, Choice, Kind, LATE, Step, Trace, Verdict, WORLD, are_independent};
use crate::world::{Beginning, Time, World};

/// Lots decide next to nothing: whether two of 256 groups of ids are one.
const MOST_STRAYED: usize = 100;

/// How far a program is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How often another request may go first although the one before could go on; `None`: as often as it likes.
    pub(crate) preemptions: Option<usize>,
    /// What may go wrong, and how often in a schedule.
    pub(crate) faults: &'static [Verdict],
    pub(crate) most_faults: usize,
    /// Whether schedules are left out that lead to nothing else.
    pub(crate) prunes: bool,
}

/// What may go wrong with one call or one client.
pub(crate) const COMMON: &[Verdict] =
    &[Verdict::Refused, Verdict::Lost, Verdict::Silent, Verdict::DroppedBefore, Verdict::DroppedAfter];
/// What stores and drivers do seldom.
pub(crate) const RARE: &[Verdict] = &[Verdict::Late, Verdict::Repeated, Verdict::Forgotten];

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
    /// What was tried before, and has met nothing since.
    asleep: Vec<Choice>,
}

/// What may become of a step, in the order in which it is tried.
fn verdicts(step: &Step, bounds: Bounds, faults: usize) -> impl Iterator<Item = Verdict> {
    use Verdict::{Applied, DroppedAfter, DroppedBefore, Forgotten, Late, Lost, Refused, Repeated, Silent};
    let wrong: &[Verdict] = match step.kind {
        _ if faults >= bounds.most_faults || step.who == LATE => &[],
        // What was read and not heard of was not read.
        Kind::Acts { access: Access::Reads, .. } => &[Refused, Silent, DroppedBefore],
        // Nor was written what would not have been.
        Kind::Acts { access: Access::Fails, .. } => &[Refused, Silent, DroppedBefore, Late],
        Kind::Acts { access: Access::Writes, .. } => {
            &[Refused, Lost, Silent, DroppedBefore, DroppedAfter, Late, Repeated, Forgotten]
        }
        Kind::Acts { access: Access::Removes, .. } => {
            &[Refused, Lost, Silent, DroppedBefore, DroppedAfter, Late, Repeated]
        }
        Kind::GoesOn | Kind::Begins(_) | Kind::Leaves | Kind::Happens(_) => &[],
    };
    [Applied].into_iter().chain(wrong.iter().copied().filter(move |wrong| bounds.faults.contains(wrong)))
}

/// The alternatives at a point: who ran last goes on first, without a fault first.
fn options(
    point: &Point,
    world: &World,
    bounds: Bounds,
    preemptions: usize,
    asleep: &[Choice],
) -> Vec<Choice> {
    let mut next: Vec<&Step> = point.next.iter().collect();
    next.sort_by_key(|step| point.last != Some(step.who));
    let mut options = Vec::new();
    for step @ &&Step { who, kind, .. } in &next {
        if preempts(point, who) && bounds.preemptions.is_some_and(|most| preemptions >= most) {
            continue;
        }
        options.extend(verdicts(step, bounds, point.faults).map(|verdict| Choice { who, verdict }));
        // It has waited for its turn, or for time to go by, and its client goes away.
        let waited = kind == Kind::GoesOn && who < LATE && world.gate.pending(who) == Pending::Nothing;
        if waited && point.faults < bounds.most_faults && bounds.faults.contains(&Verdict::DroppedBefore) {
            options.push(Choice { who, verdict: Verdict::DroppedBefore });
        }
    }
    options.retain(|option| !asleep.contains(option));
    options
}

fn preempts(point: &Point, who: usize) -> bool {
    let goes_on = |last: usize| point.next.iter().any(|step| step.who == last);
    who != LATE && who != WORLD && point.last.is_some_and(|last| last != who && goes_on(last))
}

/// What has been tried at this point or before, and comes to nothing new after a step that it does not meet.
fn still_asleep(branch: &Branch, point: &Point, choice: Choice) -> Vec<Choice> {
    let step = |who| point.next.iter().find(|step: &&Step| step.who == who);
    let Some(taken) = step(choice.who) else { return Vec::new() };
    let tried = branch.asleep.iter().chain(&branch.options[..branch.taken]);
    let sleeps = |tried: &&Choice| {
        step(tried.who)
            .is_some_and(|other| are_independent((*taken, choice.verdict), (*other, tried.verdict)))
    };
    tried.filter(sleeps).copied().collect()
}

pub(crate) fn explore(
    (program, start, time): (&Program, &Rc<Beginning>, &Time),
    bounds: Bounds,
    tally: &mut Tally,
    mut check: impl FnMut(&World, &Finished) -> bool,
) {
    tally.programs += 1;
    let mut branches: Vec<Branch> = Vec::new();
    // With a bound some of the orders are forbidden that sleeping relies on, so states are remembered instead.
    let mut seen: HashSet<(u64, Option<usize>, usize)> = HashSet::new();
    let mut strayed = 0;
    let (sleeps, remembers) =
        (bounds.prunes && bounds.preemptions.is_none(), bounds.prunes && bounds.preemptions.is_some());
    loop {
        let world = World::of(program, start, time);
        let (mut depth, mut preemptions, mut asleep) = (0, 0, Vec::new());
        let mut trace = Trace::default();
        let ran = run((program, start, time), &world, false, |point| {
            trace.wait_until(point.waited);
            if depth == branches.len() {
                if remembers && !seen.insert((trace.state(), point.last, preemptions)) {
                    return None;
                }
                let options = options(point, &world, bounds, preemptions, &asleep);
                branches.push(Branch { options, taken: 0, asleep: std::mem::take(&mut asleep) });
            }
            let branch = &branches[depth];
            depth += 1;
            let choice = *branch.options.get(branch.taken)?;
            preemptions += usize::from(preempts(point, choice.who));
            if remembers && let Some(step) = point.next.iter().find(|step| step.who == choice.who) {
                trace.push(*step, choice.verdict);
            }
            asleep = if sleeps { still_asleep(branch, point, choice) } else { Vec::new() };
            Some(choice)
        });
        match ran {
            Ran::Strayed => {
                strayed += 1;
                assert!(strayed < MOST_STRAYED, "{program}: what is drawn by lot decides what happens");
                continue;
            }
            Ran::Left => tally.pruned += 1,
            Ran::Whole(finished) => {
                tally.schedules += 1;
                tally.faulty += u64::from(!finished.faults.is_empty());
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
