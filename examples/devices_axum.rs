//! The example `devices` on axum: a page with the user's devices, a button to log out each of the others, one for all of
//! them, and at most so many at once.
//!
//! `cargo run --features axum,memory --example devices_axum`, then open <http://localhost:8080/> in two browsers. `PORT`,
//! `MAX_SESSIONS`, `OVERFLOW` and `STORE` are as they are there.

#[path = "devices/name.rs"]
mod name;
#[path = "devices/pages.rs"]
mod pages;
#[path = "devices/settings.rs"]
mod settings;

use std::error::Error;

use axum::extract::State;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Redirect, Response, Result};
use axum::routing::{get, post};
use axum::{Form, Router};
use sealed_session::{Session, SessionLayer, Sessions, Subject};
use serde::Deserialize;

/// Otherwise whoever has stolen a session could log its owner out everywhere.
fn log_in_again() -> Response {
    Html(pages::login_form()).into_response()
}

async fn index(session: Session, State(sessions): State<Sessions>) -> Result<Html<String>> {
    Ok(Html(match session.subject() {
        // It asks the store, so it belongs on a page of its own rather than on each.
        Some(user) => pages::devices(&user, &session, &sessions.of(&user).await?),
        None => pages::login_form(),
    }))
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Answered with 303, as all forms are, so that a reload does not send the form again.
async fn login(headers: HeaderMap, session: Session, Form(form): Form<Login>) -> Result<Redirect> {
    // Once the password is checked, which nobody has here. An account's own id is neither empty nor too long.
    session.authenticate(form.name).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let browser = headers.get(USER_AGENT).map_or(&[][..], |agent| agent.as_bytes());
    // At the login it costs nothing more. Where it comes from is not known to be true, so the page escapes it.
    session.set_label(name::of_browser(browser))?;
    // If the user has too many sessions and `OVERFLOW` says so, the layer answers 403 in place of this.
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct Device {
    handle: String,
}

/// `Subject` is who the session says has logged in; without one the answer is 401. The form says which of *their*
/// sessions is meant: whose it is must never come from there.
async fn end(
    user: Subject,
    session: Session,
    State(sessions): State<Sessions>,
    Form(form): Form<Device>,
) -> Result<Response> {
    if !session.is_fresh(settings::RECENTLY) {
        return Ok(log_in_again());
    }
    // False: it is not in the list any more, and the page that comes shows what is.
    sessions.end(&user, &form.handle).await?;
    Ok(Redirect::to("/").into_response())
}

async fn elsewhere(user: Subject, session: Session, State(sessions): State<Sessions>) -> Result<Response> {
    if !session.is_fresh(settings::RECENTLY) {
        return Ok(log_in_again());
    }
    sessions.revoke_subject(&user).await?;
    session.renew(); // this one goes on, under a new id
    Ok(Redirect::to("/").into_response())
}

async fn logout(session: Session) -> Redirect {
    session.destroy();
    Redirect::to("/")
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let port = settings::port()?;
    let sessions = settings::sessions().await?;
    let app = Router::new()
        .route("/", get(index))
        .route("/login", post(login))
        .route("/end", post(end))
        .route("/elsewhere", post(elsewhere))
        .route("/logout", post(logout))
        .with_state(sessions.clone())
        .layer(SessionLayer::new(sessions));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://localhost:{}/", listener.local_addr()?.port());
    axum::serve(listener, app).await?;
    Ok(())
}
