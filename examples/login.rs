//! A login with everything around it: passwords hashed with Argon2, a guard that sends visitors to the login page and back,
//! the password once more before the e-mail address can be changed, messages for the next page, logout, and a word to
//! those whose session has expired.
//!
//! `cargo run --example login`, then open <http://localhost:8080/>. Stop it and start it again: the login survives,
//! because the session is in the browser and its key in `session.keys`. `SESSION_SECONDS=10 cargo run --example login`
//! shows a session expire, `FRESH_SECONDS=10` how soon the password is asked for again; `PORT` sets the port. On
//! actix-web; `login_axum` is the same on axum.
//!
//! CSRF: only POST changes anything here, and a POST of another site's page gets nothing of the session and begins none,
//! by default. So no foreign page acts for a user, nor logs a visitor in to an account of its own.

#[path = "login/accounts.rs"]
mod accounts;
#[path = "login/pages.rs"]
mod pages;

use std::error::Error;
use std::time::Duration;

use actix_web::http::header::{ContentType, LOCATION};
use actix_web::web::{self, Data, Form, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Result};
use sealed_session::{
    Flash, KeyRing, Lifetime, LoginGuard, Session, SessionMiddleware, Sessions, Subject, local_path,
};
use serde::Deserialize;

use accounts::Accounts;

fn html(page: String) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::html()).body(page)
}

/// After a POST, so that a reload does not send the form again.
fn see_other(location: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
}

async fn index(session: Session, flash: Flash, accounts: Data<Accounts>) -> Result<HttpResponse> {
    Ok(html(pages::index(&session, &flash, &accounts)?))
}

async fn login_form(session: Session, flash: Flash) -> HttpResponse {
    html(pages::login_form(&session, &flash, ""))
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

async fn login(
    request: HttpRequest,
    session: Session,
    flash: Flash,
    accounts: Data<Accounts>,
    way: Query<Way>,
    form: Form<Login>,
) -> Result<HttpResponse> {
    let Login { name, password } = form.into_inner();
    let typed = name.clone();
    // Hashing takes its time, which other requests of this thread need not wait for.
    let Some(account) = web::block(move || accounts.verify(&name, &password)).await? else {
        flash.error(pages::wrong(&typed))?;
        let here = request.uri().path_and_query().and_then(|here| local_path(here.as_str()));
        return Ok(see_other(here.filter(|_| way.next.is_some()).unwrap_or("/")));
    };
    // First, because it gives the session a new id, so that nobody can have planted it, and another user an empty one.
    session.authenticate(account)?;
    // Then, because a message is for the user whose session it is.
    flash.success("You are logged in.")?;
    // It came in an address, so anybody may have written it.
    Ok(see_other(way.next.as_deref().and_then(local_path).unwrap_or("/")))
}

async fn logout(session: Session, flash: Flash) -> Result<HttpResponse> {
    session.destroy();
    flash.info("You are logged out.")?;
    Ok(see_other("/"))
}

async fn email_form(_: Subject, flash: Flash, accounts: Data<Accounts>) -> HttpResponse {
    html(pages::email_form(&flash, &accounts))
}

#[derive(Deserialize)]
struct Email {
    email: String,
}

async fn email(
    _: Subject,
    flash: Flash,
    accounts: Data<Accounts>,
    form: Form<Email>,
) -> Result<HttpResponse> {
    accounts.set_email(&form.email);
    flash.success("The address is changed.")?;
    Ok(see_other("/"))
}

#[actix_web::main]
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
    let guard = LoginGuard::new("/login")?.fresh(recently)?;
    let accounts = Data::new(Accounts::new());

    let server = HttpServer::new(move || {
        App::new()
            .app_data(accounts.clone())
            .route("/", web::get().to(index))
            .service(web::resource("/login").get(login_form).post(login))
            .route("/logout", web::post().to(logout))
            .service(web::resource("/email").wrap(guard.clone()).get(email_form).post(email))
            .wrap(SessionMiddleware::new(sessions.clone()))
    })
    .bind(("127.0.0.1", port))?;
    println!("http://localhost:{}/", server.addrs()[0].port());
    Ok(server.run().await?)
}
