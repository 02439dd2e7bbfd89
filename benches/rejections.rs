//! What it costs to refuse a cookie, by reason: `cargo bench --bench rejections`.
//!
//! A request with one cookie is loaded, and a new session comes out. Prints the table of docs/performance.md.
//!
//! Where a cookie was altered must not be told by the time: the first and the last byte of the ciphertext and the tag are
//! compared, and the run fails if they differ by a fifth. Nor may refusing an altered cookie cost more than accepting it.

#![allow(missing_docs)]

use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sealed_session::{End, Key, KeyRing, Lifetime, ManualClock, Origin, Rejection, Sessions};
use time::OffsetDateTime;

mod timing;

/// How much the altered ones may differ.
const PLACE_LIMIT: f64 = 1.2;
/// How much more than an accepted cookie an altered one may cost.
const REFUSAL_LIMIT: f64 = 1.05;
/// Of the session in the cookies.
const DURATION: Duration = Duration::from_secs(3_600);

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("without a store nothing waits"),
    }
}

fn main() -> ExitCode {
    let sealed_at = OffsetDateTime::now_utc();
    let keys: Vec<Key> = (0..100).map(|_| Key::generate()).collect();
    let build = |keys: &[Key], now: OffsetDateTime| {
        let ring = KeyRing::from_keys(keys.iter().cloned()).unwrap();
        let builder = Sessions::builder(ring).cookie_name("s").lifetime(Lifetime::new(DURATION));
        builder.clock(ManualClock::at(now)).build().unwrap()
    };
    let (one, hundred) = (build(&keys[99..], sealed_at), build(&keys, sealed_at));
    let later = build(&keys[99..], sealed_at + DURATION);
    let earlier = build(&keys[99..], sealed_at - DURATION);
    let stranger = Key::generate();
    let unknown = Rejection::UnknownKey(stranger.id());
    let foreign = build(&[stranger], sealed_at);
    let cookie = now(one.issue(|session| session.insert("data", "x".repeat(288)))).unwrap();
    let strange = now(foreign.issue(|session| session.insert("data", "x".repeat(288)))).unwrap();
    let flipped = |at: usize| {
        let mut bytes = cookie.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'E' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    // The first letter is the upper six bits of the suite, 0x01, and becomes an E, which makes it 0x11.
    let suite = Rejection::UnknownSuite(0x11);
    let (first, last, tag) = (flipped(44), flipped(cookie.len() - 25), flipped(cookie.len() - 3));
    let (eight, many) = (vec![first.clone(); 8].join("; "), vec![first.clone(); 200].join("; "));
    let expired = Origin::Rejected(Rejection::Expired(End::Duration));
    let tampered = Origin::Rejected(Rejection::Tampered);
    let malformed = Origin::Rejected(Rejection::Malformed);
    let cases = [
        ("none of ours", "other=1".to_owned(), &one, Origin::New),
        (ACCEPTED, cookie.clone(), &one, Origin::Resumed),
        ("accepted, ring of 100 keys", cookie.clone(), &hundred, Origin::Resumed),
        ("malformed: short", "s=AAAA".into(), &one, malformed),
        ("malformed: alphabet", format!("{}!", &cookie[..cookie.len() - 1]), &one, malformed),
        ("of an unknown suite", flipped(2), &one, Origin::Rejected(suite)),
        ("of an unknown key", strange.clone(), &one, Origin::Rejected(unknown)),
        ("of an unknown key, ring of 100 keys", strange, &hundred, Origin::Rejected(unknown)),
        (ALTERED[0], first.clone(), &one, tampered),
        (ALTERED[1], last, &one, tampered),
        (ALTERED[2], tag, &one, tampered),
        ("tampered with, ring of 100 keys", first, &hundred, tampered),
        ("tampered with, eight of them", eight, &one, tampered),
        ("tampered with, two hundred of them", many, &one, tampered),
        ("expired", cookie.clone(), &later, expired),
        ("of the future", cookie.clone(), &earlier, Origin::Rejected(Rejection::Future)),
    ];
    let mut calls: Vec<Box<dyn FnMut()>> = Vec::new();
    for (what, cookie, sessions, expected) in &cases {
        assert_eq!(now(sessions.load([cookie])).unwrap().origin(), *expected, "{what}");
        calls.push(Box::new(move || drop(black_box(now(sessions.load([black_box(cookie)])).unwrap()))));
    }
    let calls: [Box<dyn FnMut()>; 16] = calls.try_into().ok().expect("sixteen");
    let mut calls = calls;
    let times = timing::alternate(calls.each_mut().map(|call| &mut **call as &mut dyn FnMut()));
    println!("| the cookie is | ns | million per second |");
    println!("|---|---|---|");
    for ((what, ..), nanos) in cases.iter().zip(times) {
        println!("| {what} | {nanos:.0} | {:.2} |", 1e3 / nanos);
    }
    println!();
    let of = |name: &str| times[cases.iter().position(|(what, ..)| *what == name).expect("a case")];
    let altered = ALTERED.map(of);
    let longest = altered.into_iter().fold(0.0, f64::max);
    let place = longest / altered.into_iter().fold(f64::MAX, f64::min);
    let refusal = longest / of(ACCEPTED);
    println!(
        "the first byte altered, the last, or the tag: {place:.2} times as long; fails above {PLACE_LIMIT}"
    );
    println!("altered or accepted: {refusal:.2} times as long; fails above {REFUSAL_LIMIT}");
    if place > PLACE_LIMIT || refusal > REFUSAL_LIMIT { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

const ACCEPTED: &str = "accepted";
const ALTERED: [&str; 3] =
    ["tampered with, in the first byte", "tampered with, in the last byte", "tampered with, in the tag"];
