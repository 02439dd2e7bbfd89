//! Every order of events: two or three requests over the real code and a store whose every call is a point where the other one
//! may go first.
//!
//! `cargo test --test orders` takes two or three minutes; `ORDERS=long` runs everything. A schedule that fails is printed with the
//! line that runs it again.

mod browser;
#[path = "../device_key/mod.rs"]
mod device_key;
mod devices;
mod explore;
mod findings;
mod forms;
mod gate;
mod invariants;
mod programs;
mod requests;
mod rosters;
mod schedule;
mod steps;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::explore::{Bounds, COMMON, Tally, explore};
use crate::programs::{NAMES, Op, Program, Special, Start};
use crate::requests::{Answer, Outcome};
use crate::schedule::{Finished, Ran, run};
use crate::steps::{read, written};
use crate::world::{Beginning, Beginnings, Time, World};

/// How far it has come is told after so many explorations.
const TOLD_EVERY: u64 = 1000;
/// So many kinds of failures are shown with their steps.
const SHOWN: usize = 40;

/// What does not hold after a schedule.
fn broken(of: (&Program, &Beginning, &Time), world: &World, finished: &Finished) -> Vec<String> {
    let check = match of.0.setup.special {
        special if special.is_listed() => rosters::broken,
        special if special.is_bound() => devices::broken,
        _ => invariants::broken,
    };
    check(of, world, finished)
}

/// Runs one schedule and tells its steps and what does not hold after it.
fn replay(
    (program, start, time): (&Program, &Rc<Beginning>, &Time),
    choices: &str,
) -> (Finished, Vec<String>) {
    let world = World::of(program, start, time);
    let choices = read(choices);
    let mut next = choices.iter();
    let ran = run((program, start, time), &world, true, |_| next.next().copied());
    let Ran::Whole(finished) = ran else { panic!("{program}: other steps are to come than were given") };
    assert!(next.next().is_none(), "{program}: there are fewer steps than were given");
    let broken = broken((program, start, time), &world, &finished);
    (finished, broken)
}

/// The schedule as a list of steps, and the line that runs it again.
fn told(program: &Program, finished: &Finished, broken: &[String]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{program}\n");
    for (number, step) in finished.steps.iter().enumerate() {
        writeln!(text, "  {number:2} {step}").unwrap();
    }
    for (who, op) in program.ops.iter().enumerate() {
        let outcome = &finished.told[who].outcome;
        let answer = match &outcome.answer {
            Some(Answer::Cookie(_)) => "a cookie".to_owned(),
            Some(answer) => format!("{answer:?}"),
            None => "dropped".to_owned(),
        };
        let lost = if finished.told[who].lost { ", told that the session is over" } else { "" };
        writeln!(text, "  {} ({}): {answer}{lost}", NAMES[who], op.word()).unwrap();
    }
    broken.iter().for_each(|sentence| writeln!(text, "  BROKEN: {sentence}").unwrap());
    let choices = written(&finished.choices);
    write!(
        text,
        "ORDERS_REPLAY='{program} {choices}' cargo test --all-features --test orders replay -- --nocapture"
    )
    .unwrap();
    text
}

#[test]
fn replay_what_the_environment_says() {
    let Ok(line) = env::var("ORDERS_REPLAY") else { return };
    let (program, choices) = line.rsplit_once(' ').unwrap();
    let (program, time) = (Program::parse(program), Time::new());
    let start = Beginnings::default().of(&program, &time);
    let (finished, broken) = replay((&program, &start, &time), choices);
    println!("{}", told(&program, &finished, &broken));
    assert!(broken.is_empty());
}

#[test]
fn what_is_pruned_leads_to_nothing_else() {
    let time = Time::new();
    for (text, preemptions, faults) in [
        ("2 default cold cookie set grow", None, &[][..]),
        ("1 off cold stored increment renew", None, &[]),
        ("2 default cold stored set destroy", Some(1), COMMON),
        ("1 default cold cookie-of-ada touch renew", Some(1), COMMON),
        ("2 default cold cookie read set grow", Some(2), &[]),
    ] {
        let program = Program::parse(text);
        let start = Beginnings::default().of(&program, &time);
        let outcomes = |prunes| {
            let (mut outcomes, mut tally) = (BTreeSet::new(), Tally::default());
            let bounds = Bounds { preemptions, faults, most_faults: 1, prunes };
            explore((&program, &start, &time), bounds, &mut tally, |_, finished| {
                let told = finished.told.iter().map(|told| {
                    let Outcome { loaded, left, answer, .. } = &told.outcome;
                    let answer = answer.as_ref().map(std::mem::discriminant);
                    format!("{loaded:?} {left:?} {answer:?} {}", told.lost)
                });
                outcomes.insert((told.collect::<Vec<_>>(), finished.faults.clone()));
                true
            });
            (outcomes, tally.schedules)
        };
        let ((expected, most), (found, fewest)) = (outcomes(false), outcomes(true));
        assert_eq!(found, expected, "{text}");
        assert!(fewest < most, "{text}: {fewest} of {most}");
        println!("{text}: {fewest} of {most} schedules, {} outcomes", found.len());
    }
}

#[test]
fn what_is_known_to_be_broken_still_is() {
    let time = Time::new();
    for finding in findings::KNOWN {
        let (program, choices) = finding.schedule.rsplit_once(' ').unwrap();
        let program = Program::parse(program);
        let start = Beginnings::default().of(&program, &time);
        let (finished, broken) = replay((&program, &start, &time), choices);
        println!("{}\n{}\n", finding.what, told(&program, &finished, &broken));
        assert!(!broken.is_empty(), "{}: it holds now, so take it off the list", finding.what);
        assert!(findings::is_known(&program, &broken), "{}: {broken:?}", finding.what);
    }
}

#[test]
fn every_order_of_requests_keeps_what_was_promised() {
    if env::var("ORDERS_REPLAY").is_ok() {
        return;
    }
    let long = env::var("ORDERS").is_ok_and(|form| form == "long");
    let jobs = forms::jobs(long);
    let threads = thread::available_parallelism().unwrap().get();
    let next = AtomicUsize::new(0);
    let (all, failures) = (Mutex::new(Tally::default()), Mutex::new(BTreeMap::new()));
    let parts = Mutex::new(BTreeMap::new());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (time, starts) = (Time::new(), Beginnings::default());
                while let Some((program, bounds)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = &starts.of(program, &time);
                    let (mut tally, since) = (Tally::default(), Instant::now());
                    explore((program, start, &time), *bounds, &mut tally, |world, finished| {
                        let broken = broken((program, start, &time), world, finished);
                        let unknown = !broken.is_empty() && !findings::is_known(program, &broken);
                        if unknown {
                            let mut failures = failures.lock().unwrap();
                            let (count, first) =
                                failures.entry(broken[0].clone()).or_insert_with(|| (0_u64, None));
                            *count += 1;
                            let shorter = |known: &(Program, String, usize)| finished.choices.len() < known.2;
                            if first.as_ref().is_none_or(shorter) {
                                let choices = &finished.choices;
                                *first = Some((program.clone(), written(choices), choices.len()));
                            }
                        }
                        !unknown
                    });
                    let mut all = all.lock().unwrap();
                    all.add(&tally);
                    if all.programs % TOLD_EVERY == 0 {
                        let (failed, time) = (all.failed, begun.elapsed());
                        println!("{} of {}, {failed} failures, {time:.0?}", all.programs, jobs.len());
                    }
                    let mut parts = parts.lock().unwrap();
                    let (part, time) = parts
                        .entry(forms::part(program, bounds))
                        .or_insert_with(|| (Tally::default(), Duration::ZERO));
                    part.add(&tally);
                    *time += since.elapsed();
                }
            });
        }
    });
    let tally = all.into_inner().unwrap();
    for (part, (tally, time)) in parts.into_inner().unwrap() {
        let Tally { programs, schedules, faulty, pruned, .. } = tally;
        println!(
            "{part}: {programs}, {schedules} schedules, {faulty} with a fault, {pruned} pruned, {time:.1?}"
        );
    }
    println!(
        "{} explorations of {} operations, {} starts and {} kinds of nodes: {} schedules, {} of them with a fault, {} \
         pruned, {:.1?}",
        tally.programs,
        Op::ALL.len(),
        Start::ALL.len(),
        Special::ALL.len(),
        tally.schedules,
        tally.faulty,
        tally.pruned,
        begun.elapsed()
    );
    let failures = failures.into_inner().unwrap();
    let (time, starts) = (Time::new(), Beginnings::default());
    for (kind, (count, first)) in failures.iter().take(SHOWN) {
        let (program, choices, _) = first.as_ref().unwrap();
        let (finished, broken) = replay((program, &starts.of(program, &time), &time), choices);
        println!("\n{count} times: {kind}\n{}", told(program, &finished, &broken));
    }
    assert!(failures.is_empty(), "{} kinds of failures in {} schedules", failures.len(), tally.failed);
}
