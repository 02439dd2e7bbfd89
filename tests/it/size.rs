//! What fits into a cookie, measured as it goes over the wire.

use sealed_session::{InsertError, MAX_NAME_VALUE_BYTES, Placement, Session};

use crate::support::{Bed, Jar, Reply};

/// Name + value of the cookie that a reply sets.
fn wire(reply: &Reply) -> usize {
    let (name, rest) = reply.set_cookie().unwrap().split_once('=').unwrap();
    name.len() + rest.split(';').next().unwrap().len()
}

/// The longest string that fits, beside `n`.
fn longest(session: &Session) -> usize {
    (0..4_096).rev().find(|&len| session.insert("x", "v".repeat(len)).is_ok()).unwrap()
}

#[actix_web::test]
async fn just_under_the_limit_fits_and_one_byte_more_is_refused_with_the_exact_numbers() {
    for name in ["s", "__Host-Http-session", &"n".repeat(256)] {
        let bed = Bed::with(|builder| builder.cookie_name(name));
        let session = bed.sessions.load(["a=1"]).await.unwrap();
        session.insert("n", 1).unwrap();
        let longest = longest(&session);
        let fitting = session.placement();
        let error = session.insert("x", "v".repeat(longest + 1)).unwrap_err();
        let InsertError::TooLarge { size, limit } = error else { panic!("{error}") };
        assert_eq!(limit, MAX_NAME_VALUE_BYTES);
        assert!(size > limit && size <= limit + 43, "the next block of 32 bytes: {size}");
        assert_eq!(session.get::<String>("x").unwrap().unwrap().len(), longest, "the old value stays");

        let line = bed.sessions.commit(&session, Default::default()).await.unwrap().pop().unwrap();
        let pair = line.split(';').next().unwrap();
        assert_eq!(fitting, Placement::Cookie { bytes: pair.len() - 1 });
        assert!(pair.len() - 1 <= limit && pair.len() - 1 + 43 > limit);
        let session = bed.sessions.load([pair]).await.unwrap();
        assert_eq!(session.get::<String>("x").unwrap().unwrap().len(), longest);
    }
}

#[actix_web::test]
async fn every_change_that_does_not_fit_is_refused_and_changes_nothing() {
    let bed = Bed::new();
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| {
        session.insert("n", 1).unwrap();
        longest(session);
        // Fill the last block, so that one byte more needs another.
        let filler = (0..64).rev().find(|&len| session.insert("y", "v".repeat(len)).is_ok());
        let before = (session.entries(), session.subject(), session.id());
        let too_large = |outcome: Result<(), InsertError>| {
            assert!(matches!(outcome, Err(InsertError::TooLarge { .. })), "{outcome:?} {filler:?}");
        };
        too_large(session.insert("z", "v".repeat(64)));
        too_large(session.insert("x", "v".repeat(5_000)));
        too_large(session.update("x", |x: Option<String>| x.unwrap() + &"v".repeat(64)).map(drop));
        too_large(session.increment("k".repeat(64), 1).map(drop));
        too_large(session.set_subject("s".repeat(64)));
        assert_eq!((session.entries(), session.subject(), session.id()), before);
        assert!(session.remove("x"));
        session.set_subject("s".repeat(64)).unwrap();
    })
    .await;
    assert_eq!(bed.see(&jar, Session::keys).await.first().map(String::as_str), Some("n"));
}

#[actix_web::test]
async fn payloads_of_every_size_come_back_equal_and_no_cookie_is_over_the_limit() {
    let bed = Bed::new();
    let mut refused = 0;
    for len in (0..700).chain((700..3_200).step_by(7)) {
        let session = bed.sessions.load(["a=1"]).await.unwrap();
        let payload: String = (0..len).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        if session.insert("x", &payload).is_err() {
            refused += 1;
            continue;
        }
        let line = bed.sessions.commit(&session, Default::default()).await.unwrap().pop().unwrap();
        let pair = line.split(';').next().unwrap();
        assert!(pair.len() - 1 <= MAX_NAME_VALUE_BYTES);
        let session = bed.sessions.load([pair]).await.unwrap();
        assert_eq!(session.get::<String>("x").unwrap(), Some(payload));
    }
    assert!(refused > 0);
}

#[actix_web::test]
async fn the_size_is_a_function_of_entries_and_subject_alone() {
    let bed = Bed::new();
    let mut jar = Jar::default();
    let size = wire(&bed.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await);
    for work in [
        |session: &Session| session.set_persistent(true).unwrap(),
        |session: &Session| session.set_duration(crate::support::MINUTE).unwrap(),
        Session::touch,
        Session::renew,
    ] {
        bed.clock.advance(crate::support::MS);
        assert_eq!(wire(&bed.visit(&mut jar, work).await), size);
    }
    let lengths: std::collections::BTreeSet<usize> = {
        let mut lengths = std::collections::BTreeSet::new();
        for len in 0..32 {
            let cookie =
                bed.sessions.issue(move |session| session.insert("n", "v".repeat(len))).await.unwrap();
            lengths.insert(cookie.len());
        }
        lengths
    };
    assert!(lengths.len() <= 2, "lengths tell no more than the block: {lengths:?}");
}
