//! A session, live in the browser: `cargo run --features redb --example playground`, then open <http://localhost:8080/>.
//!
//! Everything happens to the visitor's own session: entries, login, the list of the user's devices, size and the moment when
//! it moves into the store, countdowns to its ends with a clock that can be put forward, keys that rotate under it, a cookie that is tampered
//! with or replayed. What the library tells is shown as it happens. The page works without a script as well; the script
//! keeps it up to date.
//!
//! With `--features redb,device-binding` a login offers to bind the session to the browser's device, and the page tells what has come
//! of it, unless `DEVICE_BINDING` is `off`. Browsers that do so do it over HTTPS alone, so put a proxy before it.
//!
//! The store and the keys are in a temporary folder, or in the one that the first argument names. `PORT` sets the port,
//! `COOKIE_NAME`, `SPILL_ABOVE` and `RESPONSE_HEAD_BUDGET` the settings of these names.

#[path = "../devices/name.rs"]
mod name;

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::error::ErrorBadRequest;
use actix_web::http::header::{COOKIE, LOCATION, SET_COOKIE, USER_AGENT};
use actix_web::web::{self, Bytes, Data, Form};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_core::Stream;
use sealed_session::store::RedbStoreOptions;
use sealed_session::{
    Clock, Event, Key, KeyRing, Lifetime, MAX_NAME_VALUE_BYTES, Origin, Placement, Session,
    SessionMiddleware, SessionSummary, Sessions, Subject,
};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A cookie of the playground's own, for the copy that somebody might have kept.
const KEPT: &str = "playground_kept";

/// The server's clock, which can be put forward.
#[derive(Clone, Default)]
struct Shifted(Arc<AtomicI64>);

impl Clock for Shifted {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + time::Duration::seconds(self.0.load(Ordering::Relaxed))
    }
}

/// What the library tells, kept for new pages and sent to those that listen.
#[derive(Default)]
struct Feed(Mutex<(VecDeque<String>, Vec<UnboundedSender<Bytes>>)>);

impl Feed {
    fn tell(&self, event: &Event) {
        let line = told(event).to_string();
        let mut feed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feed.0.push_front(line.clone());
        feed.0.truncate(30);
        let message = Bytes::from(format!("data: {line}\n\n"));
        feed.1.retain(|listener| listener.send(message.clone()).is_ok());
    }

    fn recent(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.iter().cloned().collect()
    }

    fn listen(&self) -> UnboundedReceiver<Bytes> {
        let (sender, receiver) = unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.push(sender);
        receiver
    }
}

/// An event as the page shows it: a word, and what is worth knowing.
fn told(event: &Event) -> Value {
    let detail = match event {
        Event::Started { id, bytes } | Event::Reissued { id, bytes } => {
            format!("{id:?}, {bytes} bytes of cookie")
        }
        Event::Rejected { reason, .. } => reason.to_string(),
        Event::Resealed { id, from, to } => format!("{id:?}, from key {from} to {to}"),
        Event::Renewed { from, to } => format!("{from:?} is now {to:?}"),
        Event::Spilled { id, bytes } | Event::Written { id, bytes } => {
            format!("{id:?}, {bytes} bytes of row")
        }
        Event::Returned { id, bytes } => format!("{id:?}, {bytes} bytes of cookie"),
        Event::Ended { id, destroyed } => {
            format!("{id:?}, {}", if *destroyed { "destroyed" } else { "emptied" })
        }
        Event::Resumed { id } | Event::Extended { id } => format!("{id:?}"),
        other => format!("{other:?}"),
    };
    json!({ "event": event.as_str(), "detail": detail })
}

/// One page's share of the feed.
struct Listening(UnboundedReceiver<Bytes>);

impl Stream for Listening {
    type Item = Result<Bytes, actix_web::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|message| message.map(Ok))
    }
}

struct Playground {
    sessions: Sessions,
    /// The cookie's name.
    name: String,
    spill_above: usize,
    clock: Shifted,
    feed: Arc<Feed>,
}

type Shared = Data<Playground>;

/// The value of one of the request's cookies.
fn cookie(request: &HttpRequest, name: &str) -> Option<String> {
    let headers = request.headers().get_all(COOKIE).filter_map(|header| header.to_str().ok());
    headers
        .flat_map(|header| header.split("; "))
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
}

/// All that the page shows, for the script; the page itself is made of the same.
fn state(playground: &Playground, session: &Session, request: &HttpRequest) -> Value {
    let moment = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let (place, row) = match session.placement() {
        Placement::Store { bytes } => ("store", Some(bytes)),
        _ => ("cookie", None),
    };
    let raw = cookie(request, &playground.name);
    let inspected = raw.as_ref().map(|raw| playground.sessions.inspect(raw));
    let inspected = match &inspected {
        Some(Ok(told)) => json!({
            "id": told.id.to_string(), "key": told.key_id.to_string(), "retired": told.retired_key,
            "counter": told.counter, "sealed_at": moment(told.sealed_at), "keys": told.keys,
            "ends": {
                "duration": moment(told.duration_ends_at),
                "idle": told.idle_ends_at.map(moment), "absolute": told.absolute_ends_at.map(moment),
            },
        }),
        Some(Err(reason)) => json!({ "rejected": reason.to_string() }),
        None => Value::Null,
    };
    json!({
        "now": moment(playground.clock.now()),
        "origin": match session.origin() {
            Origin::Resumed => "resumed".to_owned(),
            Origin::Rejected(reason) => format!("rejected: {reason}"),
            _ => "new".to_owned(),
        },
        "device": session.device().as_str(), "id": session.id().to_string(), "subject": session.subject(), "place": place, "row": row,
        "expires_at": moment(session.expires_at()), "bytes": session.cookie_bytes(),
        "spill_above": playground.spill_above, "limit": MAX_NAME_VALUE_BYTES, "entries": session.entries(),
        "cookie": raw, "kept": cookie(request, KEPT).is_some(), "inspected": inspected,
        "primary": playground.sessions.keys().primary().to_string(),
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        Value::Null => "none".into(),
        other => escape(&other.to_string()),
    }
}

/// A row for each session of the subject, with a button beside those of other browsers.
fn devices(session: &Session, listed: &[SessionSummary]) -> String {
    let own = session.handle();
    let row = |device: &SessionSummary| {
        let label = escape(device.label.as_deref().unwrap_or("some browser"));
        // Of the last use the hour is known.
        let seen = format!("{} {:02} h", device.seen_at.date(), device.seen_at.hour());
        let end = if own.as_ref() == Some(&device.handle) {
            "<b>this one</b>".to_owned()
        } else {
            format!(
                "<form method=post action=/end><input type=hidden name=handle value=\"{}\"><button \
                 aria-label=\"Log out {label}\">Log out</button></form>",
                device.handle
            )
        };
        format!("<tr><th scope=row>{label}</th><td>{seen}</td><td>{end}</td></tr>")
    };
    listed.iter().map(row).collect()
}

async fn page(session: Session, playground: Shared, request: HttpRequest) -> actix_web::Result<HttpResponse> {
    let listed = match session.subject() {
        Some(subject) => playground.sessions.of(&subject).await?,
        None => Vec::new(),
    };
    let devices = devices(&session, &listed);
    let state = state(&playground, &session, &request);
    let rows: String = session
        .entries()
        .iter()
        .map(|(key, value)| {
            let (key, shown) = (escape(key), escape(&value.to_string().chars().take(120).collect::<String>()));
            format!(
                "<tr><th scope=row>{key}</th><td><code>{shown}</code></td><td><form method=post action=/remove>\
                 <input type=hidden name=key value=\"{key}\"><button aria-label=\"Remove {key}\">Remove</button>\
                 </form></td></tr>"
            )
        })
        .collect();
    let events: String = playground
        .feed
        .recent()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|told| format!("<li><b>{}</b> {}</li>", text(&told["event"]), text(&told["detail"])))
        .collect();
    let inspected = &state["inspected"];
    let html = include_str!("page.html")
        .replace("{rows}", if rows.is_empty() { "<tr><td colspan=3>Nothing yet.</td></tr>" } else { &rows })
        .replace("{events}", &events)
        .replace("{origin}", &text(&state["origin"]))
        .replace("{subject}", &text(&state["subject"]))
        .replace("{device}", &text(&state["device"]))
        .replace("{id}", &text(&state["id"]))
        .replace("{place}", &text(&state["place"]))
        .replace("{bytes}", &text(&state["bytes"]))
        .replace(
            "{row}",
            &state["row"].as_u64().map_or(String::new(), |n| format!(", with a row of {n} bytes")),
        )
        .replace("{now}", &text(&state["now"]))
        .replace("{duration}", &text(&inspected["ends"]["duration"]))
        .replace("{idle}", &text(&inspected["ends"]["idle"]))
        .replace("{absolute}", &text(&inspected["ends"]["absolute"]))
        .replace("{cookie}", &text(&state["cookie"]))
        .replace("{inspected}", &escape(&format!("{inspected:#}")))
        .replace("{primary}", &text(&state["primary"]))
        .replace("{kept}", if state["kept"] == true { "" } else { "disabled" })
        // Last, so that nothing is filled in into what a browser has called itself.
        .replace(
            "{devices}",
            if devices.is_empty() { "<tr><td colspan=3>Nobody is logged in.</td></tr>" } else { &devices },
        );
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html))
}

async fn script() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(include_str!("page.js"))
}

/// The same for the script. Looking at a session is no use of it, so it does not live longer for being looked at.
async fn state_of(session: Session, playground: Shared, request: HttpRequest) -> HttpResponse {
    session.skip_renewal();
    HttpResponse::Ok().json(state(&playground, &session, &request))
}

async fn events(playground: Shared) -> HttpResponse {
    HttpResponse::Ok().content_type("text/event-stream").streaming(Listening(playground.feed.listen()))
}

fn back() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish()
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    #[serde(default)]
    value: String,
}

/// Any JSON value; what is none is taken for text.
async fn set(session: Session, entry: Form<Entry>) -> actix_web::Result<HttpResponse> {
    let value: Value = serde_json::from_str(&entry.value).unwrap_or_else(|_| json!(entry.value));
    session.insert(&entry.key, value)?;
    Ok(back())
}

async fn remove(session: Session, entry: Form<Entry>) -> HttpResponse {
    session.remove(&entry.key);
    back()
}

#[derive(Deserialize)]
struct Grow {
    bytes: usize,
}

async fn grow(session: Session, grow: Form<Grow>) -> actix_web::Result<HttpResponse> {
    session.insert("filler", "x".repeat(grow.bytes.min(100_000)))?;
    Ok(back())
}

#[derive(Deserialize)]
struct Login {
    subject: String,
}

async fn login(
    session: Session,
    request: HttpRequest,
    login: Form<Login>,
) -> actix_web::Result<HttpResponse> {
    session.authenticate(&login.subject).map_err(ErrorBadRequest)?;
    let browser = request.headers().get(USER_AGENT).map_or(&[][..], |agent| agent.as_bytes());
    session.set_label(name::of_browser(browser))?;
    Ok(back())
}

#[derive(Deserialize)]
struct Device {
    handle: String,
}

/// One of the subject's own: whose it is the session says, and not the form.
async fn end(subject: Subject, playground: Shared, device: Form<Device>) -> actix_web::Result<HttpResponse> {
    playground.sessions.end(&subject, &device.handle).await?;
    Ok(back())
}

/// Everywhere but here.
async fn everywhere(session: Session, playground: Shared) -> actix_web::Result<HttpResponse> {
    if let Some(subject) = session.subject() {
        playground.sessions.revoke_subject(&subject).await?;
        session.renew();
    }
    Ok(back())
}

async fn rotate(playground: Shared) -> actix_web::Result<HttpResponse> {
    playground.sessions.keys().rotate(Key::generate()).map_err(actix_web::error::ErrorInternalServerError)?;
    Ok(back())
}

#[derive(Deserialize)]
struct Jump {
    seconds: u32,
}

async fn jump(playground: Shared, jump: Form<Jump>) -> HttpResponse {
    playground.clock.0.fetch_add(i64::from(jump.seconds), Ordering::Relaxed);
    back()
}

/// Gives the browser a cookie that it did not have from the session's own response.
fn plant(name: &str, value: &str) -> HttpResponse {
    let line = format!("{name}={value}; Path=/; HttpOnly; Secure; SameSite=Lax");
    HttpResponse::SeeOther().insert_header((LOCATION, "/")).append_header((SET_COOKIE, line)).finish()
}

async fn tamper(request: HttpRequest, playground: Shared) -> HttpResponse {
    let name = &playground.name;
    let Some(mut value) = cookie(&request, name).filter(|value| value.len() > 100) else { return back() };
    let flipped = if &value[99..100] == "A" { "B" } else { "A" };
    value.replace_range(99..100, flipped);
    plant(name, &value)
}

async fn keep(request: HttpRequest, playground: Shared) -> HttpResponse {
    let Some(value) = cookie(&request, &playground.name) else { return back() };
    let line = format!("{KEPT}={value}; Path=/; HttpOnly; SameSite=Lax");
    HttpResponse::SeeOther().insert_header((LOCATION, "/")).append_header((SET_COOKIE, line)).finish()
}

async fn replay(request: HttpRequest, playground: Shared) -> HttpResponse {
    cookie(&request, KEPT).map_or_else(back, |value| plant(&playground.name, &value))
}

fn act(method: fn(&Session)) -> actix_web::Route {
    web::post().to(move |session: Session| async move {
        method(&session);
        back()
    })
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(page))
        .route("/page.js", web::get().to(script))
        .route("/state", web::get().to(state_of))
        .route("/events", web::get().to(events))
        .route("/set", web::post().to(set))
        .route("/remove", web::post().to(remove))
        .route("/grow", web::post().to(grow))
        .route("/login", web::post().to(login))
        .route("/logout", act(Session::destroy))
        .route("/renew", act(Session::renew))
        .route("/touch", act(Session::touch))
        .route("/clear", act(Session::clear))
        .route("/end", web::post().to(end))
        .route("/everywhere", web::post().to(everywhere))
        .route("/rotate", web::post().to(rotate))
        .route("/jump", web::post().to(jump))
        .route("/tamper", web::post().to(tamper))
        .route("/keep", web::post().to(keep))
        .route("/replay", web::post().to(replay));
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("playground-{}", std::process::id())),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder)?;
    let number = |name, default| std::env::var(name).map_or(Ok(default), |text| text.parse::<usize>());
    let port = u16::try_from(number("PORT", 8_080)?)?;
    let spill_above = number("SPILL_ABOVE", 3_072)?;
    let name = std::env::var("COOKIE_NAME").unwrap_or_else(|_| "__Host-Http-session".into());
    let (clock, feed) = (Shifted::default(), Arc::new(Feed::default()));
    let tells = Arc::clone(&feed);
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let builder = Sessions::builder(KeyRing::open_or_create(folder.join("session.keys"))?)
        .lifetime(Lifetime::new(minutes(30)).active(minutes(5)).idle(minutes(20)).absolute(minutes(120)))
        .store(RedbStoreOptions::new().clock(clock.clone()).open(folder.join("sessions.redb"))?)
        .cookie_name(&name)
        .spill_above(spill_above)
        .response_head_budget(number("RESPONSE_HEAD_BUDGET", 4_096)?)
        .clock(clock.clone())
        .on_event(move |event| tells.tell(event));
    #[cfg(feature = "device-binding")]
    let builder = match std::env::var("DEVICE_BINDING").as_deref() {
        Ok("off") => builder,
        _ => builder.device_binding(sealed_session::DeviceBinding::WhereOffered),
    };
    let sessions = builder.build()?;
    let playground = Data::new(Playground { sessions: sessions.clone(), name, spill_above, clock, feed });
    let app = move || {
        let app = App::new().app_data(playground.clone()).configure(routes);
        app.wrap(SessionMiddleware::new(sessions.clone()))
    };
    let server = HttpServer::new(app).workers(2).bind(("127.0.0.1", port))?;
    println!(
        "open http://localhost:{}/ (the store and the keys are in {})",
        server.addrs()[0].port(),
        folder.display()
    );
    server.run().await?;
    Ok(())
}
