//! Requests of one stored session that overlap, each in a fixed order.

use std::sync::Arc;

use sealed_session::store::Store;
use sealed_session::{CommitContext, CommitError, Event, Origin, Rejection, Session, Sessions};

use crate::spy::{Fate, Spy, guarded, stored};
use crate::stored::spilled;
use crate::support::{Bed, DAY, Jar, MINUTE, now};

fn load(sessions: &Sessions, jar: &Jar) -> Session {
    now(sessions.load(jar.0.iter())).unwrap()
}

fn commit(sessions: &Sessions, session: &Session) -> Result<Option<String>, CommitError> {
    Ok(now(sessions.commit(session, CommitContext::default()))?.pop())
}

fn jar(line: &str) -> Jar {
    Jar(line.split(';').next().map(str::to_owned))
}

fn large(letter: &str) -> String {
    letter.repeat(5_000)
}

/// A whole request of the same browser, in between.
fn request(
    bed: &Bed,
    jar: &Jar,
    work: impl FnOnce(&Session) + Send + 'static,
) -> impl FnOnce() + Send + 'static {
    let (sessions, jar) = (bed.sessions.clone(), jar.clone());
    move || {
        let session = load(&sessions, &jar);
        work(&session);
        commit(&sessions, &session).unwrap();
    }
}

async fn stored_bed() -> (Bed, Arc<Spy>, Jar) {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.calls();
    (bed, spy, jar)
}

async fn value(bed: &Bed, jar: &Jar, key: &'static str) -> Option<i64> {
    bed.see(jar, move |session| session.get(key).unwrap()).await
}

#[actix_web::test]
async fn two_writers_of_different_keys_both_win_and_of_one_key_the_later() {
    let (bed, spy, jar) = stored_bed().await;
    let [one, other] = [load(&bed.sessions, &jar), load(&bed.sessions, &jar)];
    one.insert("a", 1).unwrap();
    one.insert("both", 1).unwrap();
    other.insert("b", 2).unwrap();
    other.insert("both", 2).unwrap();
    assert!(one.remove("n"));
    commit(&bed.sessions, &other).unwrap();
    commit(&bed.sessions, &one).unwrap();
    assert_eq!(spy.calls(), ["load", "load", "write", "write", "load", "write"]);
    assert_eq!(value(&bed, &jar, "a").await, Some(1));
    assert_eq!(value(&bed, &jar, "b").await, Some(2));
    assert_eq!(value(&bed, &jar, "both").await, Some(1));
    assert_eq!(value(&bed, &jar, "n").await, None);
}

#[actix_web::test]
async fn increments_add_up_clear_is_of_all_that_is_there_by_then_and_retain_of_what_it_was_asked_about() {
    let (bed, _, jar) = stored_bed().await;
    let sessions: Vec<Session> = (0..10).map(|_| load(&bed.sessions, &jar)).collect();
    for session in &sessions {
        session.increment("n", 1).unwrap();
        session.increment("n", 1).unwrap();
        commit(&bed.sessions, session).unwrap();
    }
    assert_eq!(value(&bed, &jar, "n").await, Some(21));

    let retains = load(&bed.sessions, &jar);
    retains.retain(|key| key != "large");
    retains.insert("mine", 1).unwrap();
    request(&bed, &jar, |other| other.insert("theirs", 1).unwrap())();
    commit(&bed.sessions, &retains).unwrap();
    assert_eq!(bed.see(&jar, Session::keys).await, ["mine", "n", "theirs"]);

    let clears = load(&bed.sessions, &jar);
    clears.clear();
    request(&bed, &jar, |other| other.insert("theirs", 1).unwrap())();
    clears.increment("n", 5).unwrap();
    commit(&bed.sessions, &clears).unwrap();
    assert_eq!(value(&bed, &jar, "n").await, Some(5), "the barrier hides what was there");
    assert_eq!(bed.see(&jar, Session::keys).await, ["n"]);
}

#[actix_web::test]
async fn changes_that_exclude_one_another_are_a_conflict_that_changes_nothing() {
    let (bed, _, jar) = stored_bed().await;
    let adds = load(&bed.sessions, &jar);
    adds.increment("n", 1).unwrap();
    request(&bed, &jar, |other| other.insert("n", "a word").unwrap())();
    assert!(matches!(commit(&bed.sessions, &adds), Err(CommitError::Conflict)));

    let adds = load(&bed.sessions, &jar);
    adds.increment("m", 1).unwrap();
    request(&bed, &jar, |other| other.insert("m", i64::MAX).unwrap())();
    bed.events();
    assert!(matches!(commit(&bed.sessions, &adds), Err(CommitError::Conflict)));
    assert!(matches!(bed.events()[..], [Event::Conflicted { .. }]));
    assert_eq!(value(&bed, &jar, "m").await, Some(i64::MAX));

    // Each fits alone, and both together do not.
    let grows = load(&bed.sessions, &jar);
    grows.insert("one", "1".repeat(600_000)).unwrap();
    request(&bed, &jar, |other| other.insert("other", "2".repeat(600_000)).unwrap())();
    assert!(matches!(commit(&bed.sessions, &grows), Err(CommitError::Conflict)));
    assert!(bed.see(&jar, |session| session.contains_key("other") && !session.contains_key("one")).await);
}

#[actix_web::test]
async fn two_requests_spill_the_same_session_and_both_changes_are_in_the_one_row() {
    let (bed, spy) = stored(|builder| builder);
    let before = bed.logged_in().await;
    let [one, other] = [load(&bed.sessions, &before), load(&bed.sessions, &before)];
    one.insert("one", large("1")).unwrap();
    one.increment("n", 1).unwrap();
    other.insert("other", large("2")).unwrap();
    other.increment("n", 1).unwrap();
    let first = commit(&bed.sessions, &one).unwrap().unwrap();
    let second = commit(&bed.sessions, &other).unwrap().unwrap();
    assert_eq!(spy.calls(), ["write", "write", "load", "write"]);
    assert_eq!(spy.rows.count().await.unwrap(), 1);
    // Whichever answer the browser keeps.
    for reference in [jar(&first), jar(&second)] {
        assert_eq!(bed.see(&reference, Session::keys).await, ["n", "one", "other"]);
        assert_eq!(value(&bed, &reference, "n").await, Some(3));
    }
}

#[actix_web::test]
async fn the_answer_to_a_spill_is_lost_and_the_older_cookie_still_leads_to_the_data() {
    let (bed, _) = stored(|builder| builder);
    let mut browser = bed.logged_in().await;
    let lost = bed.peek(&browser, |session| session.insert("large", large("1")).unwrap()).await;
    assert!(lost.set_cookie().is_some());
    // The browser goes on with what it has, and what it is told is not lost at its next spill.
    bed.visit(&mut browser, |session| {
        session.insert("acknowledged", 1).unwrap();
        assert!(session.remove("n"));
    })
    .await;
    bed.visit(&mut browser, |session| session.insert("more", large("2")).unwrap()).await;
    assert_eq!(bed.see(&browser, Session::keys).await, ["acknowledged", "more"]);

    // Without anything in between, both spills are of the same cookie, so both are in the row.
    let mut browser = bed.logged_in().await;
    bed.peek(&browser, |session| session.insert("large", large("1")).unwrap()).await;
    bed.visit(&mut browser, |session| session.insert("more", large("2")).unwrap()).await;
    assert_eq!(bed.see(&browser, Session::keys).await, ["large", "more", "n"]);
}

#[actix_web::test]
async fn an_older_cookie_that_spills_later_puts_only_its_own_changes_over_the_row() {
    let (bed, _) = stored(|builder| builder);
    let before = bed.logged_in().await;
    let mut browser = before.clone();
    bed.visit(&mut browser, |session| session.insert("large", large("1")).unwrap()).await;
    bed.visit(&mut browser, |session| session.insert("n", 2).unwrap()).await;
    let late = bed.peek(&before, |session| session.insert("late", large("2")).unwrap()).await;
    assert!(late.set_cookie().is_some());
    assert_eq!(bed.see(&browser, Session::keys).await, ["large", "late", "n"]);
    assert_eq!(value(&bed, &browser, "n").await, Some(2), "no older value over a newer one");
}

#[actix_web::test]
async fn a_write_to_the_old_row_during_a_renew_is_in_the_new_session() {
    for shrinks in [false, true] {
        let (bed, spy, jar) = stored_bed().await;
        let renews = load(&bed.sessions, &jar);
        renews.renew();
        renews.insert("mine", 1).unwrap();
        if shrinks {
            assert!(renews.remove("large"));
        }
        // Acknowledged before the old row is ended.
        spy.next([]);
        request(&bed, &jar, |other| other.insert("theirs", 1).unwrap())();
        spy.calls();
        let line = commit(&bed.sessions, &renews).unwrap().unwrap();
        assert_eq!(spy.rows.count().await.unwrap(), if shrinks { 1 } else { 2 });
        let new = self::jar(&line);
        assert_eq!(value(&bed, &new, "theirs").await, Some(1));
        assert_eq!(value(&bed, &new, "mine").await, Some(1));
        assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));
    }
}

#[actix_web::test]
async fn a_write_that_makes_a_renewed_session_too_large_for_its_cookie_takes_it_into_the_store() {
    let (bed, spy, jar) = stored_bed().await;
    let renews = load(&bed.sessions, &jar);
    renews.renew();
    assert!(renews.remove("large"));
    request(&bed, &jar, |other| other.insert("theirs", large("2")).unwrap())();
    let new = self::jar(&commit(&bed.sessions, &renews).unwrap().unwrap());
    assert_eq!(spy.rows.count().await.unwrap(), 2);
    assert_eq!(bed.see(&new, Session::keys).await, ["n", "theirs"]);
}

#[actix_web::test]
async fn a_destroy_during_a_renew_leaves_no_session() {
    let (bed, spy, jar) = stored_bed().await;
    let renews = load(&bed.sessions, &jar);
    renews.renew();
    let rows = Arc::clone(&spy);
    request(&bed, &jar, Session::destroy)();
    bed.events();
    assert!(matches!(commit(&bed.sessions, &renews), Err(CommitError::Ended)));
    assert!(matches!(bed.events()[..], [Event::Lost { reason: Rejection::Revoked, .. }]));
    assert_eq!(rows.rows.count().await.unwrap(), 1, "the ended row; the new one was taken back");
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));

    // The same for one whose row is gone altogether, and for a login.
    let (bed, spy, jar) = stored_bed().await;
    let logs_in = load(&bed.sessions, &jar);
    logs_in.set_subject("ada").unwrap();
    spy.rows.clear().await.unwrap();
    assert!(matches!(commit(&bed.sessions, &logs_in), Err(CommitError::Ended)));
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn a_slow_request_never_brings_a_destroyed_session_back() {
    type Work = fn(&Session);
    let works: [(Work, bool); 6] = [
        (|session| session.insert("late", 1).unwrap(), false),
        (Session::clear, false),
        (Session::touch, true),
        (|session| session.set_duration(DAY).unwrap(), true),
        (|session| session.set_persistent(false).unwrap(), true),
        (Session::destroy, true),
    ];
    for (work, may_issue) in works {
        let (bed, _, jar) = stored_bed().await;
        let slow = load(&bed.sessions, &jar);
        work(&slow);
        request(&bed, &jar, Session::destroy)();
        let line = commit(&bed.sessions, &slow).unwrap();
        assert!(may_issue || line.is_none(), "{line:?}");
        let after = line.map_or(jar.clone(), |line| self::jar(&line));
        for cookie in [&jar, &after] {
            assert_ne!(bed.see(cookie, Session::origin).await, Origin::Resumed);
        }
    }
}

#[actix_web::test]
async fn a_write_to_a_row_that_is_gone_creates_nothing_and_sends_no_cookie_and_is_told_once() {
    for vanishes in [true, false] {
        let (bed, spy, jar) = stored_bed().await;
        let writes = load(&bed.sessions, &jar);
        writes.insert("late", 1).unwrap();
        writes.touch();
        let expected = if vanishes {
            spy.rows.clear().await.unwrap();
            Rejection::Missing
        } else {
            request(&bed, &jar, Session::destroy)();
            Rejection::Revoked
        };
        bed.events();
        assert_eq!(commit(&bed.sessions, &writes).unwrap(), None);
        assert!(matches!(bed.events()[..], [Event::Lost { reason, .. }] if reason == expected));
        assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(expected));
    }
    // Likewise an extension of one that is gone.
    let (bed, spy, jar) = stored_bed().await;
    bed.clock.advance(DAY - MINUTE);
    let extends = load(&bed.sessions, &jar);
    spy.rows.clear().await.unwrap();
    assert_eq!(commit(&bed.sessions, &extends).unwrap(), None);
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn a_destroy_that_meets_a_write_ends_what_was_written() {
    let (bed, spy, jar) = stored_bed().await;
    let destroys = load(&bed.sessions, &jar);
    destroys.destroy();
    request(&bed, &jar, |other| other.insert("theirs", 1).unwrap())();
    spy.calls();
    assert!(commit(&bed.sessions, &destroys).unwrap().unwrap().contains("Max-Age=0"));
    assert_eq!(spy.calls(), ["write", "load", "write"]);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

/// In one process the next writer goes before the answer to the one whose place it takes.
#[actix_web::test]
async fn a_write_whose_session_is_ended_before_its_answer_is_made_sends_no_cookie_after_the_removal() {
    let (bed, spy) = guarded(|builder| builder.roster(false));
    let jar = spilled(&bed).await;
    let [writes, destroys] = [load(&bed.sessions, &jar), load(&bed.sessions, &jar)];
    writes.insert("mine", 1).unwrap();
    writes.touch();
    destroys.destroy();
    spy.calls();
    // The end begins, and waits, before the row is written.
    spy.next([Fate::Takes(3)]);
    let commit = async |session| bed.sessions.commit(session, CommitContext::default()).await.unwrap();
    let (written, ended) = futures_util::future::join(commit(&writes), commit(&destroys)).await;
    assert_eq!(spy.calls(), ["write", "write"], "the end was told what is in the row");
    assert_eq!(written, [""; 0]);
    assert!(ended[0].contains("Max-Age=0"), "{ended:?}");
    let lost = bed.events().into_iter().filter(|event| matches!(event, Event::Lost { .. }));
    assert_eq!(lost.count(), 0, "it was written");
}

#[actix_web::test]
async fn an_extension_that_races_a_write_leaves_the_later_end_and_the_new_data() {
    let (bed, spy, jar) = stored_bed().await;
    bed.clock.advance(DAY - MINUTE);
    let extends = load(&bed.sessions, &jar);
    let (sessions, store) = (bed.sessions.clone(), jar.clone());
    spy.before("extend", move || {
        let writes = load(&sessions, &store);
        writes.skip_renewal();
        writes.insert("n", 2).unwrap();
        commit(&sessions, &writes).unwrap();
    });
    let extended = self::jar(&commit(&bed.sessions, &extends).unwrap().unwrap());
    bed.clock.advance(3 * MINUTE);
    assert_eq!(value(&bed, &extended, "n").await, Some(2));
}

#[actix_web::test]
async fn emptying_that_meets_a_write_keeps_the_session() {
    let (bed, _, jar) = stored_bed().await;
    let empties = load(&bed.sessions, &jar);
    for key in empties.keys() {
        assert!(empties.remove(key));
    }
    request(&bed, &jar, |other| other.insert("theirs", 1).unwrap())();
    assert_eq!(commit(&bed.sessions, &empties).unwrap(), None, "the cookie stays");
    assert_eq!(bed.see(&jar, Session::keys).await, ["theirs"]);
    // And the other way round: what is left is nothing.
    let [one, other] = [load(&bed.sessions, &jar), load(&bed.sessions, &jar)];
    other.insert("short-lived", 1).unwrap();
    commit(&bed.sessions, &other).unwrap();
    one.clear();
    assert!(commit(&bed.sessions, &one).unwrap().unwrap().contains("Max-Age=0"));
}

#[actix_web::test]
async fn reseal_that_meets_a_write_rewrites_what_was_written() {
    let (bed, _, jar) = stored_bed().await;
    bed.sessions.keys().rotate(crate::support::key(2)).unwrap();
    let reseals = load(&bed.sessions, &jar);
    request(&bed, &jar, |other| other.insert("theirs", 1).unwrap())();
    let resealed = self::jar(&commit(&bed.sessions, &reseals).unwrap().unwrap());
    assert_eq!(value(&bed, &resealed, "theirs").await, Some(1));
}

#[actix_web::test]
async fn a_write_that_timed_out_but_was_applied_is_not_applied_twice() {
    let (bed, spy, jar) = stored_bed().await;
    spy.next([Fate::Passes, Fate::AppliedButTimesOut]);
    bed.peek(&jar, |session| assert_eq!(session.increment("n", 1).unwrap(), 2)).await;
    assert_eq!(spy.calls(), ["load", "write", "load"]);
    assert_eq!(value(&bed, &jar, "n").await, Some(2));
    assert!(bed.events().iter().any(|event| matches!(event, Event::StoreFailed { kind: "timeout", .. })));

    // It was not applied: nothing is repeated, and the client is told.
    spy.next([Fate::Passes, Fate::TimesOut]);
    let adds = load(&bed.sessions, &jar);
    adds.increment("n", 1).unwrap();
    assert!(matches!(commit(&bed.sessions, &adds), Err(CommitError::Store(_))));
    assert_eq!(value(&bed, &jar, "n").await, Some(2));

    // A driver that repeats what it does not know of comes back with a conflict with itself.
    let (sessions, store) = (bed.sessions.clone(), jar.clone());
    let adds = load(&sessions, &store);
    adds.increment("n", 1).unwrap();
    spy.conflict_with_itself();
    commit(&sessions, &adds).unwrap();
    assert_eq!(value(&bed, &jar, "n").await, Some(3));
}

#[actix_web::test]
async fn a_spill_that_timed_out_but_was_applied_is_one_row_with_its_reference() {
    let (bed, spy) = stored(|builder| builder);
    let mut browser = bed.logged_in().await;
    spy.next([Fate::AppliedButTimesOut]);
    bed.visit(&mut browser, |session| session.insert("large", large("1")).unwrap()).await;
    assert_eq!(spy.calls(), ["write", "load"]);
    assert_eq!(bed.see(&browser, Session::len).await, 2);
}

#[actix_web::test]
async fn saves_of_one_session_at_once_and_then_the_commit_write_everything_once() {
    let (bed, spy, jar) = stored_bed().await;
    let session = load(&bed.sessions, &jar);
    session.increment("n", 1).unwrap();
    now(session.save()).unwrap();
    session.increment("n", 1).unwrap();
    now(session.save()).unwrap();
    session.increment("n", 1).unwrap();
    commit(&bed.sessions, &session).unwrap();
    assert_eq!(spy.calls(), ["load", "write", "write", "write"]);
    assert_eq!(value(&bed, &jar, "n").await, Some(4));
}

#[actix_web::test]
async fn what_is_changed_while_a_save_is_under_way_is_neither_lost_nor_saved_twice() {
    let (bed, spy, jar) = stored_bed().await;
    let session = load(&bed.sessions, &jar);
    session.increment("n", 1).unwrap();
    let meanwhile = session.clone();
    spy.before("write", move || {
        meanwhile.increment("n", 10).unwrap();
        meanwhile.insert("new", 1).unwrap();
    });
    now(session.save()).unwrap();
    assert_eq!(value(&bed, &jar, "n").await, Some(2));
    assert_eq!(session.get::<i64>("n").unwrap(), Some(12));
    commit(&bed.sessions, &session).unwrap();
    assert_eq!(value(&bed, &jar, "n").await, Some(12));
    assert_eq!(value(&bed, &jar, "new").await, Some(1));

    // The same where the save fails.
    let session = load(&bed.sessions, &jar);
    session.increment("n", 1).unwrap();
    let meanwhile = session.clone();
    spy.before("write", move || assert!(meanwhile.increment("n", 10).is_ok()));
    spy.next([Fate::Fails, Fate::Fails]);
    assert!(matches!(now(session.save()), Err(CommitError::Store(_))));
    assert_eq!(session.get::<i64>("n").unwrap(), Some(23));
    commit(&bed.sessions, &session).unwrap();
    assert_eq!(value(&bed, &jar, "n").await, Some(23));
}

#[actix_web::test]
async fn reload_takes_what_others_wrote_under_ones_own_changes_and_counts_them_once() {
    let (bed, spy, jar) = stored_bed().await;
    let session = load(&bed.sessions, &jar);
    session.increment("n", 1).unwrap();
    request(&bed, &jar, |other| assert!(other.increment("n", 100).is_ok()))();
    let meanwhile = session.clone();
    spy.before("load", move || assert!(meanwhile.increment("n", 10).is_ok()));
    now(session.reload()).unwrap();
    assert_eq!(session.get::<i64>("n").unwrap(), Some(112));
    spy.calls();
    commit(&bed.sessions, &session).unwrap();
    assert_eq!(spy.calls(), ["write"], "of the revision that was reloaded");
    assert_eq!(value(&bed, &jar, "n").await, Some(112));
}

#[actix_web::test]
async fn a_duration_set_short_on_an_old_session_counts_from_now_and_never_kills_it() {
    let (bed, _, jar) = stored_bed().await;
    bed.clock.advance(DAY / 2);
    let mut browser = jar.clone();
    bed.visit(&mut browser, |session| session.set_duration(MINUTE).unwrap()).await;
    assert_eq!(bed.see(&browser, Session::origin).await, Origin::Resumed);
    bed.clock.advance(MINUTE);
    assert!(matches!(bed.see(&browser, Session::origin).await, Origin::Rejected(Rejection::Expired(_))));
}

#[actix_web::test]
async fn a_poll_with_the_cookie_from_before_a_login_neither_brings_it_back_nor_removes_the_new_one() {
    let (bed, _, jar) = stored_bed().await;
    let mut browser = jar.clone();
    let poll = load(&bed.sessions, &jar);
    bed.visit(&mut browser, |session| session.set_subject("ada").unwrap()).await;
    poll.touch();
    let line = commit(&bed.sessions, &poll).unwrap();
    // A reference to a row that has ended at most: nobody is logged in by it.
    let after = line.map_or(jar.clone(), |line| self::jar(&line));
    assert_eq!(bed.see(&after, Session::origin).await, Origin::Rejected(Rejection::Revoked));
    let refused = bed.peek(&jar, |_| {}).await;
    assert_eq!(refused.set_cookie(), None, "a late answer must not remove the newer cookie");
    assert_eq!(bed.see(&browser, Session::subject).await.as_deref(), Some("ada"));
}

/// Another process over the same store and ring.
fn node(bed: &Bed, spy: &Arc<Spy>) -> Bed {
    let store = Arc::clone(spy);
    Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(store))
}

#[actix_web::test]
async fn between_the_two_writes_of_a_renew_another_node_writes_and_that_is_in_the_new_session() {
    let (bed, spy, jar) = stored_bed().await;
    let other = node(&bed, &spy);
    let writes = load(&other.sessions, &jar);
    let renews = load(&bed.sessions, &jar);
    renews.renew();
    let sessions = other.sessions.clone();
    spy.before("write", move || {
        writes.insert("theirs", 1).unwrap();
        commit(&sessions, &writes).unwrap();
    });
    spy.calls();
    let new = self::jar(&commit(&bed.sessions, &renews).unwrap().unwrap());
    assert_eq!(spy.calls(), ["write", "write", "write", "load", "write", "write"]);
    assert_eq!(value(&bed, &new, "theirs").await, Some(1));
    assert_eq!(spy.rows.count().await.unwrap(), 2);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn between_the_two_writes_of_a_renew_another_node_destroys_and_no_session_is_left() {
    let (bed, spy, jar) = stored_bed().await;
    let other = node(&bed, &spy);
    let renews = load(&bed.sessions, &jar);
    renews.set_subject("ada").unwrap();
    spy.before("write", request(&other, &jar, Session::destroy));
    assert!(matches!(commit(&bed.sessions, &renews), Err(CommitError::Ended)));
    assert_eq!(spy.rows.count().await.unwrap(), 1, "the ended row");
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn two_nodes_that_spill_one_session_at_the_same_moment_make_one_row() {
    let (bed, spy) = stored(|builder| builder);
    let other = node(&bed, &spy);
    let before = bed.logged_in().await;
    let one = load(&bed.sessions, &before);
    one.insert("one", large("1")).unwrap();
    spy.before("write", request(&other, &before, |session| session.insert("other", large("2")).unwrap()));
    let reference = self::jar(&commit(&bed.sessions, &one).unwrap().unwrap());
    assert_eq!(spy.rows.count().await.unwrap(), 1);
    assert_eq!(bed.see(&reference, Session::keys).await, ["n", "one", "other"]);
}
