//! Renewal, emptying, destruction, subjects.

use std::cell::RefCell;

use sealed_session::{Event, InsertError, Origin, Session};

use crate::support::{Bed, Jar, MINUTE};

#[actix_web::test]
async fn a_removed_key_stays_removed_and_a_session_that_became_empty_is_removed_from_the_browser() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("m", 2).unwrap()).await;
    bed.visit(&mut jar, |session| assert!(session.remove("n"))).await;
    assert_eq!(bed.see(&jar, Session::keys).await, ["m"]);
    bed.events();
    let reply = bed.visit(&mut jar, |session| assert!(session.remove("m"))).await;
    assert!(reply.removes());
    assert!(matches!(bed.events()[..], [Event::Resumed { .. }, Event::Ended { destroyed: false, .. }]));
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::New);
}

#[actix_web::test]
async fn a_subject_alone_keeps_a_session_and_clearing_does_not_log_out() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let reply = bed.visit(&mut jar, Session::clear).await;
    assert!(!reply.removes());
    assert_eq!(bed.see(&jar, |session| (session.subject(), session.len())).await, (Some("ada".into()), 0));
}

#[actix_web::test]
async fn destroying_removes_the_cookie_and_a_write_after_it_is_an_error_and_no_new_login() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.events();
    let reply = bed.visit(&mut jar, |session| {
        session.destroy();
        for outcome in [
            session.insert("n", 9),
            session.increment("n", 1).map(drop),
            session.update("n", |n: Option<u8>| n.unwrap_or(0)).map(drop),
            session.take::<u8>("n").map(drop),
            session.set_subject("eve"),
            session.set_persistent(true),
            session.set_duration(MINUTE),
        ] {
            assert!(matches!(outcome, Err(InsertError::Destroyed)), "{outcome:?}");
        }
        session.touch();
        session.renew();
        session.clear();
        crate::support::now(session.save()).unwrap();
        assert!(!session.remove("n"));
        assert!(session.is_empty() && session.subject().is_none());
    });
    assert!(reply.await.removes());
    assert!(matches!(bed.events()[..], [Event::Resumed { .. }, Event::Ended { destroyed: true, .. }]));
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::New);
}

#[actix_web::test]
async fn destroying_what_the_browser_has_no_cookie_of_sets_none() {
    let bed = Bed::new();
    let destroy = |session: &Session| {
        session.insert("n", 1).unwrap();
        session.destroy();
    };
    assert_eq!(bed.visit(&mut Jar::default(), destroy).await.set_cookie(), None);
}

#[actix_web::test]
async fn without_a_store_a_copy_of_the_cookie_outlives_its_destruction_as_documented() {
    let bed = Bed::new();
    let copy = bed.logged_in().await;
    bed.visit(&mut copy.clone(), Session::destroy).await;
    assert_eq!(bed.see(&copy, Session::origin).await, Origin::Resumed);
}

#[actix_web::test]
async fn renewing_gives_a_new_id_and_a_new_birth_and_keeps_the_data_whatever_follows_in_the_request() {
    type Then = fn(&Session);
    let write: Then = |session| session.insert("m", 2).unwrap();
    let remove: Then = |session| assert!(session.remove("n"));
    let refill: Then = |session| {
        session.clear();
        session.insert("n", 1).unwrap();
    };
    let nothing: Then = |_| {};
    for then in [nothing, write, remove, refill] {
        let bed = Bed::new();
        let mut jar = Jar::default();
        let fill = |session: &Session| {
            session.insert("n", 1).unwrap();
            session.insert("kept", "x").unwrap();
            session.set_duration(10 * MINUTE).unwrap();
        };
        bed.visit(&mut jar, fill).await;
        let before = bed.sessions.inspect(jar.value()).unwrap();
        bed.events();
        bed.clock.advance(MINUTE);
        let renew = move |session: &Session| {
            session.renew();
            then(session);
        };
        assert!(bed.visit(&mut jar, renew).await.set_cookie().is_some());
        let after = bed.sessions.inspect(jar.value()).unwrap();
        assert_ne!(after.id, before.id);
        assert_eq!(after.created_at - before.created_at, MINUTE);
        assert_eq!(after.own_duration, Some(10 * MINUTE), "what the session was given stays");
        assert_eq!(after.counter, 1);
        let renewed = Event::Renewed { from: before.id, to: after.id };
        assert_eq!(bed.events(), [Event::Resumed { id: before.id }, renewed]);
    }
}

#[actix_web::test]
async fn another_subject_renews_and_the_same_one_does_not() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let anonymous = bed.see(&jar, Session::id).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let ada = bed.see(&jar, Session::id).await;
    assert_ne!(ada, anonymous);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1), "nobody's is ada's");
    let reply = bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    assert_eq!(reply.set_cookie(), None);
    bed.visit(&mut jar, |session| session.set_subject(String::from("bob")).unwrap()).await;
    assert_ne!(bed.see(&jar, Session::id).await, ada);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, None, "what ada kept");
    bed.visit(&mut jar, |session| {
        assert!(matches!(session.set_subject(""), Err(InsertError::EmptySubject)));
        assert_eq!(session.subject().as_deref(), Some("bob"));
    })
    .await;
}

#[actix_web::test]
async fn the_id_is_stable_across_issues_and_the_counter_goes_up_by_one() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let first = bed.sessions.inspect(jar.value()).unwrap();
    for counter in 2..5 {
        bed.visit(&mut jar, |session| assert!(session.increment("n", 1).is_ok())).await;
        let next = bed.sessions.inspect(jar.value()).unwrap();
        assert_eq!((next.id, next.counter, next.created_at), (first.id, counter, first.created_at));
    }
}

#[actix_web::test]
async fn every_changing_method_reaches_the_next_request() {
    type Change = fn(&Session);
    type Seen = fn(&Session) -> bool;
    let changes: [(&str, Change, Seen); 11] = [
        ("insert", |s| s.insert("m", 2).unwrap(), |s| s.get::<u8>("m").unwrap() == Some(2)),
        (
            "update",
            |s| assert_eq!(s.update("n", |_: Option<u8>| 5).unwrap(), 5),
            |s| s.get::<u8>("n").unwrap() == Some(5),
        ),
        (
            "increment",
            |s| assert_eq!(s.increment("n", 1).unwrap(), 2),
            |s| s.get::<u8>("n").unwrap() == Some(2),
        ),
        ("remove", |s| assert!(s.remove("n")), |s| s.keys() == ["k"]),
        ("take", |s| assert!(s.take::<u8>("n").unwrap().is_some()), |s| s.keys() == ["k"]),
        ("retain", |s| s.retain(|key| key == "n"), |s| s.keys() == ["n"]),
        ("clear", Session::clear, |s| s.origin() == Origin::New),
        ("destroy", Session::destroy, |s| s.origin() == Origin::New),
        ("set_subject", |s| s.set_subject("ada").unwrap(), |s| s.subject().as_deref() == Some("ada")),
        ("set_duration", |s| s.set_duration(MINUTE).unwrap(), |s| s.remaining() == MINUTE),
        ("renew", Session::renew, |s| s.remaining() == crate::support::DAY),
    ];
    for (method, change, seen) in changes {
        let bed = Bed::new();
        let mut jar = bed.logged_in().await;
        bed.visit(&mut jar, |session| session.insert("k", 0).unwrap()).await;
        bed.clock.advance(MINUTE);
        assert!(!bed.see(&jar, seen).await, "{method} has something to change");
        assert!(bed.visit(&mut jar, change).await.set_cookie().is_some(), "{method}");
        assert!(bed.see(&jar, seen).await, "{method}");
    }
}

/// A one-time value, of which a clone of the session takes its own while it is read.
#[actix_web::test]
async fn of_two_clones_that_take_a_value_at_once_one_gets_it() {
    thread_local! {
        static OTHER: RefCell<Option<(Session, Option<u8>)>> = const { RefCell::new(None) };
    }

    struct Slow(u8);

    impl<'de> serde::Deserialize<'de> for Slow {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            OTHER.with_borrow_mut(|other| {
                if let Some((session, took @ None)) = other {
                    *took = session.take("n").unwrap();
                }
            });
            u8::deserialize(from).map(Self)
        }
    }

    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| {
        OTHER.set(Some((session.clone(), None)));
        assert!(session.take::<Slow>("n").unwrap().is_none());
        assert_eq!(OTHER.take().unwrap().1, Some(1));
        session.insert("n", 2).unwrap();
        assert_eq!(session.take::<Slow>("n").unwrap().map(|slow| slow.0), Some(2), "once nobody else does");
    })
    .await;
}
