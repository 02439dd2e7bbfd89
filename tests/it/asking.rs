//! What a commit asks of the store before it issues a cookie, and what it does not ask.

use std::time::Duration;

use sealed_session::{CommitContext, Event, Lifetime, Session};

use crate::spy::{Fate, guarded};
use crate::stored::spilled;
use crate::support::{DAY, MINUTE, key};

const LATE: Duration = Duration::from_millis(501);

#[actix_web::test]
async fn what_does_not_reach_further_than_the_cookie_that_came_is_not_asked_for() {
    let idle = Lifetime::new(60 * MINUTE).active(10 * MINUTE).idle(50 * MINUTE);
    let (bed, spy) = guarded(|builder| builder.lifetime(idle));
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.clock.advance(30 * MINUTE);
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.skip_renewal();
    session.insert("n", 2).unwrap();
    spy.calls();
    assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
    assert_eq!(spy.calls(), [""; 0]);

    let (bed, spy) = guarded(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.set_persistent(false).unwrap();
    session.insert("n", 2).unwrap();
    spy.calls();
    assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
    assert_eq!(spy.calls(), ["write"]);
}

#[actix_web::test]
async fn a_row_that_would_only_be_sealed_anew_waits_for_an_answer_about_its_subject() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    spy.calls();
    spy.next([Fate::Fails]);
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None);
    assert_eq!(spy.calls(), ["load"]);
}

#[actix_web::test]
async fn what_can_do_without_an_answer_does_not_besiege_a_store_that_fails() {
    tokio::time::pause();
    // A mere prolongation of a session in the store.
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.clock.advance(DAY - 3 * MINUTE);
    for asks in [true, false] {
        let session = bed.sessions.load(jar.0.iter()).await.unwrap();
        spy.calls();
        spy.go_down(true);
        assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None);
        assert_eq!(spy.calls().len(), usize::from(asks));
        spy.go_down(false);
    }
    // Data of a session in its cookie, which is due as well.
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.clock.advance(DAY - 3 * MINUTE);
    let [first, second] = [bed.sessions.load(jar.0.iter()).await, bed.sessions.load(jar.0.iter()).await];
    spy.calls();
    spy.go_down(true);
    for (session, asks) in [(first.unwrap(), true), (second.unwrap(), false)] {
        session.insert("n", 2).unwrap();
        assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
        assert_eq!(spy.calls().len(), usize::from(asks));
    }
}

#[actix_web::test]
async fn a_prolongation_that_cannot_be_asked_for_is_not_told_as_a_loss() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = bed.logged_in().await;
    bed.clock.advance(DAY - 3 * MINUTE);
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    bed.events();
    spy.go_down(true);
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None);
    assert!(matches!(bed.events()[..], [Event::StoreFailed { .. }]));
}

#[actix_web::test]
async fn a_late_answer_saves_what_it_writes_into_the_row_and_leaves_out_the_prolongation() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = spilled(&bed).await;
    bed.clock.advance(DAY - 3 * MINUTE);
    for writes in [true, false] {
        let session = bed.sessions.load(jar.0.iter()).await.unwrap();
        if writes {
            session.insert("n", 2).unwrap();
        }
        bed.clock.advance(LATE);
        spy.calls();
        assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None);
        assert_eq!(spy.calls(), if writes { vec!["write"] } else { vec![] });
    }
    assert_eq!(bed.see(&jar, |session: &Session| session.get::<u8>("n").unwrap()).await, Some(2));
}
