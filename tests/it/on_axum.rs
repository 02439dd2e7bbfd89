//! The tests' requests, through the layer and the extractors that axum has of us.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::HeaderValue;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use sealed_session::tower::{LoginGuard, SessionExt as _};
use sealed_session::{InsertError, Session, SessionLayer, Sessions};
use tower::{Layer, Service, ServiceExt as _, service_fn};

use crate::support::{Admin, Answer, Reply, Sent, Wrapped};

/// A request, as its handler sees it.
#[derive(Clone)]
pub(crate) struct Request(Rc<RefCell<Parts>>);

impl Request {
    pub(crate) fn session(&self) -> impl Future<Output = Result<Session, Failure>> + use<> {
        let loading = self.0.borrow().session();
        async { Ok(loading.await?) }
    }

    pub(crate) async fn admin_session(&self) -> Result<Session, Failure> {
        let loading = self.0.borrow().scoped_session::<Admin>();
        Ok(loading.await?)
    }

    pub(crate) fn try_session(&self) -> Option<Session> {
        self.0.borrow().try_session()
    }

    /// What a handler gets that asks for a `T`.
    pub(crate) async fn extract<T: FromRequestParts<()>>(&self) -> Result<T, Failure> {
        let mut parts = self.0.borrow().clone();
        T::from_request_parts(&mut parts, &()).await.map_err(Failure::from)
    }

    /// What a handler gets that asks for an `Option<T>`.
    pub(crate) async fn extract_option<T: OptionalFromRequestParts<()>>(&self) -> Result<Option<T>, Failure> {
        let mut parts = self.0.borrow().clone();
        T::from_request_parts(&mut parts, &()).await.map_err(Failure::from)
    }
}

/// What a handler returns that fails.
pub(crate) struct Failure(Box<Response>);

impl<E: IntoResponse> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error.into_response()))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Failure {
    /// An error of an application, which is answered with 418 and a body.
    pub(crate) fn teapot() -> Self {
        Self(Box::new((axum::http::StatusCode::IM_A_TEAPOT, "short and stout").into_response()))
    }
}

fn response(answer: Answer) -> Response {
    let mut response = Response::builder().status(answer.status.as_u16());
    for (name, value) in &answer.headers {
        response = response.header(name.as_str(), *value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

/// One request with these `Cookie` headers.
pub(crate) async fn ask<F>(wrapped: Wrapped<'_>, cookies: &[&[u8]], handler: F) -> Reply
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    ask_with(wrapped, &Sent::get(cookies), handler).await
}

/// One request.
pub(crate) async fn ask_with<F>(wrapped: Wrapped<'_>, sent: &Sent<'_>, handler: F) -> Reply
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    ask_service(service(handler), wrapped, "/", sent).await
}

/// One request for a path.
#[cfg(feature = "device-binding")]
pub(crate) async fn ask_at<F>(wrapped: Wrapped<'_>, path: &str, sent: &Sent<'_>, handler: F) -> Reply
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    ask_service(service(handler), wrapped, path, sent).await
}

/// One request for a path, to a handler behind the guard.
pub(crate) async fn ask_behind<S, F>(
    guard: LoginGuard<S>,
    wrapped: Wrapped<'_>,
    path: &str,
    sent: &Sent<'_>,
    handler: F,
) -> Reply
where
    S: 'static,
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    ask_service(guard.layer(service(handler)), wrapped, path, sent).await
}

fn service<F>(
    handler: F,
) -> impl Service<axum::http::Request<Body>, Response = Response, Error = Infallible> + Clone
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    let handler = Rc::new(handler);
    service_fn(move |request: axum::http::Request<Body>| {
        let handler = Rc::clone(&handler);
        let request = Request(Rc::new(RefCell::new(request.into_parts().0)));
        async move {
            Ok::<_, Infallible>(match handler(request).await {
                Ok(answer) => response(answer),
                Err(Failure(response)) => *response,
            })
        }
    })
}

async fn ask_service<S>(app: S, wrapped: Wrapped<'_>, path: &str, sent: &Sent<'_>) -> Reply
where
    S: Service<axum::http::Request<Body>, Response = Response, Error = Infallible>,
{
    let layer = |sessions: &Sessions| SessionLayer::new(sessions.clone());
    let admin = |sessions: &Sessions| SessionLayer::scoped::<Admin>(sessions.clone());
    match wrapped {
        Wrapped::Not => send(app, path, sent).await,
        Wrapped::Once(sessions) => send(layer(sessions).layer(app), path, sent).await,
        Wrapped::Twice(inner, outer) => send(layer(outer).layer(layer(inner).layer(app)), path, sent).await,
        Wrapped::Scoped { site, of_admin } => {
            send(admin(of_admin).layer(layer(site).layer(app)), path, sent).await
        }
    }
}

async fn send<S>(app: S, path: &str, sent: &Sent<'_>) -> Reply
where
    S: Service<axum::http::Request<Body>, Response = Response, Error = Infallible>,
{
    let mut request = axum::http::Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap();
    *request.method_mut() = sent.method.parse().unwrap();
    for (name, value) in &sent.headers {
        let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let response = app.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let mut headers = actix_web::http::header::HeaderMap::new();
    for (name, value) in &parts.headers {
        let name = actix_web::http::header::HeaderName::from_bytes(name.as_ref()).unwrap();
        headers.append(name, actix_web::http::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Reply { status: actix_web::http::StatusCode::from_u16(parts.status.as_u16()).unwrap(), headers, body }
}

async fn count(session: Session) -> Result<String, InsertError> {
    Ok(format!("{} {:?}", session.increment("n", 1)?, session.origin()))
}

/// A server that counts in the session, as long as `client` runs.
pub(crate) async fn serve<F>(sessions: Sessions, client: impl FnOnce(SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let app = Router::new().fallback(count).layer(SessionLayer::new(sessions));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = tokio::spawn(async move { axum::serve(listener, app).await });
    let outcome = tokio::spawn(client(address)).await;
    running.abort();
    outcome.unwrap();
}
