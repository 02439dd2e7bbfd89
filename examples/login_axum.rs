//! The example `login` on axum: a login with a form, a flash message, a page for the user alone, logout, and a word to those
//! whose session has expired.
//!
//! `cargo run --features axum --example login_axum`, then open <http://localhost:8080/>. `SESSION_SECONDS=10` before it
//! shows a session expire; `PORT` sets the port.

#[path = "login/pages.rs"]
mod pages;

use std::error::Error;
use std::time::Duration;

use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use axum::{Form, Router};
use sealed_session::{InsertError, KeyRing, Lifetime, Session, SessionLayer, Sessions};
use serde::Deserialize;

async fn index(session: Session) -> Result<Html<String>, InsertError> {
    Ok(Html(pages::index(&session)?))
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

/// Answered with 303, as logout is, so that a reload does not send the form again.
async fn login(session: Session, Form(form): Form<Login>) -> Result<Redirect, InsertError> {
    pages::log_in(&session, form.name, &form.password)?;
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> Redirect {
    session.destroy();
    Redirect::to("/")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = pages::number("PORT", 8080_u16)?;
    let duration = Duration::from_secs(pages::number("SESSION_SECONDS", 3600)?);

    let keys = KeyRing::open_or_create("session.keys")?;
    let sessions = Sessions::builder(keys)
        .lifetime(Lifetime::new(duration))
        // Otherwise the browser drops the cookie at the very end of the session, and nothing is left to say why.
        .persistent(false)
        .build()?;

    let app = Router::new()
        .route("/", get(index))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .layer(SessionLayer::new(sessions));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://localhost:{}/", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}
