//! What it costs to refuse a cookie, by reason: `cargo bench --bench rejections`.
//!
//! A request with one cookie is loaded, and a new session comes out. Where a cookie was altered must not be told by the
//! time: the first and the last byte of the ciphertext are compared, and the run fails if they differ by a fifth.

#![allow(missing_docs)]

use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sealed_session::{Key, KeyRing, Lifetime, ManualClock, Origin, Sessions};
use time::OffsetDateTime;

mod timing;

/// How much the two may differ.
const LIMIT: f64 = 1.2;

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("without a store nothing waits"),
    }
}

fn main() -> ExitCode {
    let clock = ManualClock::at(OffsetDateTime::now_utc());
    let keys: Vec<Key> = (0..100).map(|_| Key::generate()).collect();
    let build = |keys: &[Key]| {
        let ring = KeyRing::from_keys(keys.iter().cloned()).unwrap();
        let lifetime = Lifetime::new(Duration::from_secs(3_600));
        Sessions::builder(ring).cookie_name("s").lifetime(lifetime).clock(clock.clone()).build().unwrap()
    };
    let (one, hundred, foreign) = (build(&keys[99..]), build(&keys), build(&[Key::generate()]));
    let cookie = now(one.issue(|session| session.insert("data", "x".repeat(288)))).unwrap();
    let strange = now(foreign.issue(|session| session.insert("data", "x".repeat(288)))).unwrap();
    let flipped = |at: usize| {
        let mut bytes = cookie.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'E' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let cases = [
        ("no cookie", "other=1".to_owned(), &one),
        ("accepted", cookie.clone(), &one),
        ("accepted, 100 keys", cookie.clone(), &hundred),
        ("malformed: short", "s=AAAA".into(), &one),
        ("malformed: alphabet", format!("{}!", &cookie[..cookie.len() - 1]), &one),
        ("unknown suite", flipped(2), &one),
        ("unknown key", strange.clone(), &one),
        ("unknown key, 100 keys", strange, &hundred),
        ("tampered: first byte", flipped(44), &one),
        ("tampered: last byte", flipped(cookie.len() - 25), &one),
        ("tampered: tag", flipped(cookie.len() - 3), &one),
        ("tampered, 100 keys", flipped(44), &hundred),
        ("eight tampered", vec![flipped(44); 8].join("; "), &one),
        ("two hundred tampered", vec![flipped(44); 200].join("; "), &one),
    ];
    let mut calls: Vec<Box<dyn FnMut()>> = Vec::new();
    for (what, cookie, sessions) in &cases {
        let session = now(sessions.load([cookie])).unwrap();
        let accepted = session.origin() == Origin::Resumed;
        assert_eq!(accepted, what.starts_with("accepted"), "{what}: {:?}", session.origin());
        calls.push(Box::new(move || drop(black_box(now(sessions.load([black_box(cookie)])).unwrap()))));
    }
    let calls: [Box<dyn FnMut()>; 14] = calls.try_into().ok().expect("fourteen");
    let mut calls = calls;
    let times = timing::alternate(calls.each_mut().map(|call| &mut **call as &mut dyn FnMut()));
    println!("{:<24}{:>8}{:>14}", "a request whose cookie is", "ns", "per second");
    for ((what, ..), nanos) in cases.iter().zip(times) {
        println!("{what:<24}{nanos:>9.0}{:>14.0}", 1e9 / nanos);
    }
    let ratio = (times[8] / times[9]).max(times[9] / times[8]);
    println!("the first byte altered or the last: {ratio:.2} times as long");
    if ratio > LIMIT { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
