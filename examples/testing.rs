//! Testing a handler that uses the session: `issue` makes the cookie of any session, without a login.
//!
//! `cargo test --example testing`

use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use sealed_session::{KeyRing, Session, SessionMiddleware, Sessions};

/// The handler under test: a page for whoever is logged in.
async fn account(session: Session) -> impl Responder {
    match session.subject() {
        Some(user) => {
            let visits = session.increment("visits", 1).unwrap_or_default();
            HttpResponse::Ok().body(format!("{user}, visit {visits}"))
        }
        None => HttpResponse::Unauthorized().finish(),
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config.route("/account", web::get().to(account));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::builder(KeyRing::open_or_create("session.keys")?).build()?;
    let app = move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
    HttpServer::new(app).bind(("127.0.0.1", 8080))?.run().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
    use sealed_session::{Key, ManualClock, SystemClock};

    use super::*;

    /// Sessions with a clock that moves when it is told to, so that no test waits for an end.
    fn sessions() -> (Sessions, ManualClock) {
        let clock = ManualClock::at(sealed_session::Clock::now(&SystemClock));
        let builder = Sessions::builder(KeyRing::new(Key::generate())).clock(clock.clone());
        (builder.build().unwrap(), clock)
    }

    #[actix_web::test]
    async fn who_is_logged_in_sees_the_page_and_the_visit_is_counted() {
        let (sessions, _) = sessions();
        let cookie = sessions
            .issue(|session| {
                session.authenticate("ada")?;
                session.insert("visits", 41)
            })
            .await
            .unwrap();
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        let app = init_service(app).await;
        let request = TestRequest::get().uri("/account").insert_header(("cookie", cookie)).to_request();
        assert_eq!(call_and_read_body(&app, request).await, "ada, visit 42");
    }

    #[actix_web::test]
    async fn nobody_else_does_and_neither_does_ada_when_her_session_is_over() {
        let (sessions, clock) = sessions();
        let cookie = sessions.issue(|session| session.authenticate("ada")).await.unwrap();
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
        let app = init_service(app).await;
        let stranger = TestRequest::get().uri("/account").to_request();
        assert_eq!(call_service(&app, stranger).await.status(), 401);

        clock.advance(Duration::from_secs(24 * 3600));
        let late = TestRequest::get().uri("/account").insert_header(("cookie", cookie)).to_request();
        assert_eq!(call_service(&app, late).await.status(), 401);
    }
}
