//! No work and no header for what did not happen.

use actix_web::http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use sealed_session::Event;
use serde::{Deserialize, Serialize};

use crate::support::{Answer, Bed, Jar, futures_of, key};

#[actix_web::test]
async fn a_request_that_never_asks_for_the_session_gets_no_header_whatever_its_cookie() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let good = jar.0.clone().unwrap();
    for cookies in [&[][..], &[good.as_bytes()], &[b"s=garbage"], &[b"s=\xff"], &[b"s=1; s=2"]] {
        let reply = bed.call(cookies, |_| Ok(Answer::ok())).await;
        for header in [SET_COOKIE, VARY, CACHE_CONTROL] {
            assert!(!reply.headers.contains_key(&header), "{header}");
        }
        assert_eq!(bed.events(), []);
    }
}

#[actix_web::test]
async fn reading_from_nothing_sets_no_cookie() {
    let bed = Bed::new();
    let reply =
        bed.visit(&mut Jar::default(), |session| assert_eq!(session.get::<u8>("n").unwrap(), None)).await;
    assert_eq!(reply.set_cookie(), None);
    assert_eq!(bed.events(), []);
}

#[actix_web::test]
async fn the_first_write_sets_exactly_one_cookie_and_the_next_request_reads_it() {
    let bed = Bed::new();
    let mut jar = Jar::default();
    let reply = bed.visit(&mut jar, |session| session.insert("n", 41).unwrap()).await;
    assert!(reply.set_cookie().is_some());
    assert!(matches!(bed.events()[..], [Event::Started { .. }]));
    let reply = bed.visit(&mut jar, |session| assert_eq!(session.get::<u8>("n").unwrap(), Some(41))).await;
    assert_eq!(reply.set_cookie(), None);
    assert!(matches!(bed.events()[..], [Event::Resumed { .. }]));
}

#[actix_web::test]
async fn writing_what_is_there_already_sets_no_cookie() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let reply = bed.visit(&mut jar, |session| session.insert("n", 1_u64).unwrap()).await;
    assert_eq!(reply.set_cookie(), None);
    let there_and_back = |session: &sealed_session::Session| {
        session.insert("n", 2).unwrap();
        session.insert("other", 3).unwrap();
        session.remove("other");
        session.update("n", |n: Option<u8>| n.unwrap() - 1).unwrap();
    };
    assert_eq!(bed.visit(&mut jar, there_and_back).await.set_cookie(), None);
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Deep {
    a: Vec<Option<Deep>>,
    n: u8,
}

#[actix_web::test]
async fn a_change_deep_inside_a_value_is_noticed() {
    let bed = Bed::new();
    let mut jar = Jar::default();
    let leaf = Deep { a: vec![], n: 1 };
    let tree = Deep { a: vec![None, Some(Deep { a: vec![Some(leaf)], n: 2 })], n: 3 };
    let copy = tree.clone();
    bed.visit(&mut jar, move |session| session.insert("tree", &copy).unwrap()).await;
    let deepen = |tree: Option<Deep>| {
        let mut tree = tree.unwrap();
        tree.a[1].as_mut().unwrap().a[0].as_mut().unwrap().n += 1;
        tree
    };
    let reply = bed.visit(&mut jar, move |session| drop(session.update("tree", deepen).unwrap())).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!(bed.see(&jar, |session| session.get::<Deep>("tree").unwrap()).await, Some(deepen(Some(tree))));
}

#[actix_web::test]
async fn other_cookies_that_the_application_sets_are_kept_and_ours_appears_once() {
    let bed = Bed::new();
    let reply = bed
        .call(&[], |request| {
            let session = futures_of(request.session());
            session.insert("n", 1).unwrap();
            session.insert("m", 2).unwrap();
            Ok(Answer::ok().with(SET_COOKIE, "theme=dark").with(SET_COOKIE, "lang=eo"))
        })
        .await;
    let lines = reply.all(SET_COOKIE);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.contains(&"theme=dark") && lines.contains(&"lang=eo") && reply.set_cookie().is_some());
}

#[actix_web::test]
async fn an_empty_session_gets_a_cookie_only_where_that_is_configured() {
    let bed = Bed::with(|builder| builder.issue_empty(true));
    let mut jar = Jar::default();
    assert!(bed.visit(&mut jar, |_| {}).await.set_cookie().is_some());
    assert_eq!(bed.visit(&mut jar, |_| {}).await.set_cookie(), None, "once");
    bed.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await;
    let reply = bed.visit(&mut jar, |session| session.clear()).await;
    assert!(reply.set_cookie().is_some() && !reply.removes(), "it is kept empty");

    // One that is refused here may be good elsewhere, and a newer one be in its place by now.
    let elsewhere = Bed::on(sealed_session::KeyRing::new(key(9)), bed.clock.clone(), |builder| builder);
    let stranger = elsewhere.logged_in().await;
    let reply = bed.peek(&stranger, |session| assert!(session.is_empty())).await;
    assert_eq!(reply.set_cookie(), None);
    assert!(bed.peek(&stranger, |session| session.insert("n", 1).unwrap()).await.set_cookie().is_some());
    bed.clock.advance(10 * crate::support::DAY);
    assert!(bed.visit(&mut jar, |_| {}).await.set_cookie().is_some_and(|line| !line.contains("Max-Age=0")));

    let bed = Bed::new();
    let wishes = |session: &sealed_session::Session| {
        session.set_persistent(true).unwrap();
        session.set_duration(crate::support::MINUTE).unwrap();
        session.touch();
        session.renew();
    };
    assert_eq!(bed.visit(&mut Jar::default(), wishes).await.set_cookie(), None);
}
