//! Requests that overlap, each in a fixed order.

use std::time::Duration;

use sealed_session::{Event, Lifetime, Session};

use crate::framework::{Request, ask};
use crate::support::{Answer, Bed, Jar, MINUTE, MS, Wrapped, key};

const LATE: Duration = Duration::from_millis(500);

/// What a request answers that was sent with `jar` and takes `span`.
async fn slow(
    bed: &Bed,
    jar: &Jar,
    span: Duration,
    work: impl Fn(&Session) + 'static,
) -> crate::support::Reply {
    let clock = bed.clock.clone();
    bed.peek(jar, move |session| {
        clock.advance(span);
        work(session);
    })
    .await
}

#[actix_web::test]
async fn a_late_answer_that_only_prolongs_does_not_put_old_data_over_a_newer_write() {
    let lifetime = Lifetime::new(60 * MINUTE).active(10 * MINUTE);
    let bed = Bed::with(|builder| builder.lifetime(lifetime));
    let mut jar = bed.logged_in().await;
    bed.clock.advance(51 * MINUTE);
    assert!(slow(&bed, &jar, LATE, |_| {}).await.set_cookie().is_some(), "500 ms are not late");
    let poll = slow(&bed, &jar, LATE + MS, |_| {}).await;
    assert_eq!(poll.set_cookie(), None);

    // The write that overtook it stays, and the next request extends.
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    jar.keep(&poll);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(2));
}

#[actix_web::test]
async fn a_late_answer_does_prolong_where_the_session_could_not_wait() {
    let lifetime = Lifetime::new(60 * MINUTE).active(10 * MINUTE);
    let bed = Bed::with(|builder| builder.lifetime(lifetime));
    let jar = bed.logged_in().await;
    bed.clock.advance(55 * MINUTE - LATE - 2 * MS);
    assert_eq!(
        slow(&bed, &jar, LATE + MS, |_| {}).await.set_cookie(),
        None,
        "half of active and 1 ms remain"
    );
    assert!(slow(&bed, &jar, LATE + MS, |_| {}).await.set_cookie().is_some());
}

#[actix_web::test]
async fn who_gets_nothing_but_late_answers_does_not_become_idle_by_that() {
    let keep_alive = async |lifetime: Lifetime, pause: Duration| {
        let bed = Bed::with(|builder| builder.lifetime(lifetime));
        let mut jar = bed.logged_in().await;
        for n in 0..20 {
            bed.clock.advance(pause);
            let reply = slow(&bed, &jar, LATE + MS, move |s| assert_eq!(s.len(), 1, "request {n}")).await;
            jar.keep(&reply);
        }
    };
    for idle in [1, 15, 60] {
        let fixed = Lifetime::new(24 * 60 * MINUTE).fixed().idle(idle * MINUTE);
        for part in [2, 4, 5, 9] {
            keep_alive(fixed, idle * MINUTE * part / 10).await;
        }
    }
    keep_alive(Lifetime::aal2(), 40 * MINUTE).await;
    keep_alive(Lifetime::aal3(), 10 * MINUTE).await;
}

#[actix_web::test]
async fn a_late_answer_that_writes_or_touches_is_sent() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    assert!(slow(&bed, &jar, MINUTE, |s| s.insert("n", 2).unwrap()).await.set_cookie().is_some());
    assert!(slow(&bed, &jar, MINUTE, Session::touch).await.set_cookie().is_some());
}

#[actix_web::test]
async fn a_late_answer_of_a_rolling_session_does_not_put_old_data_over_a_newer_write_either() {
    let bed = Bed::with(|builder| builder.rolling(true));
    let jar = bed.logged_in().await;
    assert!(slow(&bed, &jar, LATE, |_| {}).await.set_cookie().is_some());
    assert!(matches!(bed.events()[..], [Event::Resumed { .. }, Event::Extended { .. }]));
    assert_eq!(slow(&bed, &jar, LATE + MS, |_| {}).await.set_cookie(), None);
}

#[actix_web::test]
async fn a_late_answer_is_not_resealed_under_a_new_key_either() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    assert_eq!(slow(&bed, &jar, LATE + MS, |_| {}).await.set_cookie(), None);
    assert!(slow(&bed, &jar, LATE, |_| {}).await.set_cookie().is_some());
}

#[actix_web::test]
async fn a_poll_from_before_a_login_that_answers_after_it_leaves_the_login_alone() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let before = jar.clone();
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let poll = bed.peek(&before, |session| assert!(session.subject().is_none())).await;
    jar.keep(&poll);
    assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));
}

/// A poll with a cookie that was over, which answers after the user has logged in again.
#[actix_web::test]
async fn a_late_answer_to_a_cookie_that_was_over_removes_no_newer_one() {
    let bed = Bed::with(|builder| builder.persistent(false).lifetime(Lifetime::new(60 * MINUTE)));
    let jar = bed.logged_in().await;
    bed.clock.advance(62 * MINUTE);
    assert!(slow(&bed, &jar, LATE, |_| {}).await.removes(), "500 ms are not late");
    let poll = slow(&bed, &jar, LATE + MS, |_| {}).await;
    assert_eq!(poll.set_cookie(), None);
    // What a handler asks for is done however late it is.
    assert!(slow(&bed, &jar, LATE + MS, Session::destroy).await.removes());
}

#[actix_web::test]
async fn of_two_overlapping_writes_the_later_answer_wins_as_documented() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let one = bed.peek(&jar, |session| session.insert("a", 1).unwrap()).await;
    let two = bed.peek(&jar, |session| session.insert("b", 2).unwrap()).await;
    jar.keep(&two);
    jar.keep(&one);
    assert_eq!(bed.see(&jar, Session::keys).await, ["a", "n"]);
}

#[actix_web::test]
async fn clones_of_one_session_in_threads_lose_no_increment() {
    let bed = Bed::new();
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let session = session.clone();
            scope.spawn(move || (0..100).for_each(|_| assert!(session.increment("n", 1).is_ok())));
        }
    });
    assert_eq!(session.get::<u32>("n").unwrap(), Some(800));
}

/// A handler that has read a long upload before it asks for the session. What it got was the browser's when it began.
#[actix_web::test]
async fn late_is_counted_from_the_requests_arrival_whenever_the_session_is_asked_for() {
    let of = |bed: &Bed, jar: &Jar, span: Duration| {
        let (sessions, cookie) = (bed.sessions.clone(), jar.0.clone().unwrap());
        async move {
            let upload = async move |request: Request| {
                tokio::time::advance(span).await;
                request.session().await?;
                Ok(Answer::ok())
            };
            ask(Wrapped::Once(&sessions), &[cookie.as_bytes()], upload).await
        }
    };
    tokio::time::pause();
    let rolling = Bed::with(|builder| builder.rolling(true));
    let jar = rolling.logged_in().await;
    rolling.clock.advance(MINUTE);
    assert!(of(&rolling, &jar, LATE).await.set_cookie().is_some(), "500 ms are not late");
    assert_eq!(of(&rolling, &jar, LATE + MS).await.set_cookie(), None);

    let bed = Bed::with(|builder| builder.persistent(false).lifetime(Lifetime::new(60 * MINUTE)));
    let jar = bed.logged_in().await;
    bed.clock.advance(62 * MINUTE);
    assert!(of(&bed, &jar, LATE).await.removes());
    assert_eq!(of(&bed, &jar, LATE + MS).await.set_cookie(), None);
}
