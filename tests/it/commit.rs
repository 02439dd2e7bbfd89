//! The session is committed with every response, and only once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use sealed_session::{CommitContext, CommitError, InsertError, Origin, Scoped, Session, Subject};

use crate::framework::ask;
use crate::support::{Admin, Answer, Bed, Failure, Jar, Request, Wrapped, futures_of};

fn write(request: &Request) {
    futures_of(request.session()).insert("n", 1).unwrap();
}

#[actix_web::test]
async fn the_session_is_committed_whatever_the_status() {
    for status in [200, 204, 301, 302, 304, 400, 401, 404, 413, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        let bed = Bed::new();
        let reply = bed.call(&[], move |request| {
            write(&request);
            Ok(Answer::new(status))
        });
        let reply = reply.await;
        assert_eq!(reply.status, status);
        assert!(reply.set_cookie().is_some(), "{status}");
    }
}

#[actix_web::test]
async fn the_session_is_committed_when_the_handler_returns_an_error() {
    let bed = Bed::new();
    let reply = bed.call(&[], |request| {
        write(&request);
        Err(Failure::teapot())
    });
    let reply = reply.await;
    assert_eq!(reply.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(reply.body, b"short and stout");
    assert!(reply.set_cookie().is_some());
}

#[actix_web::test]
async fn the_same_sessions_wrapped_twice_commit_once() {
    let bed = Bed::new();
    let reply = ask(Wrapped::Twice(&bed.sessions, &bed.sessions), &[], async |request| {
        write(&request);
        Ok(Answer::ok())
    })
    .await;
    assert_eq!(reply.all(SET_COOKIE).len(), 1);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The log of this thread until the guard is dropped.
fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    (log, tracing::subscriber::set_default(subscriber))
}

#[actix_web::test]
async fn a_method_that_comes_too_late_is_named_in_the_log() {
    let bed = Bed::new();
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    let (log, _guard) = listen();
    session.touch();
    assert!(!log.text().contains("had no effect"));
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
    session.renew();
    let text = log.text();
    let line = text.lines().find(|line| line.contains("session method had no effect")).unwrap();
    assert!(
        line.contains("WARN") && line.contains("method=\"renew\"") && line.contains("committed"),
        "{line}"
    );
}

/// A task, or a middleware around the session's, that asks first when the response has left.
#[actix_web::test]
async fn a_session_that_is_first_asked_for_after_the_response_says_that_it_is_too_late() {
    for large in [false, true] {
        let bed = Bed::stored(|builder| builder);
        let mut jar = bed.logged_in().await;
        if large {
            bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        }
        let kept = Rc::new(RefCell::new(None));
        let out = Rc::clone(&kept);
        let cookies: Vec<&[u8]> = jar.0.iter().map(String::as_bytes).collect();
        bed.call(&cookies, move |request| {
            out.replace(Some(request));
            Ok(Answer::ok())
        })
        .await;
        let request = kept.take().unwrap();
        let session = request.session().await.unwrap();
        assert_eq!((session.origin(), session.get("n").unwrap()), (Origin::Resumed, Some(1)));
        assert!(matches!(session.insert("n", 2), Err(InsertError::Committed)));
        assert!(matches!(session.authenticate("ada"), Err(InsertError::Committed)));
        if large {
            // As in any stream.
            session.reload().await.unwrap();
            session.insert("n", 2).unwrap();
            session.save().await.unwrap();
        }
        let n = bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await;
        assert_eq!(n, Some(if large { 2 } else { 1 }));
    }
}

#[actix_web::test]
async fn different_sessions_wrapped_under_one_scope_are_a_mistake_that_the_log_names() {
    let (bed, other) = (Bed::new(), Bed::new());
    for (inner, mistakes) in [(&bed, 0), (&other, 1)] {
        let (log, _guard) = listen();
        ask(Wrapped::Twice(&inner.sessions, &bed.sessions), &[], async |_| Ok(Answer::ok())).await;
        let text = log.text();
        assert_eq!(text.matches("under one scope, and the inner one is ignored").count(), mistakes);
    }
}

#[actix_web::test]
async fn after_the_commit_the_session_can_be_read_but_a_change_is_an_error() {
    let bed = Bed::new();
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    session.insert("n", 1).unwrap();
    assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
    assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
    assert!(matches!(session.insert("n", 2), Err(InsertError::Committed)));
    assert!(matches!(session.increment("n", 2), Err(InsertError::Committed)));
    session.clear();
    session.destroy();
    session.renew();
    assert!(!session.remove("n"));
    assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
    session.save().await.unwrap();
    session.reload().await.unwrap();
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None, "once");
    assert_eq!(bed.events().len(), 1);
}

#[actix_web::test]
async fn a_session_is_committed_only_where_it_was_loaded() {
    let (one, two) = (Bed::new(), Bed::new());
    let session = one.sessions.load(["a=1"]).await.unwrap();
    session.insert("n", 1).unwrap();
    let outcome = two.sessions.commit(&session, CommitContext::default()).await;
    assert!(matches!(outcome, Err(CommitError::Foreign)));
    assert!(one.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
}

#[actix_web::test]
async fn a_forgotten_middleware_answers_500_with_an_empty_body_and_the_log_says_what_to_add() {
    let (log, _guard) = listen();
    let replies = [
        ask(Wrapped::Not, &[], async |request| request.session().await.map(|_| Answer::ok())).await,
        ask(Wrapped::Not, &[], async |request| request.extract::<Session>().await.map(|_| Answer::ok()))
            .await,
        ask(Wrapped::Not, &[], async |request| request.extract::<Subject>().await.map(|_| Answer::ok()))
            .await,
        ask(Wrapped::Not, &[], async |request| {
            request.extract::<Scoped<Admin>>().await.map(|_| Answer::ok())
        })
        .await,
    ];
    for reply in replies {
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(reply.all(SET_COOKIE), Vec::<&str>::new());
        assert_eq!(reply.body, b"");
    }
    let text = log.text();
    assert_eq!(text.matches("::new(sessions))`").count(), 4, "{text}");
    assert_eq!(text.matches("support::Admin").count(), 1, "{text}");
}

#[actix_web::test]
async fn a_handler_for_users_answers_401_with_an_empty_body_before_anybody_has_logged_in() {
    let bed = Bed::new();
    let account = async |request: Request| {
        let Subject(user) = request.extract().await?;
        assert_eq!(user, "ada");
        Ok(Answer::ok().body("hello"))
    };
    let reply = ask(Wrapped::Once(&bed.sessions), &[], account).await;
    assert_eq!((reply.status, reply.body.as_slice()), (StatusCode::UNAUTHORIZED, &b""[..]));
    assert_eq!(reply.all(VARY), ["Cookie"], "it depends on who asks");
    assert_eq!(reply.all(SET_COOKIE), Vec::<&str>::new());

    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    let cookie = jar.0.unwrap();
    let reply = ask(Wrapped::Once(&bed.sessions), &[cookie.as_bytes()], account).await;
    assert_eq!((reply.status, reply.body.as_slice()), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(reply.all(CACHE_CONTROL), Vec::<&str>::new());
}

#[actix_web::test]
async fn a_handler_for_everybody_is_told_whether_somebody_has_logged_in() {
    let bed = Bed::new();
    let look = async |request: Request| {
        let user: Option<Subject> = request.extract_option().await?;
        Ok(Answer::ok().body(if user.is_some_and(|user| &*user == "ada") { "ada" } else { "nobody" }))
    };
    assert_eq!(ask(Wrapped::Once(&bed.sessions), &[], look).await.body, b"nobody");
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    let cookie = jar.0.unwrap();
    assert_eq!(ask(Wrapped::Once(&bed.sessions), &[cookie.as_bytes()], look).await.body, b"ada");
}
