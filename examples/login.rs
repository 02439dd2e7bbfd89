//! A login with everything around it: a form, a flash message, a page for the user alone, logout, and a word to those
//! whose session has expired.
//!
//! `cargo run --example login`, then open <http://localhost:8080/>. Stop it and start it again: the login survives,
//! because the session is in the browser and its key in `session.keys`. `SESSION_SECONDS=10 cargo run --example login`
//! shows a session expire; `PORT` sets the port. On actix-web; `login_axum` is the same on axum.
//!
//! CSRF: only POST changes anything here, and a POST of another site's page gets nothing of the session and begins none,
//! by default. So no foreign page acts for a user, nor logs a visitor in to an account of its own.

#[path = "login/pages.rs"]
mod pages;

use std::error::Error;
use std::time::Duration;

use actix_web::http::header::{ContentType, LOCATION};
use actix_web::web::{self, Form};
use actix_web::{App, HttpResponse, HttpServer};
use sealed_session::{KeyRing, Lifetime, Session, SessionMiddleware, Sessions};
use serde::Deserialize;

async fn index(session: Session) -> actix_web::Result<HttpResponse> {
    Ok(HttpResponse::Ok().content_type(ContentType::html()).body(pages::index(&session)?))
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(session: Session, form: Form<Login>) -> actix_web::Result<HttpResponse> {
    let Login { name, password } = form.into_inner();
    pages::log_in(&session, name, &password)?;
    Ok(see_other("/"))
}

async fn logout(session: Session) -> HttpResponse {
    session.destroy();
    see_other("/")
}

/// After a POST, so that a reload does not send the form again.
fn see_other(location: &'static str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = pages::number("PORT", 8080_u16)?;
    let duration = Duration::from_secs(pages::number("SESSION_SECONDS", 3600)?);

    let keys = KeyRing::open_or_create("session.keys")?;
    let sessions = Sessions::builder(keys)
        .lifetime(Lifetime::new(duration))
        // Otherwise the browser drops the cookie at the very end of the session, and nothing is left to say why.
        .persistent(false)
        .build()?;

    let server = HttpServer::new(move || {
        App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(index))
            .route("/login", web::post().to(login))
            .route("/logout", web::post().to(logout))
    })
    .bind(("127.0.0.1", port))?;
    println!("http://localhost:{}/", server.addrs()[0].port());
    Ok(server.run().await?)
}
