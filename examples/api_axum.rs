//! The interface of the example `api`, on axum: the same requests, answers and settings, which are described there.
//!
//! `cargo run --features axum --example api_axum`, then for example
//! `curl -b jar -c jar -X PUT -d '"ada"' http://127.0.0.1:8080/entries/user`.

#[path = "api/interface.rs"]
mod interface;
#[path = "api/settings.rs"]
mod settings;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::serve::Listener;
use sealed_session::tower::LoginGuard;
use sealed_session::{Flash, RevokeError, Session, SessionLayer, Sessions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use interface::{
    Entry, Handle, Head, Label, MAX_BODY, OwnDuration, Persistent, Refusal, Subject, Text, Token, Wait, Whom,
};

fn routes() -> Router<Sessions> {
    let guard = LoginGuard::new("/login").expect("it is a path");
    Router::new()
        .route("/guarded", get(async |session: Session| Json(interface::describe(&session))))
        .route_layer(guard) // around the route above
        .route("/untouched", get(async || Json(json!({}))))
        .route("/session", get(async |session: Session| Json(interface::describe(&session))))
        .route("/entries/{key}", get(read).put(put).delete(delete))
        .route("/entries/{key}/increment", post(increment))
        .route("/clear", call(Session::clear))
        .route("/renew", call(Session::renew))
        .route("/touch", call(Session::touch))
        .route("/destroy", call(Session::destroy))
        .route("/authenticate", post(authenticate))
        .route("/login", post(authenticate))
        .route("/callback", get(callback))
        .route("/subject", post(set_subject))
        .route("/duration", post(duration))
        .route("/persistent", post(persistent))
        .route("/csrf", get(csrf_token).post(verify_csrf))
        .route("/flash", get(take_flash).post(leave_flash))
        .route("/revoke", post(revoke))
        .route("/sessions", get(list))
        .route("/sessions/end", post(end))
        .route("/label", post(label))
        .route("/slow", get(slow))
        .route("/status/{code}", get(status))
        .route("/head", get(head))
}

type Answer = Result<Response, Refused>;

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The route to a method that takes nothing and returns nothing.
fn call(method: fn(&Session)) -> MethodRouter<Sessions> {
    post(async move |session: Session| {
        method(&session);
        done()
    })
}

async fn read(session: Session, Path(key): Path<String>) -> Answer {
    match session.get::<Value>(&key) {
        Ok(Some(value)) => Ok(Json(value).into_response()),
        Ok(None) => Err(Refusal::absent(&key).into()),
        Err(error) => Ok(error.into_response()),
    }
}

async fn put(session: Session, Path(key): Path<String>, Sent(value): Sent<Value>) -> Answer {
    session.insert(&key, value)?;
    Ok(done())
}

async fn delete(session: Session, Path(key): Path<String>) -> Response {
    session.remove(&key);
    done()
}

async fn increment(session: Session, Path(key): Path<String>) -> Answer {
    Ok(Json(session.increment(&key, 1)?).into_response())
}

async fn authenticate(session: Session, Sent(body): Sent<Subject>) -> Answer {
    session.authenticate(body.subject)?;
    Ok(done())
}

async fn callback(session: Session, whom: Asked<Subject>) -> Answer {
    let Query(whom) = whom?;
    session.authenticate(whom.subject)?;
    Ok(done())
}

async fn set_subject(session: Session, Sent(body): Sent<Subject>) -> Answer {
    session.set_subject(body.subject)?;
    Ok(done())
}

async fn csrf_token(session: Session) -> Answer {
    Ok(Json(session.csrf_token()?).into_response())
}

async fn verify_csrf(session: Session, Sent(body): Sent<Token>) -> Answer {
    session.verify_csrf(&body.token)?;
    Ok(done())
}

async fn leave_flash(flash: Flash, Sent(body): Sent<Text>) -> Answer {
    flash.info(body.text)?;
    Ok(done())
}

async fn take_flash(flash: Flash) -> Json<Vec<String>> {
    Json(interface::texts(&flash))
}

async fn duration(session: Session, Sent(body): Sent<OwnDuration>) -> Answer {
    session.set_duration(Duration::from_millis(body.ms))?;
    Ok(done())
}

async fn persistent(session: Session, Sent(body): Sent<Persistent>) -> Answer {
    session.set_persistent(body.on)?;
    Ok(done())
}

async fn revoke(State(sessions): State<Sessions>, Sent(whom): Sent<Whom>) -> Answer {
    let revoked = match whom {
        Whom::Id { id } => sessions.revoke(interface::session_id(&id)?).await,
        Whom::Subject { subject } => sessions.revoke_subject(&subject).await,
    };
    Ok(revoked.map_or_else(answered, |()| done()))
}

async fn list(State(sessions): State<Sessions>, session: Session) -> Answer {
    let subject = interface::subject(&session)?;
    let listed = sessions.of(&subject).await;
    Ok(listed.map_or_else(answered, |listed| Json(interface::listed(&session, &listed)).into_response()))
}

async fn end(State(sessions): State<Sessions>, session: Session, Sent(body): Sent<Handle>) -> Answer {
    let subject = interface::subject(&session)?;
    match sessions.end(&subject, &body.handle).await {
        Ok(true) => Ok(done()),
        Ok(false) => Err(Refusal::no_session().into()),
        Err(error) => Ok(answered(error)),
    }
}

async fn label(session: Session, Sent(body): Sent<Label>) -> Answer {
    session.set_label(interface::label(&body)?)?;
    Ok(done())
}

/// What an error of `Sessions` is answered with.
fn answered(error: RevokeError) -> Response {
    match error {
        RevokeError::Store(_) => error.into_response(),
        error => Refused(Refusal::new(409, error.to_string())).into_response(),
    }
}

type Asked<T> = Result<Query<T>, QueryRejection>;

/// The session is what the request's cookie said when it came, however long this takes.
async fn slow(session: Session, wait: Asked<Wait>, entry: Asked<Entry>) -> Answer {
    tokio::time::sleep(Duration::from_millis(wait?.ms)).await;
    let Query(entry) = entry?;
    session.insert(&entry.key, entry.value)?;
    Ok(done())
}

/// A session is committed with every response, that of an error included.
async fn status(session: Session, code: Result<Path<u16>, PathRejection>, entry: Asked<Entry>) -> Answer {
    let Ok(Path(code)) = code else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let Query(entry) = entry?;
    let status = interface::wanted_status(code)?;
    session.insert(&entry.key, entry.value)?;
    match status.and_then(|status| StatusCode::from_u16(status).ok()) {
        Some(status) => Ok(status.into_response()),
        None => Ok((StatusCode::INTERNAL_SERVER_ERROR, "the handler returned an error").into_response()),
    }
}

async fn head(session: Session, head: Asked<Head>) -> Answer {
    let mut response = Response::builder();
    for (name, value) in head?.padding()? {
        response = response.header(name, value);
    }
    let body = session.increment("head", 1)?.to_string();
    Ok(response.header("content-type", "application/json").body(body.into()).expect("these are headers"))
}

/// A body of JSON, whatever its content type says.
struct Sent<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(size) = length.filter(|size| *size > MAX_BODY) {
            let message = format!("a body of {size} bytes is larger than the limit: {MAX_BODY} bytes");
            return Err(Refusal::too_large(message, size, MAX_BODY).into());
        }
        let body = to_bytes(request.into_body(), MAX_BODY).await;
        let body = body.map_err(|error| Refusal::new(413, error.to_string()))?;
        let value = serde_json::from_slice(&body);
        let value = value.map_err(|error| Refusal::bad(format!("not the JSON asked for: {error}")))?;
        Ok(Self(value))
    }
}

/// A refusal as axum answers it.
struct Refused(Refusal);

impl<E: Into<Refusal>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        Self::bad(error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0.body)).into_response()
    }
}

async fn serve() -> Result<(), String> {
    tracing_subscriber::fmt().with_max_level(settings::log()?).with_writer(std::io::stderr).init();
    let port = settings::port()?;
    let sessions = settings::sessions().await?;
    let app = routes().layer(SessionLayer::new(sessions.clone())).with_state(sessions);
    let tls = settings::tls()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("PORT is {port}, but it must be a free one: {error}"))?;
    if !settings::has_keys() {
        eprintln!("api: neither SESSION_KEYS nor SESSION_KEY_FILE is set: sessions end with this process");
    }
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let served = match tls {
        Some(config) => {
            println!("listening on https://{address}/");
            axum::serve(TlsListener::new(listener, address, config), app).await
        }
        None => {
            println!("listening on http://{address}/");
            axum::serve(listener, app).await
        }
    };
    served.map_err(|error| error.to_string())
}

/// Connections whose handshake is done. Each does it in a task of its own, so that one that dawdles keeps nobody waiting.
struct TlsListener {
    address: SocketAddr,
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    const HANDSHAKE: Duration = Duration::from_secs(10);

    fn new(mut listener: TcpListener, address: SocketAddr, config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let (stream, peer) = Listener::accept(&mut listener).await;
                let (handshake, sender) = (acceptor.accept(stream), sender.clone());
                tokio::spawn(async move {
                    if let Ok(Ok(stream)) = tokio::time::timeout(Self::HANDSHAKE, handshake).await {
                        // Nobody is there to take it only when the server ends.
                        let _ = sender.send((stream, peer)).await;
                    }
                });
            }
        });
        Self { address, connections }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.connections.recv().await.expect("the task that accepts never ends")
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = serve().await else { return ExitCode::SUCCESS };
    eprintln!("api: {error}");
    ExitCode::from(2)
}
