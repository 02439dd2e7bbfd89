//! A login that is sent twice, by a double click or because its first answer was lost: with a store, the second finds that the
//! first has ended the visitor's session, and keeps what that held.

use std::sync::Arc;
use std::time::Duration;

use sealed_session::{
    Clock as _, CommitContext, CommitError, DeviceBinding, Event, Lifetime, Origin, Placement, Rejection,
    Revocation, Session, SessionsBuilder,
};

use crate::device_binding::{Browser, Device};
use crate::logins::{browser, commit, load};
use crate::spy::{Fate, Spy, guarded, other_node};
use crate::support::{Bed, DAY, Jar, MINUTE, MS, now};

const REVOKED: Origin = Origin::Rejected(Rejection::Revoked);

/// Two nodes, and a browser with a cart, which somebody may have logged in to.
async fn shop(subject: Option<&'static str>, large: bool) -> (Bed, Bed, Arc<Spy>, Jar) {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let node = other_node(&bed, &spy, |builder| builder.revocation(Revocation::EveryRequest));
    let mut jar = Jar::default();
    bed.visit(&mut jar, move |session| {
        if let Some(subject) = subject {
            session.authenticate(subject).unwrap();
        }
        session.insert("cart", "two books").unwrap();
        session.insert("count", 40).unwrap();
        if large {
            session.insert("large", "l".repeat(5_000)).unwrap();
        }
    })
    .await;
    let is_large = bed.see(&jar, |session| matches!(session.placement(), Placement::Store { .. })).await;
    assert_eq!(is_large, large);
    (bed, node, spy, jar)
}

fn log_in(session: &Session, user: &str, nth: i64) {
    session.authenticate(user).unwrap();
    session.increment("count", 1).unwrap();
    session.insert("nth", nth).unwrap();
}

async fn cart(bed: &Bed, jar: &Jar) -> (Option<String>, Option<String>, Option<i64>, Option<i64>) {
    let (cart, count, nth) = bed
        .see(jar, |session| {
            (session.get("cart").unwrap(), session.get("count").unwrap(), session.get("nth").unwrap())
        })
        .await;
    (bed.see(jar, Session::subject).await, cart, count, nth)
}

fn kept(user: &str, nth: i64) -> (Option<String>, Option<String>, Option<i64>, Option<i64>) {
    (Some(user.into()), Some("two books".into()), Some(41), Some(nth))
}

fn empty(user: &str, nth: i64) -> (Option<String>, Option<String>, Option<i64>, Option<i64>) {
    (Some(user.into()), None, Some(1), Some(nth))
}

#[actix_web::test]
async fn two_logins_at_once_both_keep_what_the_visitor_had() {
    for large in [false, true] {
        for before in [None, Some("ada")] {
            for elsewhere in [false, true] {
                let context = format!("{large}, {before:?}, {elsewhere}");
                let (bed, node, _, jar) = shop(before, large).await;
                let second = if elsewhere { &node } else { &bed };
                let (one, two) = (load(&bed.sessions, &jar), load(&second.sessions, &jar));
                log_in(&one, "ada", 1);
                log_in(&two, "ada", 2);
                let first = browser(commit(&bed.sessions, &one).unwrap());
                let other = browser(commit(&second.sessions, &two).unwrap());
                // Whichever answer the browser took last.
                assert_eq!(cart(&bed, &first).await, kept("ada", 1), "{context}");
                assert_eq!(cart(&bed, &other).await, kept("ada", 2), "{context}");
                assert_ne!(load(&bed.sessions, &first).id(), load(&bed.sessions, &other).id());
                assert_eq!(load(&node.sessions, &jar).origin(), REVOKED, "{context}");
            }
        }
    }
}

#[actix_web::test]
async fn a_login_whose_first_answer_was_lost_keeps_what_the_cookie_holds() {
    for elsewhere in [false, true] {
        for before in [None, Some("ada")] {
            let (bed, node, _, jar) = shop(before, false).await;
            let first = load(&bed.sessions, &jar);
            log_in(&first, "ada", 1);
            commit(&bed.sessions, &first).unwrap();
            bed.clock.advance(30 * MINUTE);

            let second = if elsewhere { &node } else { &bed };
            let session = load(&second.sessions, &jar);
            assert_eq!(session.origin(), REVOKED);
            assert!(session.is_empty(), "nothing without the password");
            session.insert("note", 1).unwrap();
            session.increment("count", 1).unwrap();
            session.authenticate("ada").unwrap();
            assert_eq!(session.get::<String>("cart").unwrap().as_deref(), Some("two books"));
            session.insert("nth", 2).unwrap();
            let jar = browser(commit(&second.sessions, &session).unwrap());
            assert_eq!(cart(&node, &jar).await, kept("ada", 2));
            assert_eq!(node.see(&jar, Session::keys).await, ["cart", "count", "note", "nth"]);
        }
    }
}

#[actix_web::test]
async fn what_was_moved_into_the_store_is_gone_with_its_row_for_who_comes_after_the_first_answer() {
    let (bed, _, _, jar) = shop(None, true).await;
    let first = load(&bed.sessions, &jar);
    log_in(&first, "ada", 1);
    commit(&bed.sessions, &first).unwrap();
    let session = load(&bed.sessions, &jar);
    log_in(&session, "ada", 2);
    let jar = browser(commit(&bed.sessions, &session).unwrap());
    assert_eq!(cart(&bed, &jar).await, empty("ada", 2));
}

/// The browser has the cookie from before the session moved into the store, with what it held then.
#[actix_web::test]
async fn a_cookie_from_before_the_session_moved_leaves_nothing() {
    for moved_later in [false, true] {
        let (bed, node, _, early) = shop(None, false).await;
        let mut jar = early.clone();
        let first = load(&bed.sessions, &early);
        let grow = |session: &Session| session.insert("large", "l".repeat(5_000)).unwrap();
        // Before the login, or while it is under way.
        if !moved_later {
            bed.visit(&mut jar, grow).await;
        }
        let first = if moved_later { first } else { load(&bed.sessions, &jar) };
        log_in(&first, "ada", 1);
        if moved_later {
            bed.visit(&mut jar, grow).await;
        }
        commit(&bed.sessions, &first).unwrap();
        let session = load(&node.sessions, &early);
        log_in(&session, "ada", 2);
        assert!(!session.contains_key("cart"));
        let jar = browser(commit(&node.sessions, &session).unwrap());
        assert_eq!(cart(&node, &jar).await, empty("ada", 2), "{moved_later}");
    }
}

/// What a parallel request learns of the end does not make anybody forget by whom it was.
#[actix_web::test]
async fn a_request_that_comes_too_late_for_the_first_answer_takes_nothing_from_the_second() {
    let (bed, _, _, jar) = shop(None, false).await;
    let (first, late) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar));
    log_in(&first, "ada", 1);
    commit(&bed.sessions, &first).unwrap();
    late.renew();
    assert!(matches!(commit(&bed.sessions, &late), Err(CommitError::Ended)));
    let session = load(&bed.sessions, &jar);
    log_in(&session, "ada", 2);
    let jar = browser(commit(&bed.sessions, &session).unwrap());
    assert_eq!(cart(&bed, &jar).await, kept("ada", 2));
}

/// Whoever logs in as another gets nothing, at once or later, whosever the session was before.
#[actix_web::test]
async fn another_user_gets_nothing_of_it() {
    for large in [false, true] {
        for at_once in [false, true] {
            for (before, first, second) in [
                (None, "ada", "bob"),
                (Some("ada"), "ada", "bob"),
                (Some("ada"), "bob", "bob"),
                (Some("ada"), "bob", "ada"),
            ] {
                let context = format!("{large}, {at_once}, {before:?}, {first}, {second}");
                let (bed, node, _, jar) = shop(before, large).await;
                let early = load(&node.sessions, &jar);
                let one = load(&bed.sessions, &jar);
                log_in(&one, first, 1);
                commit(&bed.sessions, &one).unwrap();
                let two = if at_once { early } else { load(&node.sessions, &jar) };
                log_in(&two, second, 2);
                // An anonymous visitor's comes along until it is known that ada has logged in with it.
                let seen = two.contains_key("cart");
                assert_eq!(seen, at_once && (before.is_none() || before == Some(second)), "{context}");
                let jar = browser(commit(&node.sessions, &two).unwrap());
                assert_eq!(cart(&node, &jar).await, empty(second, 2), "{context}");
            }
        }
    }
}

/// How the visitor's session ends before the login.
type End = fn(&Bed, &Jar);

#[actix_web::test]
async fn a_session_that_ended_otherwise_leaves_nothing() {
    let ends: [(&str, End); 5] = [
        ("destroyed", |bed, jar| {
            let session = load(&bed.sessions, jar);
            session.destroy();
            commit(&bed.sessions, &session).unwrap();
        }),
        ("revoked", |bed, jar| {
            let id = load(&bed.sessions, jar).id();
            now(bed.sessions.revoke(id)).unwrap();
        }),
        ("renewed by nobody", |bed, jar| {
            let session = load(&bed.sessions, jar);
            session.renew();
            commit(&bed.sessions, &session).unwrap();
        }),
        // What she has lost by that must not come back with her password alone.
        ("hers, and renewed", |bed, jar| {
            let session = load(&bed.sessions, jar);
            session.remove("cart");
            session.renew();
            commit(&bed.sessions, &session).unwrap();
        }),
        ("taken over by ada's login, and all of hers revoked", |bed, jar| {
            let session = load(&bed.sessions, jar);
            session.authenticate("ada").unwrap();
            commit(&bed.sessions, &session).unwrap();
            now(bed.sessions.revoke_subject("ada")).unwrap();
        }),
    ];
    for (what, end) in ends {
        for at_once in [false, true] {
            // Whose it was when she revoked all of hers.
            let before = what.contains("hers").then_some("ada");
            let (bed, node, _, jar) = shop(before, false).await;
            let early = load(&node.sessions, &jar);
            end(&bed, &jar);
            let session = if at_once { early } else { load(&node.sessions, &jar) };
            log_in(&session, "ada", 2);
            let jar = browser(commit(&node.sessions, &session).unwrap());
            assert_eq!(cart(&node, &jar).await, empty("ada", 2), "{what}, {at_once}");
        }
    }
}

/// Whatever ends the visitor's session as well, once the first login has: by its id, by a logout in a tab that still has its
/// cookie, and all of the user's.
#[actix_web::test]
async fn what_was_ended_on_purpose_since_leaves_nothing() {
    for (what, before) in [("revoked", None), ("destroyed", None), ("all of hers", Some("ada"))] {
        for elsewhere in [false, true] {
            let (bed, node, _, jar) = shop(before, false).await;
            let early = load(&bed.sessions, &jar);
            let (first, id) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar).id());
            log_in(&first, "ada", 1);
            commit(&bed.sessions, &first).unwrap();
            match what {
                "revoked" => now(bed.sessions.revoke(id)).unwrap(),
                "destroyed" => {
                    early.destroy();
                    commit(&bed.sessions, &early).unwrap();
                }
                _ => now(bed.sessions.revoke_subject("ada")).unwrap(),
            }
            let second = if elsewhere { &node } else { &bed };
            let session = load(&second.sessions, &jar);
            log_in(&session, "ada", 2);
            assert!(!session.contains_key("cart"), "{what}, {elsewhere}: not even within this request");
            let jar = browser(commit(&second.sessions, &session).unwrap());
            assert_eq!(cart(second, &jar).await, empty("ada", 2), "{what}, {elsewhere}");
        }
    }
}

/// A node that has heard that another session took the place of this one asks again before a login takes anything up.
#[actix_web::test]
async fn what_was_ended_on_purpose_since_leaves_nothing_where_the_former_end_is_known_either() {
    for every in [None, Some(MINUTE)] {
        let revocation = every.map_or(Revocation::EveryRequest, Revocation::Every);
        let (bed, spy) = guarded(|builder| builder.revocation(revocation));
        let node = other_node(&bed, &spy, |builder| builder.revocation(revocation));
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| session.insert("cart", "two books").unwrap()).await;
        let (first, id) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar).id());
        log_in(&first, "ada", 1);
        commit(&bed.sessions, &first).unwrap();
        let seen = |login: bool| {
            spy.calls();
            node.clock.advance(MS);
            let session = load(&node.sessions, &jar);
            assert_eq!(session.origin(), REVOKED);
            if login {
                session.authenticate("ada").unwrap();
            }
            (session.contains_key("cart"), spy.calls().len())
        };
        assert_eq!(seen(false), (false, 1));
        // As often as of a session that goes on.
        assert_eq!(seen(true), (true, usize::from(every.is_none())));
        now(bed.sessions.revoke(id)).unwrap();
        if let Some(every) = every {
            assert_eq!(seen(true), (true, 0), "within the time that others may take to hear of it");
            node.clock.advance(every);
        }
        assert_eq!(seen(true), (false, 1));
        assert_eq!(seen(true), (false, 0), "which is for ever");
    }
}

/// Nor what is learnt of the store while this process ends the session.
#[actix_web::test]
async fn an_answer_from_before_the_end_does_not_undo_it() {
    let (bed, _, spy, jar) = shop(None, false).await;
    let node = other_node(&bed, &spy, |builder| builder.revocation(Revocation::EveryRequest));
    let (first, id) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar).id());
    log_in(&first, "ada", 1);
    commit(&bed.sessions, &first).unwrap();
    let sessions = node.sessions.clone();
    spy.before("what was loaded", move || now(sessions.revoke(id)).unwrap());
    for _ in 0..2 {
        let session = load(&node.sessions, &jar);
        session.authenticate("ada").unwrap();
        assert!(!session.contains_key("cart"));
    }
}

/// A request hears that the session goes on, while another one of its process has heard that it is over.
#[actix_web::test]
async fn an_answer_from_before_the_first_login_does_not_bring_the_session_back() {
    let (bed, node, spy, jar) = shop(None, false).await;
    let first = load(&bed.sessions, &jar);
    first.authenticate("ada").unwrap();
    let late = load(&node.sessions, &jar);
    late.touch();
    let (elsewhere, here, former) = (bed.sessions.clone(), node.sessions.clone(), Jar(jar.0.clone()));
    spy.before("what was loaded", move || {
        commit(&elsewhere, &first).unwrap();
        assert_eq!(load(&here, &former).origin(), REVOKED);
    });
    commit(&node.sessions, &late).unwrap();
    // Not asked again, since it is known.
    spy.calls();
    let session = load(&node.sessions, &jar);
    assert_eq!((session.origin(), spy.calls().len()), (REVOKED, 0));
}

/// The second login waits for the first one, in the same process, which has not heard yet that its mark is there.
#[actix_web::test]
async fn what_one_login_leaves_to_the_next_is_read_again_because_others_may_have_ended_it_for_good() {
    for ended in [false, true] {
        let (node, spy) = guarded(|builder| builder.roster(false));
        let bed = other_node(&node, &spy, |builder| builder.roster(false));
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| {
            session.insert("cart", "two books").unwrap();
            session.insert("count", 40).unwrap();
        })
        .await;
        let id = load(&bed.sessions, &jar).id();
        let (one, two) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar));
        log_in(&one, "ada", 1);
        log_in(&two, "ada", 2);
        spy.slowly(true);
        let (elsewhere, store) = (node.sessions.clone(), Arc::clone(&spy));
        spy.before("what was written", move || {
            store.slowly(false);
            if ended {
                now(elsewhere.revoke(id)).unwrap();
            }
            store.calls();
        });
        let first = bed.sessions.commit(&one, CommitContext::default());
        let second = async {
            tokio::task::yield_now().await;
            bed.sessions.commit(&two, CommitContext::default()).await
        };
        let (_, second) = tokio::join!(first, second);
        assert_eq!(spy.calls(), ["load", "extend"], "the first one wrote, and the second one reads that");
        let jar = browser(second.unwrap().pop());
        assert_eq!(cart(&bed, &jar).await, if ended { empty("ada", 2) } else { kept("ada", 2) });
    }
}

/// Who knows that a session is over needs no mark for that.
#[actix_web::test]
async fn a_mark_that_has_gone_brings_no_session_back_where_its_end_is_known() {
    let (bed, node, spy, jar) = shop(Some("ada"), false).await;
    let first = load(&bed.sessions, &jar);
    log_in(&first, "ada", 1);
    commit(&bed.sessions, &first).unwrap();
    assert_eq!(load(&node.sessions, &jar).origin(), REVOKED);
    now(sealed_session::store::Store::clear(&spy.rows)).unwrap();
    for knows in [&bed, &node] {
        for _ in 0..2 {
            bed.clock.advance(MS);
            let session = load(&knows.sessions, &jar);
            assert_eq!(session.origin(), REVOKED);
            session.authenticate("ada").unwrap();
            assert!(session.is_empty(), "nor does anything say now that it was hers");
        }
    }
}

/// A process that was told by the row that the session was ended for good does not forget it over its own login.
#[actix_web::test]
async fn a_login_that_finds_the_session_ended_for_good_makes_that_known() {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::Every(MINUTE)));
    let node = other_node(&bed, &spy, |builder| builder.revocation(Revocation::Every(MINUTE)));
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.insert("cart", "two books").unwrap()).await;
    let (first, id) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar).id());
    log_in(&first, "ada", 1);
    commit(&bed.sessions, &first).unwrap();
    assert_eq!(load(&node.sessions, &jar).origin(), REVOKED);
    now(bed.sessions.revoke(id)).unwrap();
    for seen in [true, false, false] {
        node.clock.advance(MINUTE / 4);
        let session = load(&node.sessions, &jar);
        session.authenticate("ada").unwrap();
        assert_eq!(session.contains_key("cart"), seen);
        commit(&node.sessions, &session).unwrap();
        assert!(!session.contains_key("cart"), "the commit asks");
    }
}

/// Whoever logs out with a cookie that was refused for it.
#[actix_web::test]
async fn a_logout_with_the_former_cookie_leaves_nothing() {
    for before in [None, Some("ada")] {
        let (bed, node, _, jar) = shop(before, false).await;
        let first = load(&bed.sessions, &jar);
        log_in(&first, "ada", 1);
        commit(&bed.sessions, &first).unwrap();
        let session = load(&node.sessions, &jar);
        session.destroy();
        assert!(commit(&node.sessions, &session).unwrap().unwrap().contains("Max-Age=0"));
        bed.clock.advance(MS);
        for again in [&bed, &node] {
            let session = load(&again.sessions, &jar);
            session.authenticate("ada").unwrap();
            assert!(!session.contains_key("cart"));
        }
    }
}

/// Where nothing is left of it for a login on this node, there may be on another one, or in a request that is under way.
#[actix_web::test]
async fn a_logout_with_a_cookie_that_is_refused_ends_what_others_might_go_on_with() {
    for large in [false, true] {
        let (bed, node, _, jar) = shop(None, large).await;
        let (first, second) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar));
        let late = load(&node.sessions, &jar);
        log_in(&first, "ada", 1);
        log_in(&second, "ada", 2);
        commit(&bed.sessions, &first).unwrap();
        // This node learns that it is over, and not why.
        late.renew();
        assert!(matches!(commit(&node.sessions, &late), Err(CommitError::Ended)));
        let session = load(&node.sessions, &jar);
        assert_eq!(session.origin(), REVOKED);
        session.destroy();
        node.events();
        assert!(commit(&node.sessions, &session).unwrap().unwrap().contains("Max-Age=0"));
        assert!(!node.events().iter().any(|event| matches!(event, Event::Ended { .. })), "it was over");
        let second = browser(commit(&bed.sessions, &second).unwrap());
        assert_eq!(cart(&bed, &second).await, empty("ada", 2));
        bed.clock.advance(MS);
        let session = load(&bed.sessions, &jar);
        session.authenticate("ada").unwrap();
        assert!(!session.contains_key("cart"));
    }
}

/// In another tab the session was given more time while the first login was under way, which knows nothing of that.
#[actix_web::test]
async fn the_mark_of_the_first_login_lasts_as_long_as_the_cookie_of_the_second() {
    for refused in [false, true] {
        let lives =
            |builder: SessionsBuilder| builder.lifetime(Lifetime::new(DAY).fixed()).max_duration(30 * DAY);
        let (bed, spy) = guarded(lives);
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| session.insert("cart", "two books").unwrap()).await;
        let first = load(&bed.sessions, &jar);
        log_in(&first, "ada", 1);
        bed.visit(&mut jar, |session| session.set_duration(20 * DAY).unwrap()).await;
        let early = load(&bed.sessions, &jar);
        commit(&bed.sessions, &first).unwrap();
        let second = if refused { load(&bed.sessions, &jar) } else { early };
        log_in(&second, "ada", 2);
        commit(&bed.sessions, &second).unwrap().unwrap();
        for _ in 0..19 {
            bed.clock.advance(DAY);
            let node = other_node(&bed, &spy, lives);
            assert_eq!(load(&node.sessions, &jar).origin(), REVOKED, "{refused}");
        }
    }
}

/// The commit learns that the owner has ended it for good.
#[actix_web::test]
async fn nor_do_a_duration_and_persistence_of_its_own_come_along_from_what_was_ended_for_good() {
    for (own, hours) in [(None, 24), (Some(5 * DAY), 5 * 24)] {
        let lives = |builder: SessionsBuilder| {
            let short = builder.lifetime(Lifetime::new(DAY).fixed()).max_duration(30 * DAY);
            short.persistent(false).revocation(Revocation::Every(MINUTE))
        };
        let (bed, spy) = guarded(lives);
        let node = other_node(&bed, &spy, lives);
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| {
            session.insert("cart", 1).unwrap();
            session.set_duration(20 * DAY).unwrap();
            session.set_persistent(true).unwrap();
        })
        .await;
        let (first, id) = (load(&bed.sessions, &jar), load(&bed.sessions, &jar).id());
        first.authenticate("ada").unwrap();
        commit(&bed.sessions, &first).unwrap();
        assert_eq!(load(&node.sessions, &jar).origin(), REVOKED);
        now(bed.sessions.revoke(id)).unwrap();
        let session = load(&node.sessions, &jar);
        session.authenticate("ada").unwrap();
        assert!(session.contains_key("cart"), "within the time that others may take to hear of it");
        session.retain(|_| true);
        if let Some(own) = own {
            session.set_duration(own).unwrap();
            session.set_persistent(true).unwrap();
        }
        let line = commit(&node.sessions, &session).unwrap();
        assert_eq!(line.as_ref().unwrap().contains("Max-Age"), own.is_some(), "{line:?}");
        let session = load(&node.sessions, &browser(line));
        assert!(session.is_empty());
        assert_eq!((session.expires_at() - node.clock.now()).whole_hours(), hours);
    }
}

/// Whether what the visitor's session held is still her own is asked once, and then known for the time of the revocation.
#[actix_web::test]
async fn a_store_that_does_not_say_whether_all_of_hers_were_revoked_leaves_nothing() {
    for fails in [false, true] {
        let (bed, _, spy, jar) = shop(Some("ada"), false).await;
        let first = load(&bed.sessions, &jar);
        log_in(&first, "ada", 1);
        commit(&bed.sessions, &first).unwrap();
        spy.calls();
        if fails {
            spy.next([Fate::Fails]);
        }
        let session = load(&bed.sessions, &jar);
        assert_eq!(spy.calls(), ["load"], "of the session it knows");
        assert_eq!(session.origin(), REVOKED);
        session.authenticate("ada").unwrap();
        assert_eq!(session.contains_key("cart"), !fails);
    }
}

/// What an application drops before a login stays dropped in the second one.
#[actix_web::test]
async fn what_the_request_removes_before_it_logs_in_does_not_come_along() {
    type Removes = fn(&Session);
    let ways: [(&str, Removes, &[&str]); 4] = [
        ("remove", |session| assert!(!session.remove("cart")), &["count"]),
        ("take", |session| assert_eq!(session.take::<String>("cart").unwrap(), None), &["count"]),
        ("clear", Session::clear, &[]),
        // Nobody is asked about keys that cannot be seen.
        ("retain", |session| session.retain(|_| unreachable!()), &[]),
    ];
    for (what, removes, left) in ways {
        let (bed, _, _, jar) = shop(None, false).await;
        let first = load(&bed.sessions, &jar);
        log_in(&first, "ada", 1);
        commit(&bed.sessions, &first).unwrap();
        let session = load(&bed.sessions, &jar);
        removes(&session);
        session.authenticate("ada").unwrap();
        assert_eq!(session.keys(), left, "{what}");
        let jar = browser(commit(&bed.sessions, &session).unwrap());
        assert_eq!(bed.see(&jar, Session::keys).await, left, "{what}");
    }
}

/// A handler that logs somebody in, and then goes on as another user.
#[actix_web::test]
async fn who_goes_on_as_another_user_in_the_same_request_has_an_empty_session() {
    for before in [None, Some("ada")] {
        let logins: [fn(&Session); 2] =
            [|session| session.set_subject("bob").unwrap(), |session| session.authenticate("bob").unwrap()];
        for goes_on in logins {
            let (bed, _, _, jar) = shop(before, false).await;
            let first = load(&bed.sessions, &jar);
            log_in(&first, "ada", 1);
            commit(&bed.sessions, &first).unwrap();
            let session = load(&bed.sessions, &jar);
            session.authenticate("ada").unwrap();
            assert!(session.contains_key("cart"));
            goes_on(&session);
            assert!(session.is_empty());
            session.insert("nth", 2).unwrap();
            let jar = browser(commit(&bed.sessions, &session).unwrap());
            assert_eq!(cart(&bed, &jar).await, (Some("bob".into()), None, None, Some(2)));
        }
    }
}

/// Both together would make a larger row than is allowed.
#[actix_web::test]
async fn what_does_not_fit_beside_what_the_request_has_written_stays_behind() {
    for (len, fits) in [(7_000, true), (7_900, false)] {
        let (bed, _) =
            guarded(|builder| builder.revocation(Revocation::EveryRequest).max_stored_bytes(8_192));
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| session.insert("cart", "c".repeat(500)).unwrap()).await;
        let first = load(&bed.sessions, &jar);
        first.authenticate("ada").unwrap();
        commit(&bed.sessions, &first).unwrap();
        let session = load(&bed.sessions, &jar);
        session.insert("note", "n".repeat(len)).unwrap();
        session.authenticate("ada").unwrap();
        assert_eq!(session.contains_key("cart"), fits);
        let jar = browser(commit(&bed.sessions, &session).unwrap());
        assert_eq!(bed.see(&jar, Session::len).await, 1 + usize::from(fits));
    }
}

#[actix_web::test]
async fn going_on_without_a_login_gets_nothing_of_it() {
    let (bed, _, _, jar) = shop(None, false).await;
    let first = load(&bed.sessions, &jar);
    log_in(&first, "ada", 1);
    commit(&bed.sessions, &first).unwrap();
    let session = load(&bed.sessions, &jar);
    session.set_subject("ada").unwrap();
    assert!(session.is_empty());
    assert_eq!(session.keys(), [""; 0]);
}

#[actix_web::test]
async fn a_duration_and_persistence_of_its_own_come_along_unless_the_request_says_otherwise() {
    for (says, hours) in [(None, 2 * 24), (Some(5 * DAY), 5 * 24), (Some(Duration::ZERO), 24)] {
        let (bed, spy) =
            guarded(|builder| builder.lifetime(Lifetime::new(DAY).fixed()).max_duration(30 * DAY));
        let node = other_node(&bed, &spy, |b| b.lifetime(Lifetime::new(DAY).fixed()).max_duration(30 * DAY));
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| {
            session.insert("cart", 1).unwrap();
            session.set_duration(2 * DAY).unwrap();
            session.set_persistent(false).unwrap();
        })
        .await;
        let first = load(&bed.sessions, &jar);
        first.authenticate("ada").unwrap();
        commit(&bed.sessions, &first).unwrap();
        let session = load(&node.sessions, &jar);
        if let Some(says) = says {
            match says {
                Duration::ZERO => session.reset_duration(),
                says => session.set_duration(says).unwrap(),
            }
            session.set_persistent(true).unwrap();
        }
        session.authenticate("ada").unwrap();
        let line = commit(&node.sessions, &session).unwrap();
        assert_eq!(line.as_ref().unwrap().contains("Max-Age"), says.is_some());
        let end = load(&node.sessions, &browser(line)).expires_at();
        assert_eq!((end - node.clock.now()).whole_hours(), hours);
    }
}

/// A request that does not prove the device may be a thief's, whose cookie may be from before the session was bound.
#[actix_web::test]
async fn a_session_that_is_bound_to_a_device_leaves_nothing() {
    let guarding = |builder: SessionsBuilder| {
        builder.device_binding(DeviceBinding::WhereOffered).revocation(Revocation::EveryRequest)
    };
    let with_cart = |session: &Session| session.insert("cart", "two books").unwrap();
    let as_ada = |session: &Session| session.authenticate("ada").unwrap();
    for (binds, early, by_owner) in
        [(false, true, true), (true, true, true), (true, false, true), (true, true, false)]
    {
        let (bed, spy) = guarded(guarding);
        let mut owner = Browser::default();
        if binds {
            owner = Browser::registered(&bed, "ada", &Device::new(1)).await;
        } else {
            owner.visit(&bed, as_ada).await;
        }
        let mut thief = owner.session.clone();
        if early {
            // Not bound yet, as far as this cookie says.
            let mut copy = Browser { session: thief, ..Browser::default() };
            copy.visit(&bed, with_cart).await;
            (owner.session, thief) = (copy.session.clone(), copy.session);
        }
        owner.visit(&bed, with_cart).await;
        if !early {
            thief = owner.session.clone();
        }
        let id = load(&bed.sessions, &owner.session).id();
        if by_owner {
            owner.visit(&bed, as_ada).await;
        } else {
            // Somebody with the password and without the device, who gets nothing of it, and ends it.
            Browser { session: thief.clone(), ..Browser::default() }.visit(&bed, as_ada).await;
        }

        let node = other_node(&bed, &spy, guarding);
        let session = load(&node.sessions, &thief);
        let origin = if early { REVOKED } else { Origin::Rejected(Rejection::Unproven) };
        assert_eq!(session.origin(), origin, "{binds}, {early}, {by_owner}");
        session.authenticate("ada").unwrap();
        assert_eq!(session.contains_key("cart"), !binds, "{binds}, {early}, {by_owner}");
        assert_ne!(session.id(), id);
    }
}

/// Not even for its owner, whose device has proved itself twice: no mark says of whom a bound session was.
#[actix_web::test]
async fn two_logins_at_once_from_the_device_itself_leave_the_second_empty() {
    for large in [false, true] {
        let (bed, _) = guarded(|builder| builder.device_binding(DeviceBinding::WhereOffered));
        let mut owner = Browser::registered(&bed, "ada", &Device::new(1)).await;
        owner
            .visit(&bed, move |session| {
                session.insert("cart", "two books").unwrap();
                session.insert("large", "l".repeat(if large { 5_000 } else { 5 })).unwrap();
            })
            .await;
        let [one, two] = [1, 2].map(|nth| {
            let session = now(bed.sessions.load(owner.cookies())).unwrap();
            assert!(session.contains_key("cart"));
            log_in(&session, "ada", nth);
            session
        });
        for session in [&one, &two] {
            commit(&bed.sessions, session).unwrap();
        }
        assert!(one.contains_key("cart"));
        assert_eq!(two.keys(), ["count", "nth"]);
    }
}
