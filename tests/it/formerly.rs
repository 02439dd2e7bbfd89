//! What earlier releases have set: two cookies of one name, and a logout that means both.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use sealed_session::{
    CommitContext, CommitError, ConfigError, Event, Origin, Rejection, Revocation, Secure, Session,
    SessionsBuilder,
};

use crate::spy::{Fate, guarded};
use crate::support::{Bed, Jar, MINUTE, Reply};

/// A browser with two cookies of our name, of different sessions: the second logged in later.
async fn two(bed: &Bed) -> [Jar; 2] {
    let old = logged_in(bed, "ada").await;
    bed.clock.advance(MINUTE);
    let new = logged_in(bed, "ada").await;
    bed.events();
    [old, new]
}

async fn logged_in(bed: &Bed, user: &'static str) -> Jar {
    let mut jar = Jar::default();
    bed.visit(&mut jar, move |session| session.authenticate(user).unwrap()).await;
    jar
}

/// One request with the cookies of all these jars, as a browser sends them.
async fn with(bed: &Bed, jars: &[&Jar], work: fn(&Session)) -> Reply {
    let pairs: Vec<_> = jars.iter().map(|jar| jar.0.as_deref().unwrap()).collect();
    bed.call(&[pairs.join("; ").as_bytes()], move |request| {
        work(&crate::support::now(request.session())?);
        Ok(crate::support::Answer::ok())
    })
    .await
}

async fn origin(bed: &Bed, jar: &Jar) -> Origin {
    bed.see(jar, Session::origin).await
}

fn moved(builder: SessionsBuilder) -> SessionsBuilder {
    builder.domain("example.com").formerly("/", None).formerly("/app", Some("Old.example.com"))
}

#[actix_web::test]
async fn destroy_removes_what_earlier_releases_set_whatever_the_browser_sends() {
    let bed = Bed::with(moved);
    let [old, new] = two(&bed).await;
    for jars in [vec![&new], vec![&old], vec![&old, &new]] {
        let reply = with(&bed, &jars, Session::destroy).await;
        let lines = reply.all(SET_COOKIE);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.starts_with("s=;") && line.contains("; Max-Age=0;")),
            "{lines:?}"
        );
        assert!(
            lines.iter().all(|line| line.contains("; HttpOnly") && line.contains("; Secure")),
            "{lines:?}"
        );
        assert!(lines[2].contains("; Domain=example.com") && lines[2].contains("; Path=/;"), "{lines:?}");
        assert!(!lines[0].contains("Domain") && lines[0].contains("; Path=/;"), "{lines:?}");
        assert!(
            lines[1].contains("; Domain=Old.example.com") && lines[1].contains("; Path=/app;"),
            "{lines:?}"
        );
        assert_eq!(reply.all(actix_web::http::header::CACHE_CONTROL), ["no-store"]);
    }
}

#[actix_web::test]
async fn a_cookie_that_is_issued_removes_them_where_the_browser_sends_several() {
    let bed = Bed::with(moved);
    let [old, new] = two(&bed).await;
    let lines = |reply: Reply| reply.all(SET_COOKIE).len();
    let reply = with(&bed, &[&old, &new], |session| session.insert("n", 1).unwrap()).await;
    let removes: Vec<_> = reply.all(SET_COOKIE).iter().map(|line| line.contains("; Max-Age=0;")).collect();
    assert_eq!(removes, [true, true, false], "a removal after the new cookie may hit that");
    assert_eq!(lines(with(&bed, &[&new], |session| session.insert("n", 1).unwrap()).await), 1);
    assert_eq!(lines(with(&bed, &[&old, &new], |_| {}).await), 0, "nothing is issued for that alone");
    bed.clock.advance(Duration::from_secs(24 * 3600 - 120));
    assert_eq!(lines(with(&bed, &[&old, &new], |_| {}).await), 3, "a prolongation is an issue");
}

#[actix_web::test]
async fn where_nothing_is_named_nothing_else_is_removed() {
    let bed = Bed::new();
    let [old, new] = two(&bed).await;
    assert_eq!(with(&bed, &[&old, &new], Session::destroy).await.all(SET_COOKIE).len(), 1);
    assert_eq!(with(&bed, &[&old, &new], |session| session.renew()).await.all(SET_COOKIE).len(), 1);
}

/// Without it: `destroy` with both in the request, then the other one alone, and its owner is logged in.
#[actix_web::test]
async fn with_a_store_destroy_ends_every_session_whose_cookie_the_request_brings() {
    for stored in [false, true] {
        for revocation in [Revocation::EveryRequest, Revocation::Every(MINUTE)] {
            for reversed in [false, true] {
                let bed = Bed::stored(|builder| builder.spill_above(300).revocation(revocation));
                let mut jars = two(&bed).await;
                if stored {
                    for jar in &mut jars {
                        bed.visit(jar, |session| session.insert("much", "x".repeat(200)).unwrap()).await;
                    }
                }
                let [old, new] = &jars;
                let third = logged_in(&bed, "bob").await;
                bed.events();
                let sent = if reversed { [new, old] } else { [old, new] };
                let ids = [bed.see(old, Session::id).await, bed.see(new, Session::id).await];
                bed.events();
                assert_eq!(with(&bed, &sent, Session::destroy).await.status, StatusCode::OK);
                let is_end = |event: &Event| matches!(event, Event::Ended { destroyed: true, .. });
                let ended: Vec<_> = bed.events().into_iter().filter(is_end).collect();
                assert!(ids.iter().all(|&id| ended.contains(&Event::Ended { id, destroyed: true })));
                assert_eq!(ended.len(), 2);
                for jar in sent {
                    assert_eq!(origin(&bed, jar).await, Origin::Rejected(Rejection::Revoked));
                }
                assert_eq!(origin(&bed, &third).await, Origin::Resumed);
            }
        }
    }
}

/// The same session twice, as it was and as it is, in either order.
#[actix_web::test]
async fn a_session_of_which_the_browser_has_two_cookies_ends_once() {
    for reversed in [false, true] {
        let bed = Bed::stored(|builder| builder);
        let old = logged_in(&bed, "ada").await;
        let mut new = old.clone();
        bed.visit(&mut new, |session| session.insert("n", 1).unwrap()).await;
        bed.events();
        let sent = if reversed { [&new, &old] } else { [&old, &new] };
        assert_eq!(with(&bed, &sent, Session::destroy).await.status, StatusCode::OK);
        let ended = bed.events().into_iter().filter(|event| matches!(event, Event::Ended { .. }));
        assert_eq!(ended.count(), 1);
    }
}

#[actix_web::test]
async fn what_is_ended_already_does_not_keep_the_others_from_ending() {
    let bed = Bed::stored(|builder| builder);
    let [old, new] = two(&bed).await;
    bed.visit(&mut new.clone(), Session::destroy).await;
    assert_eq!(with(&bed, &[&old, &new], |_| {}).await.all(SET_COOKIE).len(), 0);
    with(&bed, &[&old, &new], Session::destroy).await;
    assert_eq!(origin(&bed, &old).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn a_logout_that_the_store_does_not_hear_of_in_full_says_so() {
    let (bed, spy) = guarded(|builder| builder.formerly("/app", None));
    let [old, new] = two(&bed).await;
    let session = bed
        .sessions
        .load([format!("{}; {}", old.0.as_ref().unwrap(), new.0.as_ref().unwrap())])
        .await
        .unwrap();
    session.destroy();
    spy.next([Fate::Passes, Fate::Fails, Fate::Fails, Fate::Fails]);
    let Err(CommitError::NotEnded { set_cookies, .. }) =
        bed.sessions.commit(&session, CommitContext::default()).await
    else {
        panic!("the second session lives on")
    };
    assert_eq!(set_cookies.len(), 2, "{set_cookies:?}");
}

#[actix_web::test]
async fn one_that_cannot_be_ended_keeps_none_of_the_others_from_ending() {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let [old, new] = two(&bed).await;
    let third = logged_in(&bed, "bob").await;
    let jars = [&old, &new, &third];
    let pairs = jars.map(|jar| jar.0.as_deref().unwrap()).join("; ");
    let session = bed.sessions.load([pairs]).await.unwrap();
    session.destroy();
    // The first write fails, also where it is looked for again; the others do not.
    spy.next([Fate::Fails]);
    assert!(bed.sessions.commit(&session, CommitContext::default()).await.is_err());
    let mut ended = 0;
    for jar in jars {
        ended += usize::from(origin(&bed, jar).await == Origin::Rejected(Rejection::Revoked));
    }
    assert_eq!(ended, 2);
}

#[actix_web::test]
async fn without_revocation_no_mark_is_left_for_a_session_in_its_cookie() {
    let bed = Bed::stored(|builder| builder.spill_above(300).revocation(Revocation::Off));
    let [mut old, _] = two(&bed).await;
    bed.visit(&mut old, |session| session.insert("much", "x".repeat(200)).unwrap()).await;
    bed.clock.advance(MINUTE);
    let new = logged_in(&bed, "ada").await;
    let rows = async || bed.sessions.store().unwrap().count().await.unwrap();
    assert_eq!(rows().await, 1);
    with(&bed, &[&old, &new], Session::destroy).await;
    assert_eq!(rows().await, 1, "what was stored has ended");
    assert!(matches!(origin(&bed, &old).await, Origin::Rejected(_)));
}

#[actix_web::test]
async fn without_revocation_those_in_the_store_end_and_no_mark_is_left_for_the_rest() {
    let bed = Bed::stored(|builder| builder.spill_above(300).revocation(Revocation::Off));
    let [mut old, new] = two(&bed).await;
    bed.visit(&mut old, |session| session.insert("much", "x".repeat(200)).unwrap()).await;
    let rows = async || bed.sessions.store().unwrap().count().await.unwrap();
    assert_eq!(rows().await, 1);
    with(&bed, &[&old, &new], Session::destroy).await;
    assert_eq!(rows().await, 1, "the mark of the one that was there");
    assert!(matches!(origin(&bed, &old).await, Origin::Rejected(_)));
    assert_eq!(origin(&bed, &new).await, Origin::Resumed, "what nobody can end");
}

#[test]
fn what_could_never_have_been_set_is_refused() {
    let builder = || Bed::new().sessions.keys().clone();
    let build = |configure: fn(SessionsBuilder) -> SessionsBuilder| {
        configure(sealed_session::Sessions::builder(builder()).cookie_name("s").domain("example.com")).build()
    };
    type Configure = fn(SessionsBuilder) -> SessionsBuilder;
    let wrong: [Configure; 6] = [
        |builder| builder.formerly("/", Some("example.com")),
        |builder| builder.formerly("/", Some(".Example.com")),
        |builder| builder.formerly("app", None),
        |builder| builder.formerly("/; Secure", None),
        |builder| builder.formerly("/", Some("exa mple.com")),
        |builder| builder.formerly("/", None).formerly("/\n", None),
    ];
    for configure in wrong {
        assert!(matches!(build(configure), Err(ConfigError::Attribute { .. })));
    }
    let right: [Configure; 3] = [
        |builder| builder.formerly("/", None),
        |builder| builder.formerly("/", Some("www.example.com")).formerly("/app", Some("example.com")),
        |builder| builder.formerly("/app", None).secure(Secure::Auto),
    ];
    for configure in right {
        assert!(build(configure).is_ok());
    }
    for name in ["__Host-session", "__Host-Http-session", "__host-s"] {
        let host =
            sealed_session::Sessions::builder(builder()).cookie_name(name).formerly("/app", None).build();
        assert!(matches!(host, Err(ConfigError::Attribute { attribute: "formerly", .. })), "{name}");
        let domain =
            sealed_session::Sessions::builder(builder()).cookie_name(name).domain("example.com").build();
        assert!(matches!(domain, Err(ConfigError::Prefix { .. })), "{name}");
    }
}

#[actix_web::test]
async fn the_lines_of_former_cookies_count_for_the_size_of_the_head() {
    let bed = Bed::stored(|builder| moved(builder.response_head_budget(900)));
    let [old, new] = two(&bed).await;
    let fills = |session: &Session| session.insert("n", "x".repeat(250)).unwrap();
    let alone = with(&bed, &[&new], fills).await;
    assert_eq!(alone.all(SET_COOKIE).len(), 1);
    let spilled = |events: Vec<Event>| events.iter().any(|event| matches!(event, Event::Spilled { .. }));
    assert!(!spilled(bed.events()));
    assert_eq!(with(&bed, &[&old, &new], fills).await.all(SET_COOKIE).len(), 3);
    assert!(spilled(bed.events()));
}
