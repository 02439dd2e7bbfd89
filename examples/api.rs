//! One session behind a JSON interface, so that any HTTP client, in any language, can drive the library from outside.
//! On actix-web; `api_axum` is the same on axum.
//!
//! `cargo run --example api`, then for example
//! `curl -b jar -c jar -X PUT -d '"ada"' http://127.0.0.1:8080/entries/user`.
//!
//! | request | does | answers |
//! |---|---|---|
//! | `GET /untouched` | nothing with the session | 200 `{}` |
//! | `GET /session` | reads it | 200, all about it |
//! | `GET /entries/{key}` | reads one | 200 the value, 404 |
//! | `PUT /entries/{key}` any JSON | `insert` | 204, 413 |
//! | `DELETE /entries/{key}` | `remove` | 204 |
//! | `POST /entries/{key}/increment` | `increment(key, 1)` | 200 the new value, 409, 413 |
//! | `POST /clear`, `/renew`, `/touch`, `/destroy` | that method | 204 |
//! | `POST /authenticate` `{"subject"}`, `/login` | `authenticate` | 204 |
//! | `GET /callback?subject=` | `authenticate`, as where an identity provider sends users back to | 204 |
//! | `GET /guarded` | `LoginGuard` around it, with the login page `/login` | 200 what `GET /session` says; 303, or 401 to what is no browser's page |
//! | `POST /subject` `{"subject"}` | `set_subject` | 204 |
//! | `POST /duration` `{"ms"}`, `/persistent` `{"on"}` | `set_duration`, `set_persistent` | 204 |
//! | `GET /csrf` | `csrf_token` | 200 a token |
//! | `POST /csrf` `{"token"}` | `verify_csrf` | 204, 403 |
//! | `POST /flash` `{"text"}` | leaves a flash message | 204, 413 |
//! | `GET /flash` | takes them | 200 `["text"]`, once |
//! | `POST /revoke` `{"id"}` or `{"subject"}` | `Sessions::revoke`, `revoke_subject` | 204; 409 if revocation is off |
//! | `GET /sessions` | `Sessions::of` the session's subject | 200 `[{"handle", "label", "authenticated_at", "seen_at", "current"}]`; 401 without a subject; 409 if there is no list |
//! | `POST /sessions/end` `{"handle"}` | `Sessions::end`, of that subject | 204; 404 if it has no such session; 401, 409 |
//! | `POST /label` `{"label"}` | `set_label` | 204, 413 |
//! | `GET /slow?ms=&key=&value=` | opens the session, waits, then `insert` | 204 |
//! | `GET /status/{code}?key=&value=` | `insert`, then answers with that status; 0: the handler fails | it; 500 |
//! | `GET /head?bytes=` | `increment("head", 1)`, and headers `x-pad-N` of that many bytes in all | 200 the new value |
//!
//! `GET /session` answers `{"id", "origin", "rejection", "placement", "bytes", "created_at", "expires_at",
//! "remaining_ms", "subject", "authenticated_at", "fresh_ms", "device", "entries"}`: `origin` is `new`, `resumed`, `rejected` or `cross-site`; `rejection` says why, or is
//! null; `placement` is `cookie` or `store`; `bytes` counts the cookie's name and value, or the row; the times are
//! RFC 3339 in UTC with milliseconds, `2026-01-31T12:34:56.789Z`; `authenticated_at` and `fresh_ms`, the milliseconds since
//! then, are null for a subject that has not been authenticated; `device` is `none` or `bound`; `entries` maps keys to values.
//!
//! A mistake of the client is a 4xx with `{"error"}`; 413 also says `size` and `limit`, in bytes. A store that fails is
//! 503 without a body.
//!
//! | variable | value |
//! |---|---|
//! | `PORT` | on 127.0.0.1; 8080; 0 takes a free one |
//! | `TLS_CERT` and `TLS_KEY` | a certificate, with what leads to its authority, and its key, as PEM files: then it speaks HTTPS |
//! | `SESSION_KEYS` or `SESSION_KEY_FILE` | comma-separated keys, or a file that is made if need be; a fresh key |
//! | `COOKIE_NAME` | a prefix like `__Host-` binds other settings |
//! | `COOKIE_PATH`, `COOKIE_DOMAIN` | its attributes |
//! | `FORMERLY` | what they were before, comma-separated: `/app` for a path, `example.com/` with a domain |
//! | `SECURE`, `SAME_SITE` | `always`, `never`, `auto`; `strict`, `lax`, `none` |
//! | `CROSS_SITE` | `refuse`, `allow-same-site`, `anonymous`, `allow` |
//! | `TRUSTED_ORIGINS` | comma-separated: `https://app.example.com` |
//! | `PERSISTENT`, `ROLLING` | `true`, `false` |
//! | `DURATION_MS`, `ACTIVE_MS`, `ABSOLUTE_MS`, `IDLE_MS` | milliseconds; `ACTIVE_MS=0` means `fixed()` |
//! | `STORE` | `none`, `memory`, `redb:PATH`, `redis://..` (or `valkey://..`), `redis-cluster://host:port,host:port`, `mongodb://..`, `postgres://..`, `mysql://..`, `sqlite:PATH`; each needs its feature: `cargo run --all-features --example api` has all |
//! | `STORE_TIMEOUT_MS` | milliseconds |
//! | `SPILL_ABOVE`, `RESPONSE_HEAD_BUDGET`, `RESPONSE_HEAD_RESERVE` | bytes |
//! | `REVOCATION` | `off`, `every-request` or milliseconds |
//! | `REVOCATION_FAILURE` | `open` or `closed` |
//! | `MAX_SESSIONS` | how many sessions a subject may have |
//! | `OVERFLOW` | what becomes of one more: `end-oldest`, as it is without this, or `refuse`, which is answered with 403 |
//! | `DEVICE_BINDING`, `PROOF_MS` | `off`, `offered`, `required`, and how long a proof is good; they need the feature `device-binding` |
//! | `LOG` | what the log has at least: `error`, `warn`, as it is without this, `info`, `debug` or `trace` |
//!
//! What is not set has the library's default. A bad setting ends it with code 2 and a line that says what is wrong.

#[path = "api/interface.rs"]
mod interface;
#[path = "api/settings.rs"]
mod settings;

use std::process::ExitCode;
use std::time::Duration;

use actix_web::error::{ErrorInternalServerError, JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, JsonConfig, Path, Query, QueryConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, Route, rt};
use sealed_session::actix::LoginGuard;
use sealed_session::{Flash, RevokeError, Session, SessionMiddleware, Sessions};
use serde_json::{Value, json};

use interface::{
    Entry, Handle, Head, Label, MAX_BODY, OwnDuration, Persistent, Refusal, Subject, Text, Token, Wait, Whom,
};

fn routes(app: &mut web::ServiceConfig) {
    let json = JsonConfig::default().limit(MAX_BODY).error_handler(bad_json);
    app.app_data(json.content_type_required(false).content_type(|_| true))
        .app_data(QueryConfig::default().error_handler(bad_query))
        .route("/untouched", web::get().to(async || Json(json!({}))))
        .route("/session", web::get().to(describe))
        .service(web::resource("/entries/{key}").get(get).put(put).delete(delete))
        .route("/entries/{key}/increment", web::post().to(increment))
        .route("/clear", call(Session::clear))
        .route("/renew", call(Session::renew))
        .route("/touch", call(Session::touch))
        .route("/destroy", call(Session::destroy))
        .route("/authenticate", web::post().to(authenticate))
        .route("/login", web::post().to(authenticate))
        .route("/callback", web::get().to(callback))
        .service(web::resource("/guarded").wrap(guard()).get(describe))
        .route("/subject", web::post().to(set_subject))
        .route("/duration", web::post().to(duration))
        .route("/persistent", web::post().to(persistent))
        .service(web::resource("/csrf").get(csrf_token).post(verify_csrf))
        .service(web::resource("/flash").get(take_flash).post(leave_flash))
        .route("/revoke", web::post().to(revoke))
        .route("/sessions", web::get().to(list))
        .route("/sessions/end", web::post().to(end))
        .route("/label", web::post().to(label))
        .route("/slow", web::get().to(slow))
        .route("/status/{code}", web::get().to(status))
        .route("/head", web::get().to(head));
}

fn guard() -> LoginGuard {
    LoginGuard::new("/login").expect("it is a path")
}

type Answer = Result<HttpResponse, Refusal>;

fn done() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// The route to a method that takes nothing and returns nothing.
fn call(method: fn(&Session)) -> Route {
    web::post().to(move |session: Session| async move {
        method(&session);
        done()
    })
}

async fn describe(session: Session) -> Json<Value> {
    Json(interface::describe(&session))
}

async fn get(session: Session, key: Path<String>) -> actix_web::Result<HttpResponse> {
    match session.get::<Value>(&*key)? {
        Some(value) => Ok(HttpResponse::Ok().json(value)),
        None => Err(Refusal::absent(&key).into()),
    }
}

async fn put(session: Session, key: Path<String>, value: Json<Value>) -> Answer {
    session.insert(&*key, value.into_inner())?;
    Ok(done())
}

async fn delete(session: Session, key: Path<String>) -> HttpResponse {
    session.remove(&*key);
    done()
}

async fn increment(session: Session, key: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(session.increment(&*key, 1)?))
}

async fn authenticate(session: Session, body: Json<Subject>) -> Answer {
    session.authenticate(&body.subject)?;
    Ok(done())
}

async fn callback(session: Session, whom: Query<Subject>) -> Answer {
    session.authenticate(&whom.subject)?;
    Ok(done())
}

async fn set_subject(session: Session, body: Json<Subject>) -> Answer {
    session.set_subject(&body.subject)?;
    Ok(done())
}

async fn csrf_token(session: Session) -> Answer {
    Ok(HttpResponse::Ok().json(session.csrf_token()?))
}

async fn verify_csrf(session: Session, body: Json<Token>) -> Answer {
    session.verify_csrf(&body.token)?;
    Ok(done())
}

async fn leave_flash(flash: Flash, body: Json<Text>) -> Answer {
    flash.info(&body.text)?;
    Ok(done())
}

async fn take_flash(flash: Flash) -> Json<Vec<String>> {
    Json(interface::texts(&flash))
}

async fn duration(session: Session, body: Json<OwnDuration>) -> Answer {
    session.set_duration(Duration::from_millis(body.ms))?;
    Ok(done())
}

async fn persistent(session: Session, body: Json<Persistent>) -> Answer {
    session.set_persistent(body.on)?;
    Ok(done())
}

async fn revoke(sessions: Data<Sessions>, whom: Json<Whom>) -> actix_web::Result<HttpResponse> {
    let revoked = match &*whom {
        Whom::Id { id } => sessions.revoke(interface::session_id(id)?).await,
        Whom::Subject { subject } => sessions.revoke_subject(subject).await,
    };
    revoked.map_err(answered)?;
    Ok(done())
}

async fn list(sessions: Data<Sessions>, session: Session) -> actix_web::Result<HttpResponse> {
    let subject = interface::subject(&session)?;
    let listed = sessions.of(&subject).await.map_err(answered)?;
    Ok(HttpResponse::Ok().json(interface::listed(&session, &listed)))
}

async fn end(
    sessions: Data<Sessions>,
    session: Session,
    body: Json<Handle>,
) -> actix_web::Result<HttpResponse> {
    let subject = interface::subject(&session)?;
    match sessions.end(&subject, &body.handle).await.map_err(answered)? {
        true => Ok(done()),
        false => Err(Refusal::no_session().into()),
    }
}

async fn label(session: Session, body: Json<Label>) -> Answer {
    session.set_label(interface::label(&body)?)?;
    Ok(done())
}

/// What an error of `Sessions` is answered with.
fn answered(error: RevokeError) -> actix_web::Error {
    match error {
        RevokeError::Store(_) => error.into(),
        error => Refusal::new(409, error.to_string()).into(),
    }
}

/// The session is what the request's cookie said when it came, however long this takes.
async fn slow(session: Session, wait: Query<Wait>, entry: Query<Entry>) -> Answer {
    rt::time::sleep(Duration::from_millis(wait.ms)).await;
    session.insert(&entry.key, &entry.value)?;
    Ok(done())
}

/// A session is committed with every response, that of an error included.
async fn status(session: Session, code: Path<u16>, entry: Query<Entry>) -> actix_web::Result<HttpResponse> {
    let status = interface::wanted_status(*code)?;
    session.insert(&entry.key, &entry.value).map_err(Refusal::from)?;
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.map(HttpResponse::new).ok_or_else(|| ErrorInternalServerError("the handler returned an error"))
}

async fn head(session: Session, head: Query<Head>) -> Answer {
    let mut response = HttpResponse::Ok();
    head.padding()?.for_each(|header| {
        response.append_header(header);
    });
    Ok(response.json(session.increment("head", 1)?))
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code()).json(&self.body)
    }
}

fn bad_json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    let message = error.to_string();
    match error {
        JsonPayloadError::OverflowKnownLength { length, limit } => {
            Refusal::too_large(message, length, limit).into()
        }
        _ => Refusal::new(error.status_code().as_u16(), message).into(),
    }
}

fn bad_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    Refusal::bad(error.to_string()).into()
}

async fn serve() -> Result<(), String> {
    tracing_subscriber::fmt().with_max_level(settings::log()?).with_writer(std::io::stderr).init();
    let port = settings::port()?;
    let sessions = settings::sessions().await?;
    let app = move || {
        let app = App::new().app_data(Data::new(sessions.clone())).configure(routes);
        app.wrap(SessionMiddleware::new(sessions.clone()))
    };
    let (server, address) = (HttpServer::new(app), ("127.0.0.1", port));
    let (scheme, bound) = match settings::tls()? {
        Some(config) => ("https", server.bind_rustls_0_23(address, config)),
        None => ("http", server.bind(address)),
    };
    let server = bound.map_err(|error| format!("PORT is {port}, but it must be a free one: {error}"))?;
    if !settings::has_keys() {
        eprintln!("api: neither SESSION_KEYS nor SESSION_KEY_FILE is set: sessions end with this process");
    }
    println!("listening on {scheme}://{}/", server.addrs()[0]);
    server.run().await.map_err(|error| error.to_string())
}

#[actix_web::main]
async fn main() -> ExitCode {
    let Err(error) = serve().await else { return ExitCode::SUCCESS };
    eprintln!("api: {error}");
    ExitCode::from(2)
}
