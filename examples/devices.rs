//! "Where am I logged in?": a page with the user's devices, a button to log out each of the others, one for all of them, and
//! at most so many at once.
//!
//! `cargo run --features memory --example devices`, then open <http://localhost:8080/> in two browsers. `PORT` sets the
//! port. `MAX_SESSIONS=1` permits one device per user: a login ends the older one, or is refused with `OVERFLOW=refuse`.
//! `STORE` is an address such as `redis://127.0.0.1/`, which needs the feature of that store; `memory` without it. On
//! actix-web; `devices_axum` is the same on axum.
//!
//! Nobody has a password here: the example `login` shows what a login needs.

#[path = "devices/name.rs"]
mod name;
#[path = "devices/pages.rs"]
mod pages;
#[path = "devices/settings.rs"]
mod settings;

use std::error::Error;

use actix_web::error::ErrorBadRequest;
use actix_web::http::header::{ContentType, LOCATION, USER_AGENT};
use actix_web::web::{self, Data, Form};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Result};
use sealed_session::{Session, SessionMiddleware, Sessions, Subject};
use serde::Deserialize;

/// After a POST, so that a reload does not send the form again.
fn home() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish()
}

/// Otherwise whoever has stolen a session could log its owner out everywhere.
fn log_in_again() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::html()).body(pages::login_form())
}

async fn index(session: Session, sessions: Data<Sessions>) -> Result<HttpResponse> {
    let page = match session.subject() {
        // It asks the store, so it belongs on a page of its own rather than on each.
        Some(user) => pages::devices(&user, &session, &sessions.of(&user).await?),
        None => pages::login_form(),
    };
    Ok(HttpResponse::Ok().content_type(ContentType::html()).body(page))
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

async fn login(request: HttpRequest, session: Session, form: Form<Login>) -> Result<HttpResponse> {
    // Once the password is checked, which nobody has here. An account's own id is neither empty nor too long.
    session.authenticate(&form.name).map_err(ErrorBadRequest)?;
    let browser = request.headers().get(USER_AGENT).map_or(&[][..], |agent| agent.as_bytes());
    // At the login it costs nothing more. Where it comes from is not known to be true, so the page escapes it.
    session.set_label(name::of_browser(browser))?;
    // If the user has too many sessions and `OVERFLOW` says so, the middleware answers 403 in place of this.
    Ok(home())
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
    sessions: Data<Sessions>,
    form: Form<Device>,
) -> Result<HttpResponse> {
    if !session.is_fresh(settings::RECENTLY) {
        return Ok(log_in_again());
    }
    // False: it is not in the list any more, and the page that comes shows what is.
    sessions.end(&user, &form.handle).await?;
    Ok(home())
}

async fn elsewhere(user: Subject, session: Session, sessions: Data<Sessions>) -> Result<HttpResponse> {
    if !session.is_fresh(settings::RECENTLY) {
        return Ok(log_in_again());
    }
    sessions.revoke_subject(&user).await?;
    session.renew(); // this one goes on, under a new id
    Ok(home())
}

async fn logout(session: Session) -> HttpResponse {
    session.destroy();
    home()
}

#[actix_web::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let port = settings::port()?;
    let sessions = settings::sessions().await?;
    let app = move || {
        App::new()
            .app_data(Data::new(sessions.clone()))
            .route("/", web::get().to(index))
            .route("/login", web::post().to(login))
            .route("/end", web::post().to(end))
            .route("/elsewhere", web::post().to(elsewhere))
            .route("/logout", web::post().to(logout))
            .wrap(SessionMiddleware::new(sessions.clone()))
    };
    let server = HttpServer::new(app).bind(("127.0.0.1", port))?;
    println!("http://localhost:{}/", server.addrs()[0].port());
    Ok(server.run().await?)
}
