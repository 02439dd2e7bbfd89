//! The example `login` on axum: passwords hashed with Argon2, a guard that sends visitors to the login page and back, the
//! password once more before the e-mail address can be changed, messages for the next page, logout, and a word to those
//! whose session has expired.
//!
//! `cargo run --features axum --example login_axum`, then open <http://localhost:8080/>. `SESSION_SECONDS=10` before it
//! shows a session expire, `FRESH_SECONDS=10` how soon the password is asked for again; `PORT` sets the port.

#[path = "login/accounts.rs"]
mod accounts;
#[path = "login/pages.rs"]
mod pages;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::{Html, Redirect, Result};
use axum::routing::{get, post};
use axum::{Form, Router};
use sealed_session::tower::LoginGuard;
use sealed_session::{Flash, KeyRing, Lifetime, Session, SessionLayer, Sessions, Subject, local_path};
use serde::Deserialize;

use accounts::Accounts;

type Database = State<Arc<Accounts>>;

async fn index(session: Session, flash: Flash, State(accounts): Database) -> Result<Html<String>> {
    Ok(Html(pages::index(&session, &flash, &accounts)?))
}

async fn login_form(session: Session, flash: Flash) -> Html<String> {
    Html(pages::login_form(&session, &flash, ""))
}

/// Where the guard found the visitor.
#[derive(Deserialize)]
struct Way {
    next: Option<String>,
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

/// Answered with 303, as all forms are, so that a reload does not send the form again.
async fn login(
    uri: Uri,
    session: Session,
    flash: Flash,
    State(accounts): Database,
    Query(way): Query<Way>,
    Form(Login { name, password }): Form<Login>,
) -> Result<Redirect> {
    let typed = name.clone();
    // Hashing takes its time, which other requests of this thread need not wait for.
    let verified = tokio::task::spawn_blocking(move || accounts.verify(&name, &password)).await;
    let Some(account) = verified.expect("hashing does not panic") else {
        flash.error(pages::wrong(&typed))?;
        let here = uri.path_and_query().and_then(|here| local_path(here.as_str()));
        return Ok(Redirect::to(here.filter(|_| way.next.is_some()).unwrap_or("/")));
    };
    // First, because it gives the session a new id, so that nobody can have planted it, and another user an empty one.
    session.authenticate(account)?;
    // Then, because a message is for the user whose session it is.
    flash.success("You are logged in.")?;
    // It came in an address, so anybody may have written it.
    Ok(Redirect::to(way.next.as_deref().and_then(local_path).unwrap_or("/")))
}

async fn logout(session: Session, flash: Flash) -> Result<Redirect> {
    session.destroy();
    flash.info("You are logged out.")?;
    Ok(Redirect::to("/"))
}

async fn email_form(_: Subject, flash: Flash, State(accounts): Database) -> Html<String> {
    Html(pages::email_form(&flash, &accounts))
}

#[derive(Deserialize)]
struct Email {
    email: String,
}

async fn email(
    _: Subject,
    flash: Flash,
    State(accounts): Database,
    Form(form): Form<Email>,
) -> Result<Redirect> {
    accounts.set_email(&form.email);
    flash.success("The address is changed.")?;
    Ok(Redirect::to("/"))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let port = pages::number("PORT", 8080_u16)?;
    let duration = Duration::from_secs(pages::number("SESSION_SECONDS", 3600)?);
    let recently = Duration::from_secs(pages::number("FRESH_SECONDS", 300)?);

    let keys = KeyRing::open_or_create("session.keys")?;
    let sessions = Sessions::builder(keys)
        .lifetime(Lifetime::new(duration))
        // Otherwise the browser drops the cookie at the very end of the session, and nothing is left to say why.
        .persistent(false)
        .build()?;

    let app = Router::new()
        .route("/email", get(email_form).post(email))
        // Around the routes that stand before it.
        .route_layer(LoginGuard::new("/login")?.fresh(recently)?)
        .route("/", get(index))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .layer(SessionLayer::new(sessions))
        .with_state(Arc::new(Accounts::new()));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://localhost:{}/", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}
