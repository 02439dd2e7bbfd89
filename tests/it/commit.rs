//! The session is committed with every response, and only once.

use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use actix_web::{App, HttpRequest, HttpResponse, ResponseError, test, web};
use sealed_session::{CommitContext, CommitError, InsertError, SessionExt as _, SessionMiddleware};

use crate::support::{Bed, futures_of};

#[derive(Debug)]
struct Teapot;

impl std::fmt::Display for Teapot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("short and stout")
    }
}

impl ResponseError for Teapot {
    fn status_code(&self) -> StatusCode {
        StatusCode::IM_A_TEAPOT
    }
}

fn write(request: &HttpRequest) {
    futures_of(request.session()).insert("n", 1).unwrap();
}

#[actix_web::test]
async fn the_session_is_committed_whatever_the_status() {
    for status in [200, 204, 301, 302, 304, 400, 401, 404, 413, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        let bed = Bed::new();
        let reply = bed.call(&[], move |request| {
            write(&request);
            Ok(HttpResponse::new(status))
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
        Err(Teapot.into())
    });
    let reply = reply.await;
    assert_eq!(reply.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(reply.body, b"short and stout");
    assert!(reply.set_cookie().is_some());
}

#[actix_web::test]
async fn the_session_is_committed_when_an_inner_middleware_returns_an_error() {
    let bed = Bed::new();
    let app = App::new()
        .wrap_fn(|request, _| {
            write(request.request());
            async { Err::<actix_web::dev::ServiceResponse, _>(Teapot.into()) }
        })
        .wrap(SessionMiddleware::new(bed.sessions.clone()))
        .default_service(web::to(HttpResponse::Ok));
    let app = test::init_service(app).await;
    let error = test::try_call_service(&app, test::TestRequest::get().to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers().get_all(SET_COOKIE).count(), 1);
    assert_eq!(response.headers().get("vary").unwrap(), "Cookie");
    assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
}

#[actix_web::test]
async fn the_same_sessions_wrapped_twice_commit_once() {
    let bed = Bed::new();
    let app = App::new()
        .wrap(SessionMiddleware::new(bed.sessions.clone()))
        .wrap(SessionMiddleware::new(bed.sessions.clone()))
        .default_service(web::to(|request: HttpRequest| {
            write(&request);
            HttpResponse::Ok()
        }));
    let app = test::init_service(app).await;
    let response = test::call_service(&app, test::TestRequest::get().to_request()).await;
    assert_eq!(response.headers().get_all(SET_COOKIE).count(), 1);
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

#[actix_web::test]
async fn different_sessions_wrapped_under_one_scope_are_a_mistake_that_the_log_names() {
    let (bed, other) = (Bed::new(), Bed::new());
    for (inner, mistakes) in [(&bed, 0), (&other, 1)] {
        let (log, _guard) = listen();
        let app = App::new()
            .wrap(SessionMiddleware::new(inner.sessions.clone()))
            .wrap(SessionMiddleware::new(bed.sessions.clone()))
            .default_service(web::to(HttpResponse::Ok));
        let app = test::init_service(app).await;
        test::call_service(&app, test::TestRequest::get().to_request()).await;
        let text = log.text();
        assert_eq!(text.matches("two different `Sessions` are wrapped under one scope").count(), mistakes);
    }
}

#[actix_web::test]
async fn after_the_commit_the_session_can_be_read_but_a_change_is_an_error() {
    let bed = Bed::new();
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    session.insert("n", 1).unwrap();
    assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().is_some());
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
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap(), None, "once");
    assert_eq!(bed.events().len(), 1);
}

#[actix_web::test]
async fn a_session_is_committed_only_where_it_was_loaded() {
    let (one, two) = (Bed::new(), Bed::new());
    let session = one.sessions.load(["a=1"]).await.unwrap();
    session.insert("n", 1).unwrap();
    let outcome = two.sessions.commit(&session, CommitContext::default()).await;
    assert!(matches!(outcome, Err(CommitError::Foreign)));
    assert!(one.sessions.commit(&session, CommitContext::default()).await.unwrap().is_some());
}

#[actix_web::test]
async fn a_forgotten_middleware_answers_500_with_an_empty_body() {
    for path in ["/session", "/scoped"] {
        let app = App::new()
            .route("/session", web::to(async |_: sealed_session::Session| HttpResponse::Ok()))
            .route("/scoped", web::to(async |_: sealed_session::Scoped<Teapot>| HttpResponse::Ok()));
        let app = test::init_service(app).await;
        let response = test::call_service(&app, test::TestRequest::with_uri(path).to_request()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers().get(SET_COOKIE), None);
        assert!(test::read_body(response).await.is_empty());
    }
}
