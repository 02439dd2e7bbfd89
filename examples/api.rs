//! One session behind a JSON interface, so that any HTTP client, in any language, can drive the library from outside.
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
//! | `POST /subject` `{"subject"}` | `set_subject` | 204 |
//! | `POST /duration` `{"ms"}`, `/persistent` `{"on"}` | `set_duration`, `set_persistent` | 204 |
//! | `POST /revoke` `{"id"}` or `{"subject"}` | `Sessions::revoke`, `revoke_subject` | 204; 409 if revocation is off |
//! | `GET /slow?ms=&key=&value=` | opens the session, waits, then `insert` | 204 |
//! | `GET /status/{code}?key=&value=` | `insert`, then answers with that status; 0: the handler fails | it; 500 |
//! | `GET /head?bytes=` | `increment("head", 1)`, and headers `x-pad-N` of that many bytes in all | 200 the new value |
//!
//! `GET /session` answers `{"id", "origin", "rejection", "placement", "bytes", "created_at", "expires_at",
//! "remaining_ms", "subject", "authenticated_at", "fresh_ms", "entries"}`: `origin` is `new`, `resumed` or `rejected`; `rejection` says why, or is
//! null; `placement` is `cookie` or `store`; `bytes` counts the cookie's name and value, or the row; the times are
//! RFC 3339 in UTC with milliseconds, `2026-01-31T12:34:56.789Z`; `authenticated_at` and `fresh_ms`, the milliseconds since
//! then, are null for a subject that has not been authenticated; `entries` maps keys to values.
//!
//! A mistake of the client is a 4xx with `{"error"}`; 413 also says `size` and `limit`, in bytes. A store that fails is
//! 503 without a body.
//!
//! | variable | value |
//! |---|---|
//! | `PORT` | on 127.0.0.1; 8080; 0 takes a free one |
//! | `SESSION_KEYS` or `SESSION_KEY_FILE` | comma-separated keys, or a file that is made if need be; a fresh key |
//! | `COOKIE_NAME` | a prefix like `__Host-` binds other settings |
//! | `SECURE`, `SAME_SITE` | `always`, `never`, `auto`; `strict`, `lax`, `none` |
//! | `PERSISTENT`, `ROLLING` | `true`, `false` |
//! | `DURATION_MS`, `ACTIVE_MS`, `ABSOLUTE_MS`, `IDLE_MS` | milliseconds; `ACTIVE_MS=0` means `fixed()` |
//! | `STORE` | `none`, `memory`, `redb:PATH`, `redis://..`, `redis-cluster://host:port,host:port`, `mongodb://..`, `postgres://..`, `mysql://..`, `sqlite:PATH`; each needs its feature: `cargo run --all-features --example api` has all |
//! | `STORE_TIMEOUT_MS` | milliseconds |
//! | `SPILL_ABOVE`, `RESPONSE_HEAD_BUDGET` | bytes |
//! | `REVOCATION` | `off`, `every-request` or milliseconds |
//! | `REVOCATION_FAILURE` | `open` or `closed` |
//!
//! What is not set has the library's default. A bad setting ends it with code 2 and a line that says what is wrong.

use std::env::{self, VarError};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::error::{ErrorInternalServerError, JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, JsonConfig, Path, Query, QueryConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, ResponseError, Route, rt};
use sealed_session::store::{self, Store};
use sealed_session::{
    FailurePolicy, InsertError, Key, KeyRing, Lifetime, Origin, ParseSessionIdError, Placement, Revocation,
    RevokeError, SameSite, Secure, Session, SessionMiddleware, Sessions,
};
use serde::Deserialize;
use serde_json::{Value, json};
use time::macros::format_description;

/// More than any session may hold, so that the session's own limit is the one that answers.
const MAX_BODY: usize = 2 << 20;

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
        .route("/subject", web::post().to(set_subject))
        .route("/duration", web::post().to(duration))
        .route("/persistent", web::post().to(persistent))
        .route("/revoke", web::post().to(revoke))
        .route("/slow", web::get().to(slow))
        .route("/status/{code}", web::get().to(status))
        .route("/head", web::get().to(head));
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

async fn describe(session: Session) -> impl Responder {
    let authenticated_at = session.authenticated_at();
    let fresh = authenticated_at.map(|at| (time::OffsetDateTime::now_utc() - at).whole_milliseconds() as i64);
    let (origin, rejection) = match session.origin() {
        Origin::New => ("new", None),
        Origin::Resumed => ("resumed", None),
        Origin::Rejected(reason) => ("rejected", Some(reason.as_str())),
        _ => ("unknown", None),
    };
    let (placement, bytes) = match session.placement() {
        Placement::Cookie { bytes } => ("cookie", bytes),
        Placement::Store { bytes } => ("store", bytes),
        _ => ("unknown", 0),
    };
    Json(json!({
        "id": session.id().to_string(),
        "origin": origin,
        "rejection": rejection,
        "placement": placement,
        "bytes": bytes,
        "created_at": rfc3339(session.created_at()),
        "expires_at": rfc3339(session.expires_at()),
        "remaining_ms": session.remaining().as_millis() as u64,
        "subject": session.subject(),
        "authenticated_at": authenticated_at.map(rfc3339),
        "fresh_ms": fresh.map(|ms| ms.max(0)),
        "entries": session.entries(),
    }))
}

fn rfc3339(at: time::OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
        .expect("a moment in UTC has all these parts")
}

async fn get(session: Session, key: Path<String>) -> actix_web::Result<HttpResponse> {
    Ok(match session.get::<Value>(&*key)? {
        Some(value) => HttpResponse::Ok().json(value),
        None => HttpResponse::NotFound().json(json!({ "error": format!("no entry {:?}", key.as_str()) })),
    })
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

#[derive(Deserialize)]
struct Subject {
    subject: String,
}

async fn authenticate(session: Session, body: Json<Subject>) -> Answer {
    session.authenticate(&body.subject)?;
    Ok(done())
}

async fn set_subject(session: Session, body: Json<Subject>) -> Answer {
    session.set_subject(&body.subject)?;
    Ok(done())
}

#[derive(Deserialize)]
struct OwnDuration {
    ms: u64,
}

async fn duration(session: Session, body: Json<OwnDuration>) -> Answer {
    session.set_duration(Duration::from_millis(body.ms))?;
    Ok(done())
}

#[derive(Deserialize)]
struct Persistent {
    on: bool,
}

async fn persistent(session: Session, body: Json<Persistent>) -> Answer {
    session.set_persistent(body.on)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Whom {
    Id { id: String },
    Subject { subject: String },
}

async fn revoke(sessions: Data<Sessions>, whom: Json<Whom>) -> actix_web::Result<HttpResponse> {
    let revoked = match &*whom {
        Whom::Id { id } => {
            let id = id.parse().map_err(|error: ParseSessionIdError| Refusal::bad(error.to_string()))?;
            sessions.revoke(id).await
        }
        Whom::Subject { subject } => sessions.revoke_subject(subject).await,
    };
    match revoked {
        Ok(()) => Ok(done()),
        Err(RevokeError::Off) => Err(Refusal::new(StatusCode::CONFLICT, RevokeError::Off.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    value: String,
}

#[derive(Deserialize)]
struct Wait {
    ms: u64,
}

/// The session is what the request's cookie said when it came, however long this takes.
async fn slow(session: Session, wait: Query<Wait>, entry: Query<Entry>) -> Answer {
    rt::time::sleep(Duration::from_millis(wait.ms)).await;
    session.insert(&entry.key, &entry.value)?;
    Ok(done())
}

/// A session is committed with every response, that of an error included.
async fn status(session: Session, code: Path<u16>, entry: Query<Entry>) -> actix_web::Result<HttpResponse> {
    let status = match *code {
        0 => None,
        200..=599 => StatusCode::from_u16(*code).ok(),
        other => return Err(Refusal::bad(format!("status {other} is neither 0 nor from 200 to 599")).into()),
    };
    session.insert(&entry.key, &entry.value).map_err(Refusal::from)?;
    status.map(HttpResponse::new).ok_or_else(|| ErrorInternalServerError("the handler returned an error"))
}

#[derive(Deserialize)]
struct Head {
    bytes: usize,
}

async fn head(session: Session, head: Query<Head>) -> Answer {
    const SHORTEST: usize = "x-pad-0: \r\n".len();
    const LONGEST: usize = 64 << 10;
    const LINE: usize = 1024;

    let bytes = head.bytes;
    if bytes != 0 && !(SHORTEST..=LONGEST).contains(&bytes) {
        return Err(Refusal::bad(format!(
            "bytes is {bytes}, and neither 0 nor from {SHORTEST} to {LONGEST}"
        )));
    }
    let mut response = HttpResponse::Ok();
    let lines = bytes.div_ceil(LINE);
    for n in 0..lines {
        let length = bytes / lines + usize::from(n < bytes % lines);
        let name = format!("x-pad-{n}");
        let value = "x".repeat(length - name.len() - ": \r\n".len());
        response.append_header((name, value));
    }
    Ok(response.json(session.increment("head", 1)?))
}

/// What the client has to do otherwise.
#[derive(Debug, thiserror::Error)]
#[error("{body}")]
struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    fn new(status: StatusCode, error: String) -> Self {
        Self { status, body: json!({ "error": error }) }
    }

    fn bad(error: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    fn too_large(error: String, size: usize, limit: usize) -> Self {
        let body = json!({ "error": error, "size": size, "limit": limit });
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, body }
    }
}

impl ResponseError for Refusal {
    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(&self.body)
    }
}

impl From<InsertError> for Refusal {
    fn from(error: InsertError) -> Self {
        let message = error.to_string();
        match error {
            InsertError::TooLarge { size, limit } => Self::too_large(message, size, limit),
            InsertError::NotCountable { .. } => Self::new(StatusCode::CONFLICT, message),
            InsertError::Encode { .. } | InsertError::Duration { .. } | InsertError::EmptySubject => {
                Self::bad(message)
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

fn bad_json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    let message = error.to_string();
    match error {
        JsonPayloadError::OverflowKnownLength { length, limit } => {
            Refusal::too_large(message, length, limit).into()
        }
        _ => Refusal::new(error.status_code(), message).into(),
    }
}

fn bad_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    Refusal::bad(error.to_string()).into()
}

/// A variable's value, or none if it is not set.
fn var(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(format!("{name} is {value:?}, but it must be Unicode")),
    }
}

/// A variable's meaning. `right` says what it may be.
fn setting<T>(name: &str, right: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    let Some(value) = var(name)? else { return Ok(None) };
    read(&value).map(Some).ok_or_else(|| format!("{name} is {value:?}, but it must be {right}"))
}

fn one_of<T: Copy>(name: &str, right: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
    let choose = |value: &str| choices.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    setting(name, right, choose)
}

fn switch(name: &str) -> Result<Option<bool>, String> {
    one_of(name, "true or false", &[("true", true), ("false", false), ("1", true), ("0", false)])
}

fn millis(name: &str) -> Result<Option<Duration>, String> {
    setting(name, "a whole number of milliseconds", |value| value.parse().ok().map(Duration::from_millis))
}

fn keys() -> Result<KeyRing, String> {
    match (var("SESSION_KEYS")?, var("SESSION_KEY_FILE")?) {
        (Some(_), Some(file)) => {
            Err(format!("SESSION_KEYS is set, and so is SESSION_KEY_FILE, to {file:?}: unset one"))
        }
        (Some(list), None) => {
            KeyRing::parse(&list).map_err(|error| format!("SESSION_KEYS: {}", in_full(&error)))
        }
        (None, Some(file)) => {
            KeyRing::open_or_create(&file).map_err(|error| format!("SESSION_KEY_FILE: {}", in_full(&error)))
        }
        (None, None) => Ok(KeyRing::new(Key::generate())),
    }
}

/// An error with its causes, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        // Some errors tell their cause themselves.
        if line.contains(&cause) { line } else { format!("{line}: {cause}") }
    })
}

fn bytes(name: &str) -> Result<Option<usize>, String> {
    setting(name, "a whole number of bytes", |value| value.parse().ok())
}

/// Opens the store that `STORE` names.
async fn store() -> Result<Option<Arc<dyn Store>>, String> {
    let Some(address) = var("STORE")?.filter(|address| address != "none") else { return Ok(None) };
    store::open(&address).await.map(Some).map_err(|error| format!("STORE: {}", in_full(&error)))
}

fn revocation() -> Result<Option<Revocation>, String> {
    setting("REVOCATION", "off, every-request or a whole number of milliseconds", |value| match value {
        "off" => Some(Revocation::Off),
        "every-request" => Some(Revocation::EveryRequest),
        _ => value.parse().ok().map(Duration::from_millis).map(Revocation::Every),
    })
}

async fn sessions() -> Result<Sessions, String> {
    let mut lifetime = millis("DURATION_MS")?.map_or_else(Lifetime::default, Lifetime::new);
    if let Some(active) = millis("ACTIVE_MS")? {
        lifetime = if active.is_zero() { lifetime.fixed() } else { lifetime.active(active) };
    }
    if let Some(absolute) = millis("ABSOLUTE_MS")? {
        lifetime = lifetime.absolute(absolute);
    }
    if let Some(idle) = millis("IDLE_MS")? {
        lifetime = lifetime.idle(idle);
    }
    let secure = [("always", Secure::Always), ("never", Secure::Never), ("auto", Secure::Auto)];
    let same_site = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let secure = one_of("SECURE", "always, never or auto", &secure)?;
    let same_site = one_of("SAME_SITE", "strict, lax or none", &same_site)?;
    let (persistent, rolling) = (switch("PERSISTENT")?, switch("ROLLING")?);
    let policies = [("open", FailurePolicy::Open), ("closed", FailurePolicy::Closed)];
    let on_failure = one_of("REVOCATION_FAILURE", "open or closed", &policies)?;

    let mut builder = Sessions::builder(keys()?).lifetime(lifetime);
    if let Some(store) = store().await? {
        builder = builder.store(store);
    }
    if let Some(revocation) = revocation()? {
        builder = builder.revocation(revocation);
    }
    if let Some(policy) = on_failure {
        builder = builder.revocation_failure(policy);
    }
    if let Some(timeout) = millis("STORE_TIMEOUT_MS")? {
        builder = builder.store_timeout(timeout);
    }
    if let Some(bytes) = bytes("SPILL_ABOVE")? {
        builder = builder.spill_above(bytes);
    }
    if let Some(bytes) = bytes("RESPONSE_HEAD_BUDGET")? {
        builder = builder.response_head_budget(bytes);
    }
    if let Some(name) = var("COOKIE_NAME")? {
        builder = builder.cookie_name(name);
    }
    if let Some(secure) = secure {
        builder = builder.secure(secure);
    }
    if let Some(same_site) = same_site {
        builder = builder.same_site(same_site);
    }
    if let Some(persistent) = persistent {
        builder = builder.persistent(persistent);
    }
    if let Some(rolling) = rolling {
        builder = builder.rolling(rolling);
    }
    builder.build().map_err(|error| format!("{error} ({})", what_is_set()))
}

/// The settings that may contradict one another.
fn what_is_set() -> String {
    let names = [
        "COOKIE_NAME",
        "SECURE",
        "SAME_SITE",
        "DURATION_MS",
        "ACTIVE_MS",
        "ABSOLUTE_MS",
        "IDLE_MS",
        "STORE",
        "STORE_TIMEOUT_MS",
        "SPILL_ABOVE",
        "RESPONSE_HEAD_BUDGET",
        "REVOCATION",
        "REVOCATION_FAILURE",
    ];
    let set = names.iter().filter_map(|name| env::var(name).ok().map(|value| format!("{name}={value:?}")));
    set.collect::<Vec<_>>().join(", ")
}

async fn serve() -> Result<(), String> {
    let port = setting("PORT", "from 0 to 65535", |value| value.parse().ok())?.unwrap_or(8080_u16);
    let sessions = sessions().await?;
    let app = move || {
        let app = App::new().app_data(Data::new(sessions.clone())).configure(routes);
        app.wrap(SessionMiddleware::new(sessions.clone()))
    };
    let server = HttpServer::new(app)
        .bind(("127.0.0.1", port))
        .map_err(|error| format!("PORT is {port}, but it must be a free one: {error}"))?;
    if ["SESSION_KEYS", "SESSION_KEY_FILE"].iter().all(|name| env::var_os(name).is_none()) {
        eprintln!("api: neither SESSION_KEYS nor SESSION_KEY_FILE is set: sessions end with this process");
    }
    println!("listening on http://{}/", server.addrs()[0]);
    server.run().await.map_err(|error| error.to_string())
}

#[actix_web::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let Err(error) = serve().await else { return ExitCode::SUCCESS };
    eprintln!("api: {error}");
    ExitCode::from(2)
}
