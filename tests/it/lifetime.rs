//! How long a session lives, by a clock that moves when told to.

use std::time::Duration;

use sealed_session::{CommitContext, End, InsertError, KeyRing, Lifetime, Origin, Rejection, Session};
use time::OffsetDateTime;

use crate::spy::stored;
use crate::support::{Bed, DAY, Jar, MINUTE, MS, key, start};

const HOUR: Duration = Duration::from_secs(3600);

fn write(session: &Session) {
    session.increment("writes", 1).unwrap();
}

async fn origin_after(bed: &Bed, jar: &Jar, span: Duration) -> Origin {
    let now = sealed_session::Clock::now(&bed.clock);
    bed.clock.set(now + span);
    let origin = bed.see(jar, |session| {
        session.skip_renewal();
        session.origin()
    });
    let origin = origin.await;
    bed.clock.set(now);
    origin
}

#[actix_web::test]
async fn a_session_lives_until_the_very_millisecond_of_its_end() {
    for (lifetime, span, end) in [
        (Lifetime::new(HOUR), HOUR, End::Duration),
        (Lifetime::new(DAY).absolute(HOUR), HOUR, End::Absolute),
        (Lifetime::new(DAY).idle(HOUR), HOUR, End::Idle),
    ] {
        let bed = Bed::with(|builder| builder.lifetime(lifetime));
        let jar = bed.logged_in().await;
        assert_eq!(origin_after(&bed, &jar, span - MS).await, Origin::Resumed);
        assert_eq!(origin_after(&bed, &jar, span).await, Origin::Rejected(Rejection::Expired(end)));
        assert_eq!(origin_after(&bed, &jar, span + MS).await, Origin::Rejected(Rejection::Expired(end)));
    }
}

#[actix_web::test]
async fn writing_does_not_extend() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(HOUR)));
    let mut jar = bed.logged_in().await;
    let end = bed.see(&jar, Session::expires_at).await;
    for _ in 0..5 {
        bed.clock.advance(10 * MINUTE);
        assert!(bed.visit(&mut jar, write).await.set_cookie().is_some());
        assert_eq!(bed.see(&jar, Session::expires_at).await, end);
    }
}

#[actix_web::test]
async fn a_use_inside_the_active_window_extends_and_silence_after_it_ends_the_session() {
    let lifetime = Lifetime::new(HOUR).active(10 * MINUTE);
    let bed = Bed::with(|builder| builder.lifetime(lifetime));
    let mut jar = bed.logged_in().await;
    bed.clock.advance(50 * MINUTE);
    assert_eq!(bed.visit(&mut jar, |_| {}).await.set_cookie(), None, "exactly the active span remains");
    bed.clock.advance(MS);
    let reply = bed.visit(&mut jar, |_| {}).await;
    assert_eq!(reply.attribute("Max-Age"), Some("1200"), "20 minutes less one millisecond, rounded up");
    assert_eq!(bed.visit(&mut jar, |_| {}).await.set_cookie(), None, "once");
    assert_eq!(origin_after(&bed, &jar, 20 * MINUTE - 2 * MS).await, Origin::Resumed);
    let over = Origin::Rejected(Rejection::Expired(End::Duration));
    assert_eq!(origin_after(&bed, &jar, 20 * MINUTE - MS).await, over);
}

#[actix_web::test]
async fn the_absolute_limit_wins_over_activity_and_is_counted_anew_from_a_renewal() {
    let lifetime = Lifetime::new(HOUR).active(HOUR).absolute(3 * HOUR);
    let bed = Bed::with(|builder| builder.lifetime(lifetime));
    let mut jar = bed.logged_in().await;
    for _ in 0..5 {
        bed.clock.advance(30 * MINUTE);
        bed.visit(&mut jar, Session::touch).await;
    }
    let mut renewed = jar.clone();
    bed.visit(&mut renewed, Session::renew).await;
    bed.clock.advance(30 * MINUTE);
    let origin = bed.see(&jar, Session::origin).await;
    assert_eq!(origin, Origin::Rejected(Rejection::Expired(End::Absolute)));
    assert_eq!(bed.see(&renewed, Session::origin).await, Origin::Resumed);
}

/// Comes every twelve hours until `days` have passed since the login, and then once more.
async fn after_days_of_use(bed: &Bed, days: u32) -> Origin {
    let mut jar = bed.logged_in().await;
    for _ in 0..2 * days - 1 {
        bed.clock.advance(DAY / 2);
        bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    }
    bed.clock.advance(DAY / 2 - MS);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed, "a millisecond before");
    bed.clock.advance(MS);
    bed.see(&jar, Session::origin).await
}

#[actix_web::test]
async fn who_comes_back_all_the_time_logs_in_after_thirty_days_unless_it_is_said_otherwise() {
    let over = Origin::Rejected(Rejection::Expired(End::Absolute));
    let active = |days: u32| Lifetime::new(days * DAY).active(DAY);
    for (lifetime, rolling, days, origin) in [
        (Lifetime::new(DAY), true, 30, over),
        (active(1), false, 30, over),
        (active(30), false, 30, over),
        (active(45), false, 45, over),
        (Lifetime::new(45 * DAY), true, 45, over),
        (active(1).absolute(40 * DAY), false, 40, over),
        (active(1).without_absolute(), false, 100, Origin::Resumed),
        (Lifetime::new(DAY).without_absolute(), true, 100, Origin::Resumed),
    ] {
        let bed = Bed::with(|builder| builder.lifetime(lifetime).rolling(rolling));
        assert_eq!(after_days_of_use(&bed, days).await, origin, "{lifetime:?}");
    }
}

#[actix_web::test]
async fn the_browser_and_who_inspects_the_cookie_are_told_of_the_end_after_thirty_days() {
    let lifetime = Lifetime::new(20 * DAY);
    let bed = Bed::with(|builder| builder.lifetime(lifetime));
    let mut jar = bed.logged_in().await;
    let born = bed.see(&jar, Session::created_at).await;
    let told = bed.sessions.inspect(jar.value()).unwrap();
    assert_eq!((told.expires_at, told.absolute_ends_at), (born + 20 * DAY, Some(born + 30 * DAY)));
    bed.clock.advance(15 * DAY);
    let reply = bed.visit(&mut jar, Session::touch).await;
    assert_eq!(reply.attribute("Max-Age"), Some("1296000"), "15 days");
    assert_eq!(bed.see(&jar, Session::remaining).await, 15 * DAY);
    let told = bed.sessions.inspect(jar.value()).unwrap();
    assert_eq!((told.expires_at, told.absolute_ends_at), (born + 30 * DAY, Some(born + 30 * DAY)));
    assert_eq!(told.duration_ends_at, born + 35 * DAY);

    let without =
        Bed::on(KeyRing::new(key(1)), bed.clock.clone(), |b| b.lifetime(lifetime.without_absolute()));
    let told = without.sessions.inspect(jar.value()).unwrap();
    assert_eq!((told.duration_ends_at, told.absolute_ends_at), (born + 35 * DAY, None));
    // The browser was told 15 days, and until a use issues it anew that counts, to an eighth.
    assert!((born + 30 * DAY..born + 32 * DAY).contains(&told.expires_at), "{}", told.expires_at);
}

#[actix_web::test]
async fn a_longer_duration_of_its_own_outlives_the_default_but_not_a_limit_that_was_set() {
    let own = |session: &Session| session.set_duration(90 * DAY).unwrap();
    let absolute = Origin::Rejected(Rejection::Expired(End::Absolute));
    for (lifetime, set_after, end, origin) in [
        (Lifetime::new(DAY), 0, 90, Origin::Rejected(Rejection::Expired(End::Duration))),
        // It is counted from the birth, however late it is set.
        (Lifetime::new(25 * DAY), 20, 90, absolute),
        (Lifetime::new(DAY).absolute(45 * DAY), 0, 45, absolute),
        (Lifetime::new(25 * DAY).absolute(45 * DAY), 20, 45, absolute),
        (
            Lifetime::new(25 * DAY).without_absolute(),
            20,
            110,
            Origin::Rejected(Rejection::Expired(End::Duration)),
        ),
    ] {
        let bed = Bed::with(|builder| builder.lifetime(lifetime));
        let mut jar = bed.logged_in().await;
        bed.clock.advance(set_after * DAY);
        bed.visit(&mut jar, own).await;
        let left = (end - set_after) * DAY;
        assert_eq!(bed.see(&jar, Session::remaining).await, left, "{lifetime:?}");
        assert_eq!(origin_after(&bed, &jar, left - MS).await, Origin::Resumed, "{lifetime:?}");
        assert_eq!(origin_after(&bed, &jar, left).await, origin, "{lifetime:?}");
    }

    // However often it is used.
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, own).await;
    for _ in 0..89 {
        bed.clock.advance(DAY);
        bed.visit(&mut jar, Session::touch).await;
    }
    assert_eq!(bed.see(&jar, Session::remaining).await, DAY);
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    assert_eq!(bed.see(&jar, Session::remaining).await, 90 * DAY, "a login is a new birth");
}

#[actix_web::test]
async fn lowering_the_duration_shortens_live_sessions_and_raising_it_acts_at_the_next_issue_and_revives_nothing()
 {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(HOUR).fixed()));
    let mut jar = bed.logged_in().await;
    let other = |minutes: u32| {
        let lifetime = Lifetime::new(minutes * MINUTE).fixed();
        Bed::on(KeyRing::new(key(1)), bed.clock.clone(), |builder| builder.lifetime(lifetime))
    };
    let (short, long) = (other(20), other(120));
    assert_eq!(origin_after(&short, &jar, 20 * MINUTE - MS).await, Origin::Resumed);
    let over = Origin::Rejected(Rejection::Expired(End::Duration));
    assert_eq!(origin_after(&short, &jar, 20 * MINUTE).await, over);

    assert_eq!(origin_after(&long, &jar, HOUR).await, over, "nothing is revived");
    long.visit(&mut jar, write).await;
    assert_eq!(origin_after(&long, &jar, 2 * HOUR - MS).await, Origin::Resumed);
}

/// Browsers go by `Max-Age`, and stores by the row's end, as they were told before the deploy.
#[actix_web::test]
async fn whoever_raises_the_idle_or_the_absolute_limit_logs_nobody_out_who_goes_on() {
    let day = || Lifetime::new(DAY).fixed();
    for (before, after, end) in [
        (day().idle(HOUR / 2), day(), DAY),
        (day().idle(HOUR / 2), day().idle(10 * HOUR), 10 * HOUR),
        (day().absolute(HOUR), day().absolute(2 * HOUR), 2 * HOUR),
    ] {
        for large in [false, true] {
            let (bed, spy) = stored(|builder| builder.lifetime(before));
            let mut jar = bed.logged_in().await;
            if large {
                bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
            }
            let store = std::sync::Arc::clone(&spy);
            let later = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| {
                builder.lifetime(after).store(store).revocation(sealed_session::Revocation::Off)
            });
            bed.clock.advance(MS);
            let reads = |session: &Session| assert_eq!(session.origin(), Origin::Resumed);
            assert_eq!(bed.visit(&mut jar.clone(), reads).await.set_cookie(), None, "it is new");
            let reply = later.visit(&mut jar, reads).await;
            let line = reply.set_cookie().expect("it was made under shorter limits");
            let max_age = format!("Max-Age={}", end.as_secs());
            assert!(line.split("; ").any(|attribute| attribute == max_age), "{line}");
            assert_eq!(later.visit(&mut jar, reads).await.set_cookie(), None, "once");
            // And on a node that has not been deployed yet, nothing comes of that.
            assert_eq!(bed.visit(&mut jar.clone(), reads).await.set_cookie(), None);
            bed.clock.advance(end - MS - MS);
            assert_eq!(later.see(&jar, Session::origin).await, Origin::Resumed, "its row is there as well");
        }
    }
}

/// Browsers drop a cookie as they were told, but for copies and those that are to last until the browser is closed.
#[actix_web::test]
async fn what_was_over_as_it_was_told_stays_over_when_a_limit_is_raised() {
    let day = || Lifetime::new(DAY).fixed();
    for (before, after) in [
        (day().idle(HOUR / 2), day()),
        (day().idle(HOUR / 2), day().idle(10 * HOUR)),
        (day().absolute(HOUR / 2), day().absolute(2 * HOUR)),
    ] {
        let bed = Bed::with(|builder| builder.lifetime(before));
        let jar = bed.logged_in().await;
        let later = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |b| b.lifetime(after));
        assert_eq!(origin_after(&later, &jar, HOUR / 2 - MS).await, Origin::Resumed);
        let said = later
            .see(&jar, |session| {
                session.skip_renewal();
                session.expires_at()
            })
            .await;
        assert_eq!(later.sessions.inspect(jar.value()).unwrap().expires_at, said);
        // It is told to an eighth.
        assert_eq!(origin_after(&later, &jar, 32 * MINUTE - MS).await, Origin::Resumed);
        let over = Origin::Rejected(Rejection::Expired(End::Given));
        assert_eq!(origin_after(&later, &jar, 32 * MINUTE).await, over);
        assert_eq!(said, start() + 32 * MINUTE, "as it was said");
        assert_eq!(origin_after(&later, &jar, 40 * MINUTE).await, over);
    }
}

/// In a rolling deploy some nodes still have the former limits.
#[actix_web::test]
async fn a_node_with_shorter_limits_leaves_the_cookie_of_one_with_longer_limits_in_the_browser() {
    let day = || Lifetime::new(DAY).fixed();
    for (short, long, end) in [
        (day().idle(HOUR / 2), day().idle(10 * HOUR), End::Idle),
        (day().absolute(HOUR / 2), day(), End::Absolute),
        (Lifetime::new(HOUR / 2).fixed(), day(), End::Duration),
    ] {
        let new = Bed::with(|builder| builder.lifetime(long));
        let old = Bed::on(new.sessions.keys().clone(), new.clock.clone(), |b| b.lifetime(short));
        let mut jar = new.logged_in().await;
        new.clock.advance(40 * MINUTE);
        let refused = move |session: &Session| {
            assert_eq!(session.origin(), Origin::Rejected(Rejection::Expired(end)));
        };
        assert_eq!(old.visit(&mut jar, refused).await.set_cookie(), None);
        assert_eq!(new.see(&jar, Session::origin).await, Origin::Resumed);
        // What it has issued itself it removes.
        let mut jar = old.logged_in().await;
        new.clock.advance(40 * MINUTE);
        assert!(old.visit(&mut jar, refused).await.removes());
    }
}

/// `Max-Age=0` would take the newer one out of the browser, and with it the user's login.
#[actix_web::test]
async fn an_answer_that_comes_after_its_sessions_end_leaves_a_newer_cookie_alone() {
    let idle = Lifetime::new(12 * HOUR).fixed().idle(15 * MINUTE);
    for (lifetime, begins, writes, large) in [
        (idle, 13 * MINUTE, true, false),
        (idle, 13 * MINUTE, true, true),
        (idle, 13 * MINUTE, false, false),
        (Lifetime::new(DAY), DAY - 4 * MINUTE, false, false),
        (Lifetime::new(DAY), DAY - 4 * MINUTE, true, false),
        (Lifetime::new(DAY), DAY - 4 * MINUTE, false, true),
        (Lifetime::new(DAY), DAY - 4 * MINUTE, true, true),
    ] {
        let bed =
            Bed::stored(|builder| builder.lifetime(lifetime).revocation(sealed_session::Revocation::Off));
        let mut jar = bed.logged_in().await;
        if large {
            bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        }
        bed.clock.advance(begins);
        let slow = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        if lifetime == idle {
            slow.skip_renewal();
        }
        if writes {
            slow.increment("n", 10).unwrap();
        }
        for pause in [1, 4] {
            bed.clock.advance(pause * MINUTE);
            bed.visit(&mut jar, |session| {
                session.increment("n", 1).unwrap();
            })
            .await;
        }
        bed.clock.advance(5 * MINUTE);
        bed.events();
        let lines = bed.sessions.commit(&slow, CommitContext::default()).await.unwrap();
        assert_eq!(lines, [""; 0], "{lifetime:?} {writes} {large}");
        let lost = bed
            .events()
            .iter()
            .any(|event| matches!(event, sealed_session::Event::Lost { reason: Rejection::Expired(_), .. }));
        assert_eq!(lost, writes && !large, "what went into the row is not lost");
        let n = bed.see(&jar, |session| session.get::<i64>("n").unwrap()).await;
        assert_eq!(n, Some(if writes && large { 13 } else { 3 }));
    }
}

/// What the store does not say may leave the session the times that it came with, which are over by then.
#[actix_web::test]
async fn an_answer_after_its_sessions_end_issues_nothing_either_where_the_store_does_not_answer() {
    for lifetime in [Lifetime::new(DAY).fixed().idle(15 * MINUTE), Lifetime::new(15 * MINUTE)] {
        let (bed, spy) = crate::spy::guarded(|builder| builder.lifetime(lifetime));
        let jar = bed.logged_in().await;
        bed.clock.advance(14 * MINUTE);
        let slow = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        slow.insert("n", 2).unwrap();
        bed.clock.advance(2 * MINUTE);
        spy.go_down(true);
        let lines = bed.sessions.commit(&slow, CommitContext::default()).await.unwrap();
        assert_eq!(lines, [""; 0], "{lifetime:?}");
    }
}

/// However long a use may prolong, the idle limit is all that it lets the next one wait.
#[actix_web::test]
async fn a_late_answer_leaves_out_the_prolongation_also_where_the_idle_limit_is_shorter_than_active() {
    let bed = Bed::with(|b| b.lifetime(Lifetime::new(8 * HOUR).active(8 * HOUR).idle(HOUR / 2)));
    let mut jar = bed.logged_in().await;
    bed.clock.advance(5 * MINUTE);
    let slow = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    bed.clock.advance(600 * MS);
    assert_eq!(bed.sessions.commit(&slow, CommitContext::default()).await.unwrap(), [""; 0]);
}

/// An answer that took long leaves a mere prolongation to the next one, but not for longer than the cookie lasts.
#[actix_web::test]
async fn where_every_answer_is_slow_a_raised_limit_arrives_before_the_browser_drops_the_cookie() {
    let day = || Lifetime::new(DAY).fixed();
    for (before, after) in [
        (day().idle(HOUR / 2), day()),
        (day().idle(HOUR / 2), day().idle(10 * HOUR)),
        (day().absolute(HOUR / 2), day().absolute(2 * HOUR)),
    ] {
        let bed = Bed::with(|builder| builder.lifetime(before));
        let jar = bed.logged_in().await;
        let later = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |b| b.lifetime(after));
        let slowly = async |jar: &Jar| {
            let session = later.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
            bed.clock.advance(600 * MS);
            later.sessions.commit(&session, CommitContext::default()).await.unwrap().len()
        };
        bed.clock.advance(10 * MINUTE);
        assert_eq!(slowly(&jar).await, 0, "the next one will do");
        bed.clock.advance(10 * MINUTE);
        assert_eq!(slowly(&jar).await, 1);
    }
}

#[actix_web::test]
async fn a_birth_in_the_future_beyond_the_skew_is_rejected_and_the_cookie_is_left_alone() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let now = sealed_session::Clock::now(&bed.clock);
    bed.clock.set(now - MINUTE);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed);
    bed.clock.set(now - MINUTE - MS);
    let reply =
        bed.peek(&jar, |session| assert_eq!(session.origin(), Origin::Rejected(Rejection::Future))).await;
    assert_eq!(reply.set_cookie(), None);
}

#[actix_web::test]
async fn one_users_duration_and_persistence_never_reach_another() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(HOUR)));
    let (mut ada, mut bob) = (Jar::default(), Jar::default());
    bed.visit(&mut ada, write).await;
    let reply = bed
        .visit(&mut ada, |session| {
            session.set_duration(30 * DAY).unwrap();
            session.set_persistent(false).unwrap();
        })
        .await;
    assert_eq!(reply.attribute("Max-Age"), None);
    for _ in 0..3 {
        assert_eq!(bed.visit(&mut bob, write).await.attribute("Max-Age"), Some("3600"));
        assert_eq!(bed.visit(&mut ada, write).await.attribute("Max-Age"), None);
        assert_eq!(bed.see(&ada, Session::remaining).await, 30 * DAY);
        assert_eq!(bed.see(&bob, Session::remaining).await, HOUR);
    }
    let reply = bed.visit(&mut ada, |session| session.set_persistent(true).unwrap()).await;
    assert_eq!(reply.attribute("Max-Age"), Some("2592000"));
}

#[actix_web::test]
async fn max_age_and_the_sealed_end_agree_to_the_second() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(HOUR).idle(HOUR / 2).absolute(2 * HOUR)));
    let mut jar = bed.logged_in().await;
    for step in [1, 7, 499, 500, 501, 999, 1_000, 60_001, 599_123, 1_234_567] {
        bed.clock.advance(Duration::from_millis(step));
        let reply = bed.visit(&mut jar, write).await;
        let max_age: u64 = reply.attribute("Max-Age").unwrap().parse().unwrap();
        let end = bed.sessions.inspect(jar.value()).unwrap().expires_at;
        let remaining = (end - sealed_session::Clock::now(&bed.clock)).whole_milliseconds() as u64;
        assert_eq!(max_age, remaining.div_ceil(1_000));
        assert_eq!(bed.see(&jar, Session::expires_at).await, end);
    }
}

#[actix_web::test]
async fn what_the_handler_is_told_of_the_end_is_what_is_sealed() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(HOUR).active(10 * MINUTE).idle(HOUR)));
    let told = std::rc::Rc::new(std::cell::Cell::new(OffsetDateTime::UNIX_EPOCH));
    let mut jar = bed.logged_in().await;
    for minutes in [1, 5, 7, 20, 20, 9, 9] {
        bed.clock.advance(minutes * MINUTE);
        let out = std::rc::Rc::clone(&told);
        bed.visit(&mut jar, move |session| out.set(session.expires_at())).await;
        assert_eq!(bed.sessions.inspect(jar.value()).unwrap().expires_at, told.get());
    }
}

#[actix_web::test]
async fn skipping_the_renewal_keeps_polling_from_extending_also_where_it_writes() {
    let limits = [Lifetime::new(HOUR).active(HOUR), Lifetime::new(DAY).active(DAY).idle(HOUR)];
    for lifetime in limits {
        polling_does_not_extend(lifetime).await;
    }
}

async fn polling_does_not_extend(lifetime: Lifetime) {
    let bed = Bed::with(|builder| builder.lifetime(lifetime));
    let mut jar = bed.logged_in().await;
    let end = bed.see(&jar, |session| {
        session.skip_renewal();
        session.expires_at()
    });
    let end = end.await;
    for _ in 0..5 {
        bed.clock.advance(10 * MINUTE);
        assert_eq!(bed.visit(&mut jar, Session::skip_renewal).await.set_cookie(), None);
        let poll = |session: &Session| {
            session.skip_renewal();
            write(session);
        };
        assert!(bed.visit(&mut jar, poll).await.set_cookie().is_some());
        assert_eq!(bed.sessions.inspect(jar.value()).unwrap().expires_at, end);
    }
    let overridden = |session: &Session| {
        session.skip_renewal();
        session.touch();
    };
    bed.visit(&mut jar, overridden).await;
    assert_eq!(bed.see(&jar, Session::remaining).await, HOUR);
}

#[actix_web::test]
async fn a_rolling_session_is_issued_on_every_response_that_used_it() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(HOUR)).rolling(true));
    let mut jar = bed.logged_in().await;
    for _ in 0..3 {
        bed.clock.advance(30 * MINUTE);
        assert_eq!(bed.visit(&mut jar, |_| {}).await.attribute("Max-Age"), Some("3600"));
    }
    bed.clock.advance(30 * MINUTE);
    assert_eq!(bed.visit(&mut jar, Session::skip_renewal).await.set_cookie(), None);
}

#[actix_web::test]
async fn an_idle_session_ends_and_a_used_one_is_reissued_after_a_tenth() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(DAY).idle(HOUR)));
    let mut jar = bed.logged_in().await;
    for _ in 0..20 {
        bed.clock.advance(6 * MINUTE);
        assert_eq!(bed.visit(&mut jar, |_| {}).await.set_cookie(), None, "a tenth exactly");
        bed.clock.advance(6 * MINUTE);
        assert!(bed.visit(&mut jar, |_| {}).await.set_cookie().is_some());
    }
    bed.clock.advance(HOUR);
    let origin = bed.see(&jar, Session::origin).await;
    assert_eq!(origin, Origin::Rejected(Rejection::Expired(End::Idle)));
}

#[actix_web::test]
async fn a_short_own_duration_on_an_old_session_counts_from_now_and_never_kills_it() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(DAY)));
    let mut jar = bed.logged_in().await;
    bed.clock.advance(DAY / 2);
    bed.visit(&mut jar, |session| session.set_duration(MINUTE).unwrap()).await;
    assert_eq!(bed.see(&jar, Session::remaining).await, MINUTE);
    let born = bed.see(&jar, Session::created_at).await;
    assert_eq!(sealed_session::Clock::now(&bed.clock) - born, DAY / 2, "the birth stays");
}

/// The default limit follows the duration, and a session may be older than that of the shorter one.
#[actix_web::test]
async fn a_short_own_duration_on_a_session_that_is_older_than_its_limit_does_not_kill_it_either() {
    for (configured, age, own, left) in
        [(90, 40, 1, 1), (90, 40, 60, 50), (60, 50, 40, 10), (60, 29, 1, 1), (60, 29, 2, 2), (90, 10, 1, 1)]
    {
        let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(configured * DAY).fixed()));
        let mut jar = bed.logged_in().await;
        bed.clock.advance(age * DAY);
        let reply = bed.visit(&mut jar, move |session| session.set_duration(own * DAY).unwrap()).await;
        assert_eq!(reply.attribute("Max-Age"), Some(&*(left * DAY).as_secs().to_string()));
        assert_eq!(bed.see(&jar, Session::remaining).await, left * DAY, "{configured} {age} {own}");
        bed.clock.advance(left * DAY - MINUTE);
        bed.visit(&mut jar, Session::touch).await;
        let is_at_the_limit = age + left >= 30;
        let left = if is_at_the_limit { MINUTE } else { own * DAY };
        assert_eq!(bed.see(&jar, Session::remaining).await, left, "{configured} {age} {own}");
    }
}

/// At a login without "remember me" in a session that had it: an hour is an hour, also under the new id.
#[actix_web::test]
async fn a_short_own_duration_is_no_longer_one_after_a_renewal_or_a_login() {
    for renews in [false, true] {
        for at_once in [false, true] {
            let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(90 * DAY)));
            let mut jar = bed.logged_in().await;
            bed.clock.advance(40 * DAY);
            let renew = move |session: &Session| match renews {
                true => session.renew(),
                false => session.authenticate("ada").unwrap(),
            };
            bed.visit(&mut jar, move |session| {
                session.set_duration(HOUR).unwrap();
                assert_eq!(session.remaining(), HOUR);
                if at_once {
                    renew(session);
                }
            })
            .await;
            if !at_once {
                assert_eq!(bed.visit(&mut jar, |_| ()).await.set_cookie(), None, "no use moves its end");
                bed.clock.advance(HOUR / 2);
                bed.visit(&mut jar, renew).await;
            }
            let left = if at_once { HOUR } else { HOUR / 2 };
            assert_eq!(bed.see(&jar, Session::remaining).await, left, "{renews} {at_once}");
        }
    }
}

/// It takes effect where it was asked for, however late.
#[actix_web::test]
async fn a_duration_that_is_over_when_the_answer_is_there_ends_the_session() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let slow = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    slow.set_duration(Duration::from_secs(2)).unwrap();
    bed.clock.advance(Duration::from_secs(3));
    let lines = bed.sessions.commit(&slow, CommitContext::default()).await.unwrap();
    assert!(lines[0].contains("; Max-Age=0"), "{lines:?}");
}

#[actix_web::test]
async fn a_duration_that_is_set_in_the_active_window_counts_from_now_and_nothing_is_added_to_it() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(60 * MINUTE).active(10 * MINUTE)));
    let mut jar = bed.logged_in().await;
    bed.clock.advance(55 * MINUTE);
    bed.visit(&mut jar, |session| {
        session.set_duration(15 * MINUTE).unwrap();
        assert_eq!(session.remaining(), 15 * MINUTE);
    })
    .await;
    assert_eq!(bed.see(&jar, Session::remaining).await, 15 * MINUTE);
}

#[actix_web::test]
async fn a_duration_of_ones_own_can_be_taken_back_and_the_configured_one_counts_from_then_on() {
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(DAY).fixed()));
    let mut jar = bed.logged_in().await;
    assert_eq!(
        bed.visit(&mut jar, Session::reset_duration).await.set_cookie(),
        None,
        "there is none to take back"
    );
    bed.visit(&mut jar, |session| session.set_duration(60 * DAY).unwrap()).await;
    bed.clock.advance(20 * DAY);
    bed.visit(&mut jar, Session::reset_duration).await;
    let told = bed.sessions.inspect(jar.value()).unwrap();
    assert_eq!((told.own_duration, told.duration_ends_at), (None, start() + 21 * DAY));
}

#[actix_web::test]
async fn an_own_duration_that_is_zero_or_too_long_is_refused_with_the_limit() {
    let bed = Bed::with(|builder| builder.max_duration(30 * DAY));
    let mut jar = bed.logged_in().await;
    let reply = bed.visit(&mut jar, |session| {
        for wrong in [Duration::ZERO, Duration::from_micros(999), 30 * DAY + MS, Duration::MAX] {
            let error = session.set_duration(wrong).unwrap_err();
            assert!(matches!(error, InsertError::Duration { max, .. } if max == 30 * DAY), "{error}");
        }
    });
    assert_eq!(reply.await.set_cookie(), None);
    bed.visit(&mut jar, |session| session.set_duration(30 * DAY).unwrap()).await;
}
