//! Steps and choices: who may do what next, what becomes of it, and which steps do not meet, so that their order makes
//! no difference.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use sealed_session::store::RowKey;

use crate::programs::{MOST, NAMES};

/// Beside the requests: what is late in the store, and what happens to the nodes.
pub(crate) const LATE: usize = MOST;
pub(crate) const WORLD: usize = MOST + 1;
pub(crate) const ACTORS: usize = MOST + 2;

/// What becomes of a call, or of a request that would go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// There is no answer, and it is applied after the look that follows.
    Late,
    /// Applied, and the driver repeats it, because it has got no answer.
    Repeated,
    /// Applied and acknowledged, and lost by the store some time later.
    Forgotten,
}

impl Verdict {
    /// With the letters behind the name of who takes the step.
    const LETTERS: [(Self, &str, &str); 9] = [
        (Self::Applied, "", ""),
        (Self::Refused, "r", ": refused"),
        (Self::Lost, "l", ": applied, but the answer is lost"),
        (Self::Silent, "s", ": applied, but there is no answer"),
        (Self::DroppedBefore, "d", ": not applied, and the request is dropped"),
        (Self::DroppedAfter, "D", ": applied, and the request is dropped"),
        (Self::Late, "t", ": no answer, and it will be applied later"),
        (Self::Repeated, "g", ": applied, and the driver repeats it"),
        (Self::Forgotten, "f", ": applied and answered, and the store will lose it"),
    ];

    fn letter(self) -> &'static str {
        Self::LETTERS.iter().find(|(verdict, ..)| *verdict == self).unwrap().1
    }

    pub(crate) fn told(self) -> &'static str {
        Self::LETTERS.iter().find(|(verdict, ..)| *verdict == self).unwrap().2
    }

    pub(crate) fn drops(self) -> bool {
        matches!(self, Self::DroppedBefore | Self::DroppedAfter)
    }

    /// Whether the call has its effect at that step.
    fn applies(self) -> bool {
        !matches!(self, Self::Refused | Self::DroppedBefore | Self::Late)
    }
}

/// What a call does to its row, as the row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Reads,
    /// It expects something else than what is there, and will as long as somebody else writes.
    Fails,
    Writes,
    Removes,
}

/// What somebody would do next, and what others could notice of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) who: usize,
    pub(crate) node: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It arrives, or the handler begins, which ends in a commit.
    Begins(&'static str),
    /// It goes on with the answer to its call, or with its turn.
    GoesOn,
    /// Its call has its effect.
    Acts { key: RowKey, access: Access, what: &'static str },
    /// Its answer leaves.
    Leaves,
    /// The keys or the time change for everybody.
    Happens(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) who: usize,
    pub(crate) verdict: Verdict,
}

/// Whether the order of two steps that could both be next makes no difference to anybody: they meet neither in a row nor
/// in the memory of a node, nor does the one begin when the other is known to be over.
pub(crate) fn are_independent(one: (Step, Verdict), other: (Step, Verdict)) -> bool {
    use Access::{Fails, Reads, Removes, Writes};
    let ((step, verdict), (others, other_verdict)) = (one, other);
    if step.who == others.who {
        return false;
    }
    match (step.kind, others.kind) {
        (Kind::Happens(_), _) | (_, Kind::Happens(_)) => false,
        (Kind::Acts { key, access, .. }, Kind::Acts { key: other_key, access: other_access, .. }) => {
            key != other_key
                || !verdict.applies()
                || !other_verdict.applies()
                || match (access, other_access) {
                    (Reads | Fails, Reads | Fails) => true,
                    (Fails, Writes) | (Writes, Fails) => true,
                    (Writes | Removes, _) | (_, Writes | Removes) => false,
                }
        }
        (Kind::Acts { .. }, _) | (_, Kind::Acts { .. }) => true,
        (Kind::Leaves, Kind::Begins(_)) | (Kind::Begins(_), Kind::Leaves) => false,
        (Kind::Leaves, _) | (_, Kind::Leaves) => true,
        _ => step.node != others.node,
    }
}

/// What has been done so far, without the order of what does not meet: two schedules of one program that agree in it
/// have led to the same state.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    steps: Vec<(Step, Verdict, u64)>,
    /// Of all steps, in any order.
    sum: u64,
    /// What had been done when time went by, and for how long it has.
    before: u64,
    waited: Duration,
}

impl Trace {
    pub(crate) fn push(&mut self, step: Step, verdict: Verdict) {
        let mut met = self.before;
        let mut number = 0_usize;
        for (earlier, earlier_verdict, hash) in &self.steps {
            number += usize::from(earlier.who == step.who);
            if !are_independent((*earlier, *earlier_verdict), (step, verdict)) {
                met = met.wrapping_add(*hash);
            }
        }
        let mut hasher = DefaultHasher::new();
        let access = match step.kind {
            Kind::Acts { access, .. } => Some(access),
            _ => None,
        };
        (met, number, step.who, verdict, access).hash(&mut hasher);
        let hash = hasher.finish();
        self.sum = self.sum.wrapping_add(hash);
        self.steps.push((step, verdict, hash));
    }

    /// Time has gone by, for all who wait.
    pub(crate) fn wait_until(&mut self, waited: Duration) {
        if self.waited == waited {
            return;
        }
        self.waited = waited;
        let mut hasher = DefaultHasher::new();
        (self.sum, self.before, waited).hash(&mut hasher);
        self.before = hasher.finish();
    }

    pub(crate) fn state(&self) -> u64 {
        self.sum ^ self.before
    }
}

fn name(who: usize) -> char {
    match who {
        LATE => 'L',
        WORLD => 'W',
        who => NAMES[who],
    }
}

/// The choices as a replay takes them.
pub(crate) fn written(choices: &[Choice]) -> String {
    choices.iter().map(|choice| format!("{}{}", name(choice.who), choice.verdict.letter())).collect()
}

pub(crate) fn read(text: &str) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for letter in text.chars() {
        match (0..ACTORS).find(|&who| name(who) == letter) {
            Some(who) => choices.push(Choice { who, verdict: Verdict::Applied }),
            None => {
                let known = Verdict::LETTERS.iter().find(|(_, known, _)| *known == letter.to_string());
                let last = choices.last_mut().expect("a verdict stands behind a step");
                last.verdict = known.unwrap_or_else(|| panic!("{letter:?} is no verdict")).0;
            }
        }
    }
    choices
}

/// A step in words; `rows` are those that were named so far.
pub(crate) fn describe(Step { who, kind, .. }: Step, verdict: Verdict, rows: &mut Vec<RowKey>) -> String {
    let name = name(who);
    match kind {
        Kind::Begins(what) => format!("{name} {what}"),
        Kind::GoesOn if verdict.drops() => format!("{name} is dropped as it would go on"),
        Kind::GoesOn => format!("{name} goes on"),
        Kind::Leaves => format!("{name} answers"),
        Kind::Happens(what) => format!("{name} {what}"),
        Kind::Acts { key, access, what } => {
            let known = rows.iter().position(|known| *known == key);
            let row = known.unwrap_or_else(|| {
                rows.push(key);
                rows.len() - 1
            });
            let fails = if access == Access::Fails { ", in vain" } else { "" };
            format!("{name} {what}, row {row}{fails}{}", verdict.told())
        }
    }
}
