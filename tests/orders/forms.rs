//! The two forms: what is explored and how far, in a minute and in an hour.

use std::env;

use crate::explore::{Bounds, COMMON, RARE};
use crate::programs::{Happening, Op, Program, Revoking, Setup, Special, Start};
use crate::steps::Verdict;

type Job = (Program, Bounds);

/// Every order.
const ORDERS: Bounds = Bounds { preemptions: None, faults: &[], prunes: true };

const fn preempted(preemptions: usize, faults: &'static [Verdict]) -> Bounds {
    Bounds { preemptions: Some(preemptions), faults, prunes: true }
}

const fn faulty(faults: &'static [Verdict]) -> Bounds {
    Bounds { preemptions: None, faults, prunes: true }
}

/// What three requests are made of.
const OF_THREE: &[Op] = &[
    Op::Read,
    Op::Set,
    Op::Increment,
    Op::Grow,
    Op::Renew,
    Op::LoginSame,
    Op::Destroy,
    Op::RevokeSubject,
    Op::Touch,
    Op::Save,
];

fn pairs(setup: Setup, start: Start, bounds: &[Bounds]) -> Vec<Job> {
    let all = Program::pairs(setup, start, None);
    all.iter().flat_map(|program| bounds.iter().map(|bounds| (program.clone(), *bounds))).collect()
}

fn happening(setup: Setup, start: Start, what: Happening, bounds: Bounds) -> Vec<Job> {
    Program::pairs(setup, start, Some(what)).into_iter().map(|program| (program, bounds)).collect()
}

fn triples(setup: Setup, start: Start, of: &[Op], bounds: Bounds) -> Vec<Job> {
    Program::triples(setup, start, of).into_iter().map(|program| (program, bounds)).collect()
}

/// What is explored, and how far. A part of it by `ORDERS_ONLY`, which is a part of the program's name, or by
/// `ORDERS_EVERY`, which takes one of so many.
pub(crate) fn jobs(long: bool) -> Vec<Job> {
    let only = env::var("ORDERS_ONLY").unwrap_or_default();
    let every = env::var("ORDERS_EVERY").map_or(1, |every| every.parse().unwrap());
    let jobs = if long { self::long() } else { short() };
    let jobs = jobs.into_iter().filter(|(program, _)| program.to_string().contains(&only));
    jobs.step_by(every).collect()
}

fn short() -> Vec<Job> {
    use Revoking::Default;
    use Special::{Apart, Behind, Closed, Cold, Idle, Rolling, Warm};
    let (one, two) = (Setup::of(1, Default, Cold), Setup::of(2, Default, Cold));
    let mut jobs = Vec::new();
    for &start in Start::ALL {
        let bounds: &[Bounds] = match start {
            Start::Cookie | Start::StoredOfAda => &[ORDERS, preempted(0, COMMON), preempted(0, RARE)],
            _ => &[ORDERS],
        };
        jobs.extend(pairs(two, start, bounds));
        let bounds: &[Bounds] = match start {
            Start::Stored => &[preempted(1, &[]), preempted(0, COMMON)],
            _ => &[preempted(1, &[])],
        };
        jobs.extend(pairs(one, start, bounds));
    }
    for special in [Warm, Rolling, Idle, Closed, Apart, Behind] {
        let setup = Setup::of(2, Default, special);
        for start in [Start::CookieOfAda, Start::DueCookie] {
            jobs.extend(pairs(setup, start, &[preempted(1, &[])]));
        }
    }
    for &what in Happening::ALL {
        for start in [Start::CookieOfAda, Start::Stored] {
            jobs.extend(happening(two, start, what, preempted(0, &[])));
        }
    }
    for start in [Start::CookieOfAda, Start::Stored] {
        jobs.extend(triples(two, start, OF_THREE, preempted(0, &[])));
    }
    jobs
}

fn long() -> Vec<Job> {
    let mut jobs = Vec::new();
    let setups = |special| {
        let of = move |nodes| Revoking::ALL.iter().map(move |&revoking| Setup::of(nodes, revoking, special));
        [1, 2].into_iter().flat_map(of)
    };
    for &special in Special::ALL {
        for setup in setups(special) {
            if special != Special::Cold && setup.revoking != Revoking::Default {
                continue;
            }
            for &start in Start::ALL {
                // Requests of one node meet in its memory at each step, so there is less to prune and more to run.
                let bounds = match (setup.nodes, special) {
                    (1, Special::Cold) => vec![ORDERS, preempted(1, COMMON), preempted(1, RARE)],
                    (1, _) => vec![preempted(2, &[]), preempted(0, COMMON)],
                    (_, Special::Cold) => vec![faulty(COMMON), faulty(RARE)],
                    _ => vec![faulty(COMMON)],
                };
                jobs.extend(pairs(setup, start, &bounds));
            }
        }
    }
    for setup in setups(Special::Cold).filter(|setup| setup.revoking == Revoking::Default) {
        for &start in Start::ALL {
            for &what in Happening::ALL {
                jobs.extend(happening(setup, start, what, preempted(1, &[])));
            }
        }
        for &start in Start::ALL {
            jobs.extend(triples(setup, start, OF_THREE, preempted(2, &[])));
            jobs.extend(triples(setup, start, OF_THREE, preempted(0, COMMON)));
        }
    }
    jobs
}
