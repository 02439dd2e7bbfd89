//! Every order of events: two requests over the real code and a store whose every call is a point where the other one
//! may go first.
//!
//! `cargo test --test orders` takes a minute; `ORDERS=long` runs everything. A schedule that fails is printed with the
//! line that runs it again.

mod explore;
mod findings;
mod gate;
mod invariants;
mod programs;
mod schedule;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::explore::{Bounds, Tally, explore};
use crate::programs::{Op, Outcome, Program, Revoking, Setup, Start};
use crate::schedule::{Finished, read, run, written};
use crate::world::{Beginning, World};

const ONE_COLD: Setup = Setup::of(1, Revoking::Default, false);
const TWO_COLD: Setup = Setup::of(2, Revoking::Default, false);
const TWO_WARM: Setup = Setup::of(2, Revoking::Default, true);

/// The breaker in front of a store that has failed is closed again.
const RECOVERED: Duration = Duration::from_secs(5);

/// So many kinds of failures are shown with their steps.
const SHOWN: usize = 20;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// One of every kind of start, each made once.
fn beginnings() -> BTreeMap<Start, Rc<Beginning>> {
    Start::ALL.iter().map(|&start| (start, Rc::new(Beginning::of(start)))).collect()
}

fn broken(
    program: &Program,
    start: &Beginning,
    time: &Runtime,
    world: &World,
    finished: &Finished,
) -> Vec<String> {
    if finished.fault.is_some() {
        time.block_on(tokio::time::advance(RECOVERED));
    }
    invariants::broken(program, start, world, finished)
}

/// Runs one schedule and tells its steps and what does not hold after it.
fn replay(
    program: &Program,
    start: &Rc<Beginning>,
    time: &Runtime,
    choices: &str,
) -> (Finished, Vec<String>) {
    let world = World::of(program, start);
    let choices = read(choices);
    let mut next = choices.iter();
    let finished = run((program, start, time), &world, true, |_| {
        let choice =
            next.next().unwrap_or_else(|| panic!("{program}: more steps are to come than were given"));
        Some(*choice)
    });
    let finished = finished.unwrap();
    assert!(next.next().is_none(), "{program}: there are fewer steps than were given");
    let broken = broken(program, start, time, &world, &finished);
    (finished, broken)
}

/// The schedule as a list of steps, and the line that runs it again.
fn told(program: &Program, finished: &Finished, broken: &[String]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{program}\n");
    for (number, step) in finished.steps.iter().enumerate() {
        writeln!(text, "  {number:2} {step}").unwrap();
    }
    for who in [0, 1] {
        let outcome = &finished.told[who].outcome;
        let answer = match &outcome.answer {
            Some(programs::Answer::Cookie(_)) => "a cookie".to_owned(),
            Some(answer) => format!("{answer:?}"),
            None => "dropped".to_owned(),
        };
        let lost = if finished.told[who].lost { ", told that the session is over" } else { "" };
        writeln!(text, "  {} ({}): {answer}{lost}", programs::NAMES[who], program.ops[who].word()).unwrap();
    }
    broken.iter().for_each(|sentence| writeln!(text, "  BROKEN: {sentence}").unwrap());
    let choices = written(&finished.choices);
    write!(
        text,
        "ORDERS_REPLAY='{program} {choices}' cargo test --features memory --test orders replay -- --nocapture"
    )
    .unwrap();
    text
}

#[test]
fn replay_what_the_environment_says() {
    let Ok(line) = env::var("ORDERS_REPLAY") else { return };
    let (program, choices) = line.rsplit_once(' ').unwrap();
    let (program, time) = (Program::parse(program), runtime());
    let _time = time.enter();
    let start = Rc::new(Beginning::of(program.start));
    let (finished, broken) = replay(&program, &start, &time, choices);
    println!("{}", told(&program, &finished, &broken));
    assert!(broken.is_empty());
}

#[test]
fn what_is_pruned_leads_to_nothing_else() {
    let time = runtime();
    let _time = time.enter();
    // A bound that is never reached switches the pruning off.
    let [all, pruned] = [Some(usize::MAX), None].map(|preemptions| Bounds { preemptions, faults: false });
    for text in ["2 default cold cookie set grow", "1 off cold stored increment renew"] {
        let program = Program::parse(text);
        let start = Rc::new(Beginning::of(program.start));
        let outcomes = |bounds| {
            let (mut outcomes, mut tally) = (BTreeSet::new(), Tally::default());
            explore((&program, &start, &time), bounds, &mut tally, |_, finished| {
                let told = finished.told.iter().map(|told| {
                    let Outcome { loaded, left, answer, .. } = &told.outcome;
                    let answer = answer.as_ref().map(std::mem::discriminant);
                    format!("{loaded:?} {left:?} {answer:?} {}", told.lost)
                });
                outcomes.insert(told.collect::<Vec<_>>());
                true
            });
            (outcomes, tally.schedules)
        };
        let ((expected, most), (found, fewest)) = (outcomes(all), outcomes(pruned));
        assert_eq!(found, expected, "{text}");
        assert!(fewest < most, "{text}: {fewest} of {most}");
        println!("{text}: {fewest} of {most} schedules, {} outcomes", found.len());
    }
}

#[test]
fn what_is_known_to_be_broken_still_is() {
    let time = runtime();
    let _time = time.enter();
    for finding in findings::KNOWN {
        let (program, choices) = finding.schedule.rsplit_once(' ').unwrap();
        let program = Program::parse(program);
        let start = Rc::new(Beginning::of(program.start));
        let (finished, broken) = replay(&program, &start, &time, choices);
        println!("{}\n{}\n", finding.what, told(&program, &finished, &broken));
        assert!(!broken.is_empty(), "{}: it holds now, so take it off the list", finding.what);
        assert!(findings::is_known(&broken), "{}: {broken:?}", finding.what);
    }
}

#[test]
fn every_order_of_two_requests_keeps_what_was_promised() {
    if env::var("ORDERS_REPLAY").is_ok() {
        return;
    }
    let long = env::var("ORDERS").is_ok_and(|form| form == "long");
    let jobs = jobs(long);
    let threads = if long { thread::available_parallelism().unwrap().get() } else { 1 };
    let next = AtomicUsize::new(0);
    let (all, failures) = (Mutex::new(Tally::default()), Mutex::new(BTreeMap::new()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let time = runtime();
                let _time = time.enter();
                let starts = beginnings();
                while let Some((program, bounds)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = &starts[&program.start];
                    let mut tally = Tally::default();
                    explore((program, start, &time), *bounds, &mut tally, |world, finished| {
                        let broken = broken(program, start, &time, world, finished);
                        let unknown = !broken.is_empty() && !findings::is_known(&broken);
                        if unknown {
                            let kind = format!(
                                "{} {} | {}",
                                program.start.word(),
                                program.ops.map(Op::word).join(" "),
                                broken[0]
                            );
                            let mut failures = failures.lock().unwrap();
                            let (count, first) = failures.entry(kind).or_insert_with(|| (0_u64, None));
                            *count += 1;
                            let shorter = |known: &(Program, String)| finished.choices.len() < known.1.len();
                            if first.as_ref().is_none_or(shorter) {
                                *first = Some((*program, written(&finished.choices)));
                            }
                        }
                        !unknown
                    });
                    all.lock().unwrap().add(&tally);
                }
            });
        }
    });
    let tally = all.into_inner().unwrap();
    println!(
        "{} explorations of {} starts and {} setups: {} schedules, {} of them with a fault, {} pruned, {:.1?}",
        tally.programs,
        Start::ALL.len(),
        Setup::ALL.len(),
        tally.schedules,
        tally.faulty,
        tally.pruned,
        begun.elapsed()
    );
    let failures = failures.into_inner().unwrap();
    let time = runtime();
    let _time = time.enter();
    let starts = beginnings();
    for (kind, (count, first)) in failures.iter().take(SHOWN) {
        let (program, choices) = first.as_ref().unwrap();
        let (finished, broken) = replay(program, &starts[&program.start], &time, choices);
        println!("\n{count} times: {kind}\n{}", told(program, &finished, &broken));
    }
    assert!(failures.is_empty(), "{} kinds of failures in {} schedules", failures.len(), tally.failed);
}

/// What is explored, and how far. A part of it by `ORDERS_ONLY`, which is a part of the program's name.
fn jobs(long: bool) -> Vec<(Program, Bounds)> {
    let only = env::var("ORDERS_ONLY").unwrap_or_default();
    let chosen = Program::all().filter(|program| program.to_string().contains(&only));
    chosen
        .flat_map(|program| bounds(&program, long).into_iter().map(move |bounds| (program, bounds)))
        .collect()
}

fn bounds(program: &Program, long: bool) -> Vec<Bounds> {
    let orders = |preemptions| Bounds { preemptions, faults: false };
    let faults = |preemptions| Bounds { preemptions, faults: true };
    if long {
        // Requests of one node meet in its memory at each step, so there is less to prune and more to run.
        return match program.setup.nodes {
            1 => vec![orders(None), faults(Some(1))],
            _ => vec![faults(None)],
        };
    }
    match (program.setup, program.start) {
        (TWO_COLD, Start::Cookie | Start::StoredOfAda) => vec![orders(None), faults(Some(0))],
        (TWO_COLD, _) => vec![orders(None)],
        (ONE_COLD, Start::Stored) => vec![orders(Some(1)), faults(Some(0))],
        (ONE_COLD, _) => vec![orders(Some(1))],
        (TWO_WARM, Start::CookieOfAda | Start::DueCookie) => vec![orders(Some(1))],
        _ => vec![],
    }
}
