//! The two forms: what is explored and how far, in a minute and in an hour.

use std::env;

use crate::explore::{Bounds, COMMON, RARE};
use crate::programs::{Happening, Op, Program, Revoking, Setup, Special, Start};
use crate::steps::Verdict;

type Job = (Program, Bounds);

/// Every order.
const ORDERS: Bounds = Bounds { preemptions: None, faults: &[], most_faults: 0, prunes: true };

const fn preempted(preemptions: usize, faults: &'static [Verdict]) -> Bounds {
    Bounds { preemptions: Some(preemptions), faults, most_faults: 1, prunes: true }
}

const fn faulty(faults: &'static [Verdict]) -> Bounds {
    Bounds { preemptions: None, faults, most_faults: 1, prunes: true }
}

/// What three requests are made of.
const OF_THREE: &[Op] =
    &[Op::Read, Op::Increment, Op::Grow, Op::Renew, Op::LoginSame, Op::Destroy, Op::RevokeSubject, Op::Touch];

/// What meets around the login of a visitor, whose cart it is to keep.
const OF_THREE_AROUND_A_LOGIN: &[Op] = &[Op::Grow, Op::LoginSame, Op::LoginOther, Op::Revoke, Op::Destroy];

/// And where there are lists.
const OF_THREE_WITH_LISTS: &[Op] = &[
    Op::Renew,
    Op::LoginSame,
    Op::RevokeSubject,
    Op::LoginThere,
    Op::LoginLargeThere,
    Op::List,
    Op::EndOther,
    Op::Label,
];

/// And where sessions are bound to devices.
const OF_THREE_WITH_DEVICES: &[Op] = &[
    Op::Read,
    Op::Grow,
    Op::Renew,
    Op::LoginSame,
    Op::Destroy,
    Op::StolenGrow,
    Op::StolenRenew,
    Op::StolenDestroy,
    Op::StolenLoginSame,
    Op::StolenLoginOther,
];

/// What she may have begun with.
const OF_ADA: &[Start] = &[
    Start::CookieOfAda,
    Start::StoredOfAda,
    Start::RetiredCookie,
    Start::RetiredStored,
    Start::DueCookie,
    Start::DueStored,
    Start::Before,
];

/// Two faults, which have nothing to do with one another.
const fn twice(faults: &'static [Verdict]) -> Bounds {
    Bounds { most_faults: 2, ..preempted(0, faults) }
}

/// All that may go wrong.
const ANY: &[Verdict] = &[
    Verdict::Refused,
    Verdict::Lost,
    Verdict::Silent,
    Verdict::DroppedBefore,
    Verdict::DroppedAfter,
    Verdict::Late,
    Verdict::Repeated,
    Verdict::Forgotten,
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

/// What is explored, and how far. A part of it by `ORDERS_ONLY`, which is a part of the program's name or of what the figures
/// call it, or by `ORDERS_EVERY`, which takes one of so many.
pub(crate) fn jobs(long: bool) -> Vec<Job> {
    let only = env::var("ORDERS_ONLY").unwrap_or_default();
    let every = env::var("ORDERS_EVERY").map_or(1, |every| every.parse().unwrap());
    let jobs = if long { self::long() } else { short() };
    let is_meant = |(program, bounds): &Job| {
        program.to_string().contains(&only) || part(program, bounds).contains(&only)
    };
    let jobs = jobs.into_iter().filter(is_meant);
    jobs.step_by(every).collect()
}

/// What belongs together in the figures.
pub(crate) fn part(program: &Program, bounds: &Bounds) -> String {
    let Setup { nodes, revoking, special } = program.setup;
    let happens = if program.happening.is_some() { ", something happens" } else { "" };
    let preemptions = match bounds.preemptions {
        None => "every order".to_owned(),
        Some(most) => format!("{most} preemptions"),
    };
    let faults = match bounds.faults {
        [] => "",
        _ if bounds.most_faults > 1 => ", two faults",
        [Verdict::Late, ..] => ", rare faults",
        _ => ", common faults",
    };
    format!(
        "{} requests on {nodes}, {}, {}{happens}, {preemptions}{faults}",
        program.ops.len(),
        revoking.word(),
        special.word()
    )
}

/// States that differ most: where the data is, whose it is, and whether something is due.
const TELLING: &[Start] =
    &[Start::CookieOfAda, Start::StoredOfAda, Start::DueStored, Start::RetiredCookie, Start::Before];

/// Where lists are looked at.
const WITH_LISTS: &[Start] = &[Start::None, Start::CookieOfAda, Start::StoredOfAda, Start::RetiredCookie];

const TWO: Setup = Setup::of(2, Revoking::Default, Special::Cold);
const ONE: Setup = Setup::of(1, Revoking::Default, Special::Cold);

fn short() -> Vec<Job> {
    let mut jobs = Vec::new();
    for &start in Start::ALL {
        let some = if TELLING.contains(&start) { 1 } else { 3 };
        jobs.extend(pairs(TWO, start, &[preempted(1, &[])]).into_iter().step_by(some));
        jobs.extend(pairs(ONE, start, &[preempted(1, &[])]).into_iter().step_by(4));
    }
    for (setup, start) in [(TWO, Start::CookieOfAda), (TWO, Start::StoredOfAda), (ONE, Start::Stored)] {
        jobs.extend(pairs(setup, start, &[preempted(0, COMMON)]).into_iter().step_by(2));
        jobs.extend(pairs(setup, start, &[preempted(0, RARE)]).into_iter().step_by(3));
    }
    for (setup, start) in [(TWO, Start::CookieOfAda), (ONE, Start::StoredOfAda)] {
        jobs.extend(pairs(setup, start, &[twice(COMMON)]).into_iter().step_by(15));
    }
    // Where others write over what a writer has not been told of.
    let writers = pairs(TWO, Start::StoredOfAda, &[preempted(1, RARE), preempted(1, COMMON)]);
    let writes = |op: &Op| matches!(op, Op::Increment | Op::Set | Op::Save);
    jobs.extend(writers.into_iter().filter(|(program, _)| program.ops.iter().all(writes)));
    for special in Special::unlisted().skip(1) {
        let setup = Setup::of(2, Revoking::Default, special);
        jobs.extend(pairs(setup, Start::CookieOfAda, &[preempted(0, &[])]));
    }
    for special in Special::listed() {
        for &start in WITH_LISTS {
            let setup = Setup::of(2, Revoking::Default, special);
            jobs.extend(pairs(setup, start, &[preempted(1, &[])]).into_iter().step_by(5));
            jobs.extend(pairs(setup, start, &[preempted(0, COMMON)]).into_iter().step_by(29));
            jobs.extend(pairs(setup, start, &[preempted(0, RARE)]).into_iter().step_by(53));
        }
    }
    for special in Special::bound() {
        let setup = Setup::of(2, Revoking::Default, special);
        for start in [Start::CookieOfAda, Start::StoredOfAda] {
            jobs.extend(pairs(setup, start, &[preempted(1, &[])]));
            jobs.extend(pairs(setup, start, &[preempted(0, COMMON)]).into_iter().step_by(4));
        }
    }
    for &what in Happening::ALL {
        jobs.extend(happening(TWO, Start::StoredOfAda, what, preempted(0, &[])).into_iter().step_by(5));
    }
    jobs.extend(triples(TWO, Start::StoredOfAda, OF_THREE, preempted(0, &[])).into_iter().step_by(3));
    jobs.extend(
        triples(TWO, Start::Cookie, OF_THREE_AROUND_A_LOGIN, preempted(0, &[])).into_iter().step_by(2),
    );
    for special in Special::listed() {
        let setup = Setup::of(2, Revoking::Default, special);
        let triples = triples(setup, Start::CookieOfAda, OF_THREE_WITH_LISTS, preempted(0, &[]));
        jobs.extend(triples.into_iter().step_by(6));
    }
    jobs
}

fn long() -> Vec<Job> {
    use Revoking::{Default, Every, Off};
    let mut jobs = Vec::new();
    for &start in Start::ALL {
        for revoking in [Default, Every, Off] {
            // Requests of one node meet in its memory at each step, so there is less to prune and more to run.
            let one = Setup::of(1, revoking, Special::Cold);
            jobs.extend(pairs(one, start, &[preempted(2, &[]), preempted(0, COMMON)]));
        }
        jobs.extend(pairs(ONE, start, &[preempted(0, RARE)]));
        jobs.extend(pairs(TWO, start, &[faulty(COMMON)]));
        jobs.extend(pairs(Setup::of(2, Off, Special::Cold), start, &[faulty(COMMON)]));
        for &what in Happening::ALL {
            jobs.extend(happening(TWO, start, what, preempted(0, &[])));
        }
    }
    for special in Special::listed() {
        for &start in WITH_LISTS {
            for setup in [1, 2].map(|nodes| Setup::of(nodes, Default, special)) {
                jobs.extend(pairs(
                    setup,
                    start,
                    &[preempted(2, &[]), preempted(1, COMMON), preempted(0, RARE)],
                ));
            }
        }
    }
    for special in Special::bound() {
        for &start in OF_ADA {
            for setup in
                [Setup::of(1, Default, special), Setup::of(2, Default, special), Setup::of(2, Every, special)]
            {
                jobs.extend(pairs(
                    setup,
                    start,
                    &[preempted(2, &[]), preempted(1, COMMON), preempted(0, RARE)],
                ));
            }
        }
        for start in [Start::CookieOfAda, Start::StoredOfAda] {
            for setup in [1, 2].map(|nodes| Setup::of(nodes, Default, special)) {
                jobs.extend(triples(setup, start, OF_THREE_WITH_DEVICES, preempted(1, &[])));
            }
        }
    }
    for &start in TELLING {
        jobs.extend([ONE, TWO].into_iter().flat_map(|setup| pairs(setup, start, &[twice(ANY)])));
        jobs.extend(pairs(ONE, start, &[preempted(1, COMMON)]));
        jobs.extend(pairs(TWO, start, &[faulty(RARE)]));
        jobs.extend(pairs(Setup::of(2, Every, Special::Cold), start, &[faulty(COMMON)]));
        for &what in Happening::ALL {
            jobs.extend(happening(ONE, start, what, preempted(0, &[])));
        }
    }
    for start in [Start::Cookie, Start::Stored] {
        for setup in [ONE, TWO] {
            jobs.extend(triples(setup, start, OF_THREE_AROUND_A_LOGIN, preempted(2, &[])));
        }
        jobs.extend(triples(TWO, start, OF_THREE_AROUND_A_LOGIN, preempted(0, COMMON)));
    }
    for start in [Start::CookieOfAda, Start::StoredOfAda] {
        jobs.extend(pairs(ONE, start, &[ORDERS]));
        for special in Special::unlisted().skip(1) {
            jobs.extend(pairs(Setup::of(1, Default, special), start, &[preempted(1, &[])]));
            jobs.extend(pairs(Setup::of(2, Default, special), start, &[faulty(COMMON)]));
        }
        for &what in Happening::ALL {
            jobs.extend(happening(TWO, start, what, preempted(1, &[])));
        }
        for special in Special::listed() {
            for setup in [1, 2].map(|nodes| Setup::of(nodes, Default, special)) {
                jobs.extend(triples(setup, start, OF_THREE_WITH_LISTS, preempted(1, &[])));
            }
        }
        for setup in [ONE, TWO] {
            jobs.extend(triples(setup, start, OF_THREE, preempted(2, &[])));
            jobs.extend(triples(setup, start, OF_THREE, preempted(0, COMMON)));
        }
    }
    jobs
}
