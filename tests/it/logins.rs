//! Whose session it is, since when, and that nobody sees what another one had: in cookies, in the store, and between.

use std::sync::Arc;
use std::time::Duration;

use sealed_session::{
    CommitContext, CommitError, InsertError, Key, Origin, Placement, Revocation, Session, Sessions,
    SessionsBuilder,
};

use crate::spy::{Fate, Spy, guarded};
use crate::support::{Bed, DAY, Jar, MINUTE, MS, now, start};

type Login = fn(&Session, &str) -> Result<(), InsertError>;
const AUTHENTICATE: Login = |session, subject| session.authenticate(subject);
const SET_SUBJECT: Login = |session, subject| session.set_subject(subject);

/// Where ada's session is: in its cookie without a store, with one, with revocation at each request, and in the store.
const PLACES: [&str; 4] = ["cookie", "cookie beside a store", "cookie that is asked for", "store"];

fn bed(place: &str) -> Bed {
    let every_request = |builder: SessionsBuilder| builder.revocation(Revocation::EveryRequest);
    match place {
        "cookie" => Bed::new(),
        "cookie beside a store" => guarded(|builder| builder).0,
        _ => guarded(every_request).0,
    }
}

/// A browser in which ada has logged in, and holds a secret.
async fn ada(bed: &Bed, place: &str) -> Jar {
    let mut jar = Jar::default();
    let large = place == "store";
    bed.visit(&mut jar, move |session| {
        session.authenticate("ada").unwrap();
        session.insert("secret", "hers").unwrap();
        session.insert("count", 40).unwrap();
        if large {
            session.insert("large", "l".repeat(5_000)).unwrap();
        }
    })
    .await;
    let in_store = bed.see(&jar, |session| matches!(session.placement(), Placement::Store { .. })).await;
    assert_eq!(in_store, large);
    jar
}

async fn keys(bed: &Bed, jar: &Jar) -> Vec<String> {
    bed.see(jar, Session::keys).await
}

async fn subject(bed: &Bed, jar: &Jar) -> Option<String> {
    bed.see(jar, Session::subject).await
}

#[actix_web::test]
async fn another_subject_starts_empty_wherever_the_session_is_and_whichever_method_says_so() {
    for place in PLACES {
        for login in [AUTHENTICATE, SET_SUBJECT] {
            let bed = bed(place);
            let mut jar = ada(&bed, place).await;
            bed.visit(&mut jar, move |session| {
                session.insert("before", 1).unwrap();
                session.increment("count", 1).unwrap();
                login(session, "bob").unwrap();
                assert!(session.is_empty() && session.entries().is_empty(), "within the request already");
                assert!(session.get::<String>("secret").unwrap().is_none());
                assert_eq!(session.increment("count", 2).unwrap(), 2, "counted from nothing");
                session.insert("after", 1).unwrap();
            })
            .await;
            assert_eq!(subject(&bed, &jar).await.as_deref(), Some("bob"));
            assert_eq!(keys(&bed, &jar).await, ["after", "count"], "{place}");
            assert_eq!(bed.see(&jar, |session| session.get::<i64>("count").unwrap()).await, Some(2));
        }
    }
}

#[actix_web::test]
async fn ada_bob_and_ada_again_within_one_request_is_empty_too() {
    for place in PLACES {
        for (there, back) in
            [(SET_SUBJECT, SET_SUBJECT), (AUTHENTICATE, SET_SUBJECT), (SET_SUBJECT, AUTHENTICATE)]
        {
            let bed = bed(place);
            if place != "cookie" {
                // So that she has a generation to come back to.
                bed.sessions.revoke_subject("ada").await.unwrap();
            }
            let mut jar = ada(&bed, place).await;
            bed.visit(&mut jar, move |session| {
                there(session, "bob").unwrap();
                session.insert("bobs", 1).unwrap();
                back(session, "ada").unwrap();
                assert!(session.is_empty());
            })
            .await;
            assert_eq!(subject(&bed, &jar).await.as_deref(), Some("ada"));
            assert_eq!(keys(&bed, &jar).await, [""; 0], "{place}");
        }
    }
}

#[actix_web::test]
async fn what_an_anonymous_visitor_had_stays_and_what_the_same_user_has_too() {
    for place in PLACES {
        for login in [AUTHENTICATE, SET_SUBJECT] {
            let bed = bed(place);
            let mut jar = bed.logged_in().await;
            let large = place == "store";
            bed.visit(&mut jar, move |session| {
                session.insert("cart", if large { "c".repeat(5_000) } else { "c".into() }).unwrap();
            })
            .await;
            bed.visit(&mut jar, move |session| login(session, "ada").unwrap()).await;
            assert_eq!(keys(&bed, &jar).await, ["cart", "n"], "{place}");
            bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
            assert_eq!(keys(&bed, &jar).await, ["cart", "n"], "{place}");
        }
    }
}

#[actix_web::test]
async fn each_authentication_draws_a_new_id_and_a_new_birth_and_stamps_the_moment() {
    for place in PLACES {
        let bed = bed(place);
        let mut jar = ada(&bed, place).await;
        let look = |session: &Session| (session.id(), session.created_at(), session.authenticated_at());
        let (id, born, at) = bed.see(&jar, look).await;
        assert_eq!((born, at), (start(), Some(start())));
        bed.clock.advance(MINUTE);
        let old = jar.clone();
        bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
        let (other, born, at) = bed.see(&jar, look).await;
        assert_ne!(id, other);
        assert_eq!((born, at), (start() + MINUTE, Some(start() + MINUTE)), "{place}");
        let former = bed.see(&old, Session::origin).await;
        assert_eq!(
            former == Origin::Resumed,
            place == "cookie",
            "{place}: the former id is over, where it can be"
        );

        // `set_subject` with who is there already changes nothing of it.
        let reply = bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
        assert_eq!(reply.set_cookie(), None);
        // `renew` keeps the moment, though it is a new birth.
        bed.clock.advance(MINUTE);
        bed.visit(&mut jar, Session::renew).await;
        let (third, born, at) = bed.see(&jar, look).await;
        assert_ne!(third, other);
        assert_eq!((born, at), (start() + 2 * MINUTE, Some(start() + MINUTE)), "{place}");
    }
}

#[actix_web::test]
async fn a_session_is_fresh_for_as_long_as_was_asked_and_not_for_a_millisecond_more() {
    let bed = Bed::new();
    let mut jar = Jar::default();
    assert!(!bed.see(&jar, |session| session.is_fresh(Duration::MAX)).await, "nobody was");
    bed.visit(&mut jar, |session| {
        session.authenticate("ada").unwrap();
        assert!(session.is_fresh(MS), "at once");
        assert!(!session.is_fresh(Duration::ZERO));
    })
    .await;
    for (after, fresh) in [(Duration::ZERO, true), (MINUTE - MS, true), (MINUTE, false), (MINUTE + MS, false)]
    {
        bed.clock.set(start() + after);
        assert_eq!(bed.see(&jar, |session| session.is_fresh(MINUTE)).await, fresh, "{after:?}");
    }
    // A node whose clock is behind.
    bed.clock.set(start() - MINUTE);
    assert!(bed.see(&jar, |session| session.is_fresh(MINUTE)).await);
}

#[actix_web::test]
async fn who_comes_back_from_being_somebody_else_is_not_fresh() {
    for place in PLACES {
        let bed = bed(place);
        let mut jar = ada(&bed, place).await;
        bed.visit(&mut jar, |session| session.set_subject("bob").unwrap()).await;
        assert_eq!(bed.see(&jar, Session::authenticated_at).await, None);
        bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
        assert_eq!(bed.see(&jar, Session::authenticated_at).await, None);
        assert!(!bed.see(&jar, |session| session.is_fresh(Duration::MAX)).await);
        assert_eq!(keys(&bed, &jar).await, [""; 0], "{place}");
    }
    // Within one request, too.
    let bed = Bed::new();
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| {
        session.authenticate("ada").unwrap();
        session.set_subject("bob").unwrap();
        assert_eq!(session.authenticated_at(), None);
    })
    .await;
    assert_eq!(bed.see(&jar, Session::authenticated_at).await, None);
}

#[actix_web::test]
async fn another_subject_does_not_inherit_a_duration_and_a_persistence_of_ones_own() {
    let bed = Bed::with(|builder| builder.persistent(false));
    let mut jar = Jar::default();
    let reply = bed
        .visit(&mut jar, |session| {
            session.authenticate("ada").unwrap();
            session.set_duration(20 * DAY).unwrap();
            session.set_persistent(true).unwrap();
        })
        .await;
    assert_eq!(reply.attribute("Max-Age"), Some("1728000"));
    let reply = bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    assert_eq!(reply.attribute("Max-Age"), Some("1728000"), "her own stay hers");
    let reply = bed.visit(&mut jar, |session| session.authenticate("bob").unwrap()).await;
    assert_eq!(reply.attribute("Max-Age"), None);
    assert_eq!(bed.see(&jar, Session::expires_at).await, start() + DAY);
}

#[actix_web::test]
async fn a_subject_that_does_not_fit_changes_nothing() {
    let bed = Bed::new();
    let mut jar = ada(&bed, "cookie").await;
    let reply = bed
        .visit(&mut jar, |session| {
            let before = session.id();
            for login in [AUTHENTICATE, SET_SUBJECT] {
                let long = |len| login(session, &"x".repeat(len)).unwrap_err();
                assert!(matches!(long(4_000), InsertError::SubjectTooLong { limit: 4_096, .. }));
                assert!(matches!(login(session, ""), Err(InsertError::EmptySubject)));
            }
            assert_eq!((session.id(), session.subject().as_deref()), (before, Some("ada")));
            assert_eq!(session.keys(), ["count", "secret"]);
        })
        .await;
    assert_eq!(reply.set_cookie(), None);
    // What the former user had is not counted.
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| {
        session.authenticate("ada").unwrap();
        session.insert("large", "l".repeat(2_500)).unwrap();
    })
    .await;
    bed.visit(&mut jar, |session| session.authenticate("b".repeat(2_500)).unwrap()).await;
    assert_eq!(keys(&bed, &jar).await, [""; 0]);
}

#[actix_web::test]
async fn after_the_end_of_a_session_nobody_can_be_authenticated_in_it() {
    let bed = Bed::new();
    let mut jar = ada(&bed, "cookie").await;
    bed.visit(&mut jar, |session| {
        session.destroy();
        assert!(matches!(session.authenticate("bob"), Err(InsertError::Destroyed)));
        assert_eq!((session.subject(), session.authenticated_at()), (None, None));
    })
    .await;
    let session = now(bed.sessions.load([""])).unwrap();
    now(bed.sessions.commit(&session, CommitContext::default())).unwrap();
    assert!(matches!(session.authenticate("bob"), Err(InsertError::Committed)));
}

pub(crate) fn load(sessions: &Sessions, jar: &Jar) -> Session {
    now(sessions.load(jar.0.iter())).unwrap()
}

pub(crate) fn commit(sessions: &Sessions, session: &Session) -> Result<Option<String>, CommitError> {
    Ok(now(sessions.commit(session, CommitContext::default()))?.pop())
}

pub(crate) fn browser(line: Option<String>) -> Jar {
    Jar(line.and_then(|line| line.split(';').next().map(str::to_owned)))
}

/// Another request of ada's browser, from its coming to its answer.
fn meanwhile(bed: &Bed, jar: &Jar, work: impl FnOnce(&Session)) {
    let session = load(&bed.sessions, jar);
    work(&session);
    commit(&bed.sessions, &session).unwrap();
}

/// What a parallel request of ada's writes to her row comes under nobody else's session, whatever was loaded.
#[actix_web::test]
async fn what_ada_writes_while_bob_logs_in_stays_hers() {
    for place in ["cookie beside a store", "cookie that is asked for", "store"] {
        for login in [AUTHENTICATE, SET_SUBJECT] {
            for (empties_first, writes) in [(false, true), (true, true), (false, false), (true, false)] {
                let bed = bed(place);
                let mut jar = ada(&bed, place).await;
                if empties_first {
                    bed.visit(&mut jar, Session::clear).await;
                }
                let session = load(&bed.sessions, &jar);
                login(&session, "bob").unwrap();
                if writes {
                    session.increment("count", 1).unwrap();
                }
                meanwhile(&bed, &jar, |hers| {
                    hers.insert("secret", "newer").unwrap();
                    hers.insert("count", 7).unwrap();
                    hers.insert("large", "l".repeat(6_000)).unwrap();
                });
                let bob = browser(commit(&bed.sessions, &session).unwrap());
                assert_eq!(subject(&bed, &bob).await.as_deref(), Some("bob"));
                let count = bed.see(&bob, |session| session.get::<i64>("count").unwrap()).await;
                assert_eq!(
                    (keys(&bed, &bob).await.len(), count),
                    if writes { (1, Some(1)) } else { (0, None) }
                );
                assert_ne!(bed.see(&jar, Session::origin).await, Origin::Resumed, "and hers is over");
            }
        }
    }
}

#[actix_web::test]
async fn what_the_same_user_writes_while_authenticating_again_comes_along() {
    for place in ["cookie that is asked for", "store"] {
        let bed = bed(place);
        let jar = ada(&bed, place).await;
        let session = load(&bed.sessions, &jar);
        session.authenticate("ada").unwrap();
        meanwhile(&bed, &jar, |other| other.insert("large", "n".repeat(6_000)).unwrap());
        let jar = browser(commit(&bed.sessions, &session).unwrap());
        assert_eq!(keys(&bed, &jar).await, ["count", "large", "secret"], "{place}");
    }
}

/// The ways in which a session may end under a login.
type End = fn(&Bed, &Spy, &Jar);

#[actix_web::test]
async fn a_login_over_a_session_that_was_ended_meanwhile_succeeds_and_starts_empty() {
    let ends: [(&str, End); 4] = [
        ("destroyed", |bed, _, jar| meanwhile(bed, jar, Session::destroy)),
        ("revoked", |bed, _, jar| {
            let id = load(&bed.sessions, jar).id();
            now(bed.sessions.revoke(id)).unwrap();
        }),
        ("all of hers revoked", |bed, _, _| now(bed.sessions.revoke_subject("ada")).unwrap()),
        ("gone from the store", |_, spy, _| now(sealed_session::store::Store::clear(&spy.rows)).unwrap()),
    ];
    for (what, end) in ends {
        for place in ["cookie that is asked for", "store"] {
            for user in ["ada", "bob"] {
                let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
                let jar = ada(&bed, place).await;
                let session = load(&bed.sessions, &jar);
                session.authenticate(user).unwrap();
                session.insert("after", 1).unwrap();
                session.increment("count", 1).unwrap();
                end(&bed, &spy, &jar);
                let jar = browser(commit(&bed.sessions, &session).unwrap());
                let context = format!("{what}, {place}, {user}");
                assert_eq!(subject(&bed, &jar).await.as_deref(), Some(user), "{context}");
                let lives_on = what == "gone from the store" && place != "store" && user == "ada";
                let expected: &[&str] =
                    if lives_on { &["after", "count", "secret"] } else { &["after", "count"] };
                assert_eq!(keys(&bed, &jar).await, expected, "{context}");
                let count = bed.see(&jar, |session| session.get::<i64>("count").unwrap()).await;
                assert_eq!(count, Some(if lives_on { 41 } else { 1 }), "{context}");
            }
        }
    }
}

/// "Remember me" was said in a session that is over, perhaps by whoever had stolen it.
#[actix_web::test]
async fn a_login_that_begins_empty_lasts_as_configured_unless_its_request_says_otherwise() {
    type Says = fn(&Session);
    let long: Says = |session| {
        session.set_duration(20 * DAY).unwrap();
        session.set_persistent(true).unwrap();
    };
    let says: [(&str, Says, Says, Option<&str>, Duration); 4] = [
        ("nothing", |_| {}, |_| {}, None, DAY),
        ("before the login", long, |_| {}, Some("1728000"), 20 * DAY),
        ("after the login", |_| {}, long, Some("1728000"), 20 * DAY),
        ("that it is short", |_| {}, Session::reset_duration, None, DAY),
    ];
    let ends: [(&str, End); 3] = [
        ("ended", |bed, _, jar| meanwhile(bed, jar, Session::destroy)),
        ("all of hers revoked", |bed, _, _| now(bed.sessions.revoke_subject("ada")).unwrap()),
        ("its key revoked", |bed, _, jar| {
            let keys = bed.sessions.keys();
            let sealed = bed.sessions.inspect(jar.value()).unwrap().key_id;
            keys.revoke(sealed).unwrap();
        }),
    ];
    for (what, end) in ends {
        for place in ["cookie that is asked for", "store"] {
            for (said, before, after, max_age, lasts) in says {
                let (bed, spy) =
                    guarded(|builder| builder.revocation(Revocation::EveryRequest).persistent(false));
                let mut jar = ada(&bed, place).await;
                bed.visit(&mut jar, long).await;
                bed.sessions.keys().rotate(Key::generate()).unwrap();
                let session = load(&bed.sessions, &jar);
                before(&session);
                session.authenticate("ada").unwrap();
                after(&session);
                assert_eq!(session.remaining(), if said == "that it is short" { DAY } else { 20 * DAY });
                end(&bed, &spy, &jar);
                let line = commit(&bed.sessions, &session).unwrap().unwrap();
                let context = format!("{what}, {place}, says {said}: {line}");
                let sent = line.split("; ").find_map(|attribute| attribute.strip_prefix("Max-Age="));
                assert_eq!(sent, max_age, "{context}");
                let jar = browser(Some(line));
                assert_eq!(keys(&bed, &jar).await, [""; 0], "{context}");
                assert_eq!(bed.see(&jar, Session::expires_at).await, start() + lasts, "{context}");
            }
        }
    }
}

#[actix_web::test]
async fn going_on_as_somebody_else_over_a_session_that_was_ended_meanwhile_fails() {
    for place in ["cookie that is asked for", "store"] {
        let (bed, _) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
        let jar = ada(&bed, place).await;
        let as_bob = load(&bed.sessions, &jar);
        as_bob.set_subject("bob").unwrap();
        let after_login = load(&bed.sessions, &jar);
        after_login.authenticate("ada").unwrap();
        after_login.set_subject("bob").unwrap();
        meanwhile(&bed, &jar, Session::destroy);
        for session in [as_bob, after_login] {
            assert!(matches!(commit(&bed.sessions, &session), Err(CommitError::Ended)), "{place}");
        }
    }
}

/// Two tabs, two forms.
#[actix_web::test]
async fn of_two_logins_from_one_session_each_gets_a_session_of_its_own() {
    for (one, other) in [("ada", "bob"), ("bob", "cleo"), ("ada", "ada")] {
        for place in ["cookie that is asked for", "store"] {
            let (bed, _) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
            let jar = ada(&bed, place).await;
            let [first, second] = [one, other].map(|user| {
                let session = load(&bed.sessions, &jar);
                session.authenticate(user).unwrap();
                session.insert("mine", user).unwrap();
                session
            });
            let first = browser(commit(&bed.sessions, &first).unwrap());
            let second = browser(commit(&bed.sessions, &second).unwrap());
            for (jar, user) in [(&first, one), (&second, other)] {
                assert_eq!(subject(&bed, jar).await.as_deref(), Some(user));
                let mine = bed.see(jar, |session| session.get::<String>("mine").unwrap()).await;
                assert_eq!(mine.as_deref(), Some(user));
            }
            // The first had ended hers, but where it was the same login, which is only sent twice.
            let has_secret = keys(&bed, &second).await.contains(&"secret".to_owned());
            assert_eq!(has_secret, (one, other) == ("ada", "ada"), "{one}, {other}");
        }
    }
}

#[actix_web::test]
async fn a_login_is_told_by_the_inspection_of_its_cookie() {
    let bed = Bed::new();
    let jar = ada(&bed, "cookie").await;
    assert_eq!(bed.sessions.inspect(jar.value()).unwrap().authenticated_at, Some(start()));
    let cookie = bed.sessions.issue(|session| session.set_subject("ada")).await.unwrap();
    assert_eq!(bed.sessions.inspect(&cookie[2..]).unwrap().authenticated_at, None);
}

/// Each call in turn is applied without an answer, or not applied: the login is whole or not at all, and nobody has what
/// was another one's.
#[actix_web::test]
async fn a_login_during_which_the_store_fails_is_whole_or_not_at_all() {
    use crate::spy::Fate;
    let mut outcomes = [0, 0];
    for user in ["ada", "bob"] {
        for fate in [Fate::AppliedButTimesOut, Fate::TimesOut, Fate::Fails] {
            for at in 0..6 {
                let (bed, spy): (Bed, Arc<Spy>) = guarded(|builder| builder);
                let jar = ada(&bed, "store").await;
                let session = load(&bed.sessions, &jar);
                session.authenticate(user).unwrap();
                spy.next(std::iter::repeat_n(Fate::Passes, at).chain([fate]));
                let outcome = commit(&bed.sessions, &session);
                spy.passes_all();
                let context = format!("{user}, {fate:?} at call {at}");
                outcomes[usize::from(outcome.is_ok())] += 1;
                match outcome {
                    Ok(line) => {
                        let jar = browser(line);
                        assert_eq!(subject(&bed, &jar).await.as_deref(), Some(user), "{context}");
                        let has_it = keys(&bed, &jar).await.contains(&"secret".to_owned());
                        assert_eq!(has_it, user == "ada", "{context}");
                    }
                    Err(CommitError::Store(_)) => {
                        let seen = subject(&bed, &jar).await;
                        assert!([None, Some("ada")].contains(&seen.as_deref()), "{context}");
                    }
                    Err(other) => panic!("{context}: {other}"),
                }
            }
        }
    }
    assert!(outcomes.iter().all(|&count| count >= 5), "{outcomes:?}");
}

/// One handler saves the session or reads it again while another one, with the same session, logs somebody in.
#[actix_web::test]
async fn what_is_under_way_when_bob_logs_in_brings_nothing_of_adas() {
    for login in [AUTHENTICATE, SET_SUBJECT] {
        for (reads, fails) in [(false, false), (true, false), (false, true), (true, true)] {
            let (bed, spy) = guarded(|builder| builder);
            let jar = ada(&bed, "store").await;
            let session = load(&bed.sessions, &jar);
            session.insert("more", 1).unwrap();
            spy.slowly(true);
            if fails {
                spy.next([Fate::Fails]);
            }
            let clone = session.clone();
            let at_the_store = async { if reads { session.reload().await } else { session.save().await } };
            let (outcome, ()) = tokio::join!(at_the_store, async move {
                login(&clone, "bob").unwrap();
                clone.insert("bobs", 1).unwrap();
            });
            assert_eq!(outcome.is_err(), fails);
            spy.slowly(false);
            assert_eq!(session.keys(), ["bobs"]);
            let bob = browser(commit(&bed.sessions, &session).unwrap());
            assert_eq!(subject(&bed, &bob).await.as_deref(), Some("bob"));
            assert_eq!(keys(&bed, &bob).await, ["bobs"]);
            assert_ne!(bed.see(&jar, Session::origin).await, Origin::Resumed, "and hers is over");
        }
    }
}

#[actix_web::test]
async fn a_login_while_the_key_of_the_former_session_is_revoked_succeeds_and_starts_empty() {
    for place in PLACES {
        for user in ["bob", "ada"] {
            let bed = bed(place);
            let jar = ada(&bed, place).await;
            let old = bed.sessions.keys().primary();
            bed.sessions.keys().rotate(Key::generate()).unwrap();
            let session = load(&bed.sessions, &jar);
            session.authenticate(user).unwrap();
            session.insert("after", 1).unwrap();
            bed.sessions.keys().revoke(old).unwrap();
            let after = browser(commit(&bed.sessions, &session).unwrap());
            assert_eq!(subject(&bed, &after).await.as_deref(), Some(user), "{place}");
            assert_eq!(keys(&bed, &after).await, ["after"], "{place}");
        }
    }
}

/// A page on which the password is changed: all others are logged out, and this browser is not. What the handler writes as at every
/// login may be what was there.
#[actix_web::test]
async fn a_login_that_begins_empty_has_all_that_the_request_has_set_also_what_was_the_same() {
    for place in ["cookie beside a store", "store"] {
        let (bed, _) = guarded(|builder| builder);
        let mut jar = ada(&bed, place).await;
        bed.visit(&mut jar, |session| {
            session.insert("user", 42).unwrap();
            session.insert("theme", "dark").unwrap();
            session.insert("step", 1).unwrap();
        })
        .await;
        let session = load(&bed.sessions, &jar);
        bed.sessions.revoke_subject("ada").await.unwrap();
        for _ in 0..2 {
            session.insert("user", 42).unwrap();
            session.insert("theme", "light").unwrap();
            session.insert("theme", "dark").unwrap();
            session.insert("step", 1).unwrap();
        }
        session.remove("step");
        session.authenticate("ada").unwrap();
        let after = browser(commit(&bed.sessions, &session).unwrap());
        assert_eq!(keys(&bed, &after).await, ["theme", "user"], "{place}");
        let seen = |session: &Session| (session.get("user").unwrap(), session.get("theme").unwrap());
        let expected: (Option<i64>, Option<String>) = (Some(42), Some("dark".into()));
        assert_eq!(bed.see(&after, seen).await, expected, "{place}");
    }
}

/// What has become of the former user must not keep the next one out.
#[actix_web::test]
async fn a_row_of_the_former_user_that_cannot_be_read_does_not_stop_a_login() {
    for user in ["bob", "ada"] {
        let (bed, spy) = guarded(|builder| builder);
        bed.sessions.revoke_subject("ada").await.unwrap();
        let place_of_ada = spy.row_keys()[0];
        let jar = ada(&bed, "cookie beside a store").await;
        let session = load(&bed.sessions, &jar);
        session.authenticate(user).unwrap();
        spy.overwrite(&place_of_ada, b"garbage").await;
        let line = bed.sessions.commit(&session, CommitContext::default()).await;
        let after = browser(line.unwrap().pop());
        assert_eq!(subject(&bed, &after).await.as_deref(), Some(user));
        assert_eq!(keys(&bed, &after).await, [""; 0]);
    }
}
