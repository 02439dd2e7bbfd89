//! A single-page application: a JSON API over the session, and what keeps other sites from using it.
//!
//! `cargo run --example spa`, then open <http://localhost:8080/>. `PORT` sets the port.
//!
//! # Other sites (CSRF)
//!
//! The browser sends the cookie along with whatever request it makes to us, whoever made it do so. Four things stand in
//! the way here:
//!
//! 0. The guard, on by default, refuses what pages of another origin ask for the session with, by what browsers say of
//!    them. The others are for browsers that say nothing.
//! 1. `SameSite=Lax`, the default, keeps the cookie from requests that another *site* makes, unless they are top-level
//!    navigations with GET. A sibling subdomain is the same site, so it does not count as another.
//! 2. `web::Json` takes `application/json` only, which other *origins* cannot send without asking first (CORS), and
//!    nobody here answers. Do not add a permissive CORS middleware beside a session.
//! 3. A token, which the page reads from `/api/session` and sends in a header. Another origin can do neither. It is derived
//!    from the session's id, so nothing is stored, and a login makes all earlier ones worthless.
//!
//! Only requests that change nothing use GET.

use std::error::Error;

use actix_web::http::header::ContentType;
use actix_web::web::{self, Json};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, error};
use sealed_session::{KeyRing, Origin, Rejection, Session, SessionKey, SessionMiddleware, Sessions};
use serde::Deserialize;
use serde_json::{Value, json};

const NOTES: SessionKey<Vec<String>> = SessionKey::new("notes");
const TOKEN_HEADER: &str = "x-csrf-token";

/// The only user. A real application looks up a hash of the password, made with Argon2.
const DEMO: (&str, &str) = ("ada", "difference engine");

/// What the page asks first: who am I, and which token do I send?
async fn state(session: Session) -> actix_web::Result<Json<Value>> {
    let expired = matches!(session.origin(), Origin::Rejected(Rejection::Expired(_)));
    Ok(Json(json!({
        "user": session.subject(),
        "token": session.csrf_token()?, // another text each time, all of them good
        "notes": session.get(NOTES)?.unwrap_or_default(),
        "expired": expired,
    })))
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(request: HttpRequest, session: Session, login: Json<Login>) -> actix_web::Result<Json<Value>> {
    check_token(&request, &session)?;
    if (&*login.name, &*login.password) != DEMO {
        return Err(error::ErrorUnauthorized("wrong name or password"));
    }
    session.authenticate(&login.name)?; // a new id; of another user's session nothing is left
    state(session).await
}

async fn logout(request: HttpRequest, session: Session, _: Json<Value>) -> actix_web::Result<HttpResponse> {
    check_token(&request, &session)?;
    session.destroy();
    Ok(HttpResponse::NoContent().finish())
}

async fn add_note(
    request: HttpRequest,
    session: Session,
    note: Json<String>,
) -> actix_web::Result<Json<Value>> {
    check_token(&request, &session)?;
    if session.subject().is_none() {
        return Err(error::ErrorUnauthorized("log in first"));
    }
    // An error if the session grows past its cookie, with the exact numbers, and nothing is lost: 500. With a store it
    // moves there instead.
    session.update(NOTES, |notes| {
        let mut notes = notes.unwrap_or_default();
        notes.push(note.into_inner());
        notes
    })?;
    state(session).await
}

fn check_token(request: &HttpRequest, session: &Session) -> actix_web::Result<()> {
    let sent = request.headers().get(TOKEN_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(session.verify_csrf(sent)?)
}

async fn page() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::html()).body(PAGE)
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(page)) // touches no session, so any cache may keep it
        .route("/api/session", web::get().to(state))
        .route("/api/login", web::post().to(login))
        .route("/api/logout", web::post().to(logout))
        .route("/api/notes", web::post().to(add_note));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let keys = KeyRing::open_or_create("session.keys")?;
    // A cookie without `Max-Age`, so that the browser goes on sending it after its end, and the page can say so.
    let sessions = Sessions::builder(keys).persistent(false).build()?;
    let app = move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
    let server = HttpServer::new(app).bind(("127.0.0.1", port))?;
    println!("http://localhost:{port}/");
    server.run().await?;
    Ok(())
}

const PAGE: &str = r#"<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<meta name=color-scheme content="light dark">
<title>Notes</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 2rem auto; padding: 0 1rem }
  label { display: block; margin: .5rem 0 } input { width: 100%; box-sizing: border-box; font: inherit; padding: .3rem }
  button { font: inherit; padding: .3rem .8rem } [role=status] { min-height: 1.5rem }
</style>
<main>
  <h1>Notes</h1>
  <p role=status id=status></p>
  <form id=login hidden>
    <label>Name <input name=name value=ada autocomplete=username required></label>
    <label>Password <input name=password type=password value="difference engine" autocomplete=current-password required></label>
    <button>Log in</button>
  </form>
  <section id=notes hidden>
    <p>Logged in as <b id=user></b>. <button id=logout>Log out</button></p>
    <ul id=list></ul>
    <form id=add><label>New note <input name=note required></label><button>Add</button></form>
  </section>
</main>
<script>
  const $ = id => document.getElementById(id);
  let token, user = null;

  async function call(path, body, again) {
    const post = body !== undefined;
    const response = await fetch("/api/" + path, {
      method: post ? "POST" : "GET",
      headers: post ? { "content-type": "application/json", "x-csrf-token": token } : {},
      body: post ? JSON.stringify(body) : undefined,
    });
    if (response.status === 403 && !again) {
      // Another tab has logged in or out since, and the token is another one. What was written is for the user whom the page shows.
      const before = user;
      show(await call("session"));
      if (user === before) return call(path, body, true);
      $("status").textContent = "This page was somebody else's. Nothing was sent.";
      return null;
    }
    $("status").textContent = response.ok ? "" : await response.text() || response.statusText;
    return response.ok && response.status !== 204 ? response.json() : null;
  }

  function show(state) {
    if (!state) return;
    token = state.token;
    user = state.user ?? null;
    $("login").hidden = !!state.user;
    $("notes").hidden = !state.user;
    $("user").textContent = state.user ?? "";
    $("list").replaceChildren(...state.notes.map(note => Object.assign(document.createElement("li"), { textContent: note })));
    if (state.expired) $("status").textContent = "Your session has expired, please log in again.";
  }

  $("login").onsubmit = async event => {
    event.preventDefault();
    show(await call("login", Object.fromEntries(new FormData(event.target))));
  };
  $("add").onsubmit = async event => {
    event.preventDefault();
    show(await call("notes", event.target.note.value));
    event.target.reset();
  };
  $("logout").onclick = async () => { await call("logout", {}); show(await call("session")); };
  call("session").then(show);
</script>
"#;
