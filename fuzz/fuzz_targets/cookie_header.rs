//! Any bytes as `Cookie` headers: no panic, no session that the key did not seal, and what is loaded commits.
//!
//! The input is split at newlines into headers. The byte 0xff stands for a good cookie, so that the fuzzer gets past
//! the cipher and can surround, cut and repeat what passes.
#![no_main]

use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use sealed_session::{CommitContext, Key, KeyRing, ManualClock, Origin, Sessions};

static SESSIONS: LazyLock<Sessions> = LazyLock::new(|| {
    let clock = ManualClock::at(time::OffsetDateTime::UNIX_EPOCH);
    Sessions::builder(KeyRing::new(Key::from_bytes([1; 32]))).cookie_name("s").clock(clock).build().unwrap()
});
static GOOD: LazyLock<String> =
    LazyLock::new(|| now(SESSIONS.issue(|session| session.insert("user", "ada"))).unwrap());

fn now<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("without a store nothing waits"),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Vec::new();
    for &byte in data {
        if byte == 0xff { input.extend_from_slice(GOOD.as_bytes()) } else { input.push(byte) }
    }
    let session = now(SESSIONS.load(input.split(|&byte| byte == b'\n'))).unwrap();
    match session.origin() {
        Origin::Resumed => assert_eq!(session.get::<String>("user").unwrap().as_deref(), Some("ada")),
        _ => assert!(session.is_empty()),
    }
    session.insert("n", 1).unwrap();
    let line = now(SESSIONS.commit(&session, CommitContext::default())).unwrap().unwrap();
    let again = now(SESSIONS.load([line.split(';').next().unwrap()])).unwrap();
    assert_eq!(again.get::<u8>("n").unwrap(), Some(1));
});
