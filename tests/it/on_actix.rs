//! The tests' requests, through actix-web.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::{App, Error, FromRequest, HttpRequest, HttpResponse, HttpServer, ResponseError, test, web};
use sealed_session::actix::SessionExt as _;
use sealed_session::{Session, SessionMiddleware, Sessions};

use crate::support::{Admin, Answer, Reply, Sent, Wrapped};

/// A request, as its handler sees it.
#[derive(Clone)]
pub(crate) struct Request(HttpRequest);

impl Request {
    pub(crate) async fn session(&self) -> Result<Session, Failure> {
        Ok(self.0.session().await?)
    }

    pub(crate) async fn admin_session(&self) -> Result<Session, Failure> {
        Ok(self.0.scoped_session::<Admin>().await?)
    }

    pub(crate) fn try_session(&self) -> Option<Session> {
        self.0.try_session()
    }

    /// What a handler gets that asks for a `T`.
    pub(crate) async fn extract<T: FromRequest>(&self) -> Result<T, Failure> {
        T::from_request(&self.0, &mut Payload::None).await.map_err(|error| Failure(error.into()))
    }

    /// What a handler gets that asks for an `Option<T>`.
    pub(crate) async fn extract_option<T: FromRequest>(&self) -> Result<Option<T>, Failure> {
        self.extract::<Option<T>>().await
    }
}

/// What a handler returns that fails.
pub(crate) struct Failure(Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An error of an application.
#[derive(Debug)]
struct Teapot;

impl fmt::Display for Teapot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("short and stout")
    }
}

impl ResponseError for Teapot {
    fn status_code(&self) -> StatusCode {
        StatusCode::IM_A_TEAPOT
    }
}

impl Failure {
    /// An error of an application, which is answered with 418 and a body.
    pub(crate) fn teapot() -> Self {
        Self(Teapot.into())
    }
}

fn response(answer: Answer) -> HttpResponse {
    let mut response = HttpResponse::build(answer.status);
    answer.headers.iter().for_each(|(name, value)| {
        response.append_header((name.clone(), *value));
    });
    response.body(answer.body)
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
    ask_app(App::new().default_service(route(handler)), wrapped, "/", sent).await
}

/// One request for a path.
#[cfg(feature = "device-binding")]
pub(crate) async fn ask_at<F>(wrapped: Wrapped<'_>, path: &str, sent: &Sent<'_>, handler: F) -> Reply
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    ask_app(App::new().default_service(route(handler)), wrapped, path, sent).await
}

/// One request for a path, to a handler behind the guard.
#[cfg(feature = "memory")]
pub(crate) async fn ask_behind<S, F>(
    guard: sealed_session::LoginGuard<S>,
    wrapped: Wrapped<'_>,
    path: &str,
    sent: &Sent<'_>,
    handler: F,
) -> Reply
where
    S: 'static,
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    ask_app(App::new().default_service(route(handler)).wrap(guard), wrapped, path, sent).await
}

fn route<F>(handler: F) -> actix_web::Route
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    let handler = Rc::new(handler);
    web::to(move |request: HttpRequest| {
        let handler = Rc::clone(&handler);
        async move {
            match handler(Request(request)).await {
                Ok(answer) => Ok(response(answer)),
                Err(Failure(error)) => Err(error),
            }
        }
    })
}

async fn ask_app<T, B>(app: App<T>, wrapped: Wrapped<'_>, path: &str, sent: &Sent<'_>) -> Reply
where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
{
    let layer = |sessions: &Sessions| SessionMiddleware::new(sessions.clone());
    let admin = |sessions: &Sessions| SessionMiddleware::scoped::<Admin>(sessions.clone());
    match wrapped {
        Wrapped::Not => send(test::init_service(app).await, path, sent).await,
        Wrapped::Once(sessions) => {
            send(test::init_service(app.wrap(layer(sessions))).await, path, sent).await
        }
        Wrapped::Twice(inner, outer) => {
            send(test::init_service(app.wrap(layer(inner)).wrap(layer(outer))).await, path, sent).await
        }
        Wrapped::Scoped { site, of_admin } => {
            send(test::init_service(app.wrap(layer(site)).wrap(admin(of_admin))).await, path, sent).await
        }
    }
}

async fn send<S, B>(app: S, path: &str, sent: &Sent<'_>) -> Reply
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let mut request = test::TestRequest::with_uri(path).method(sent.method.parse().unwrap());
    for (name, value) in &sent.headers {
        request = request.append_header((*name, HeaderValue::from_bytes(value).unwrap()));
    }
    // What is an error here becomes the response that it stands for, as in the server.
    match app.call(request.to_request()).await {
        Ok(response) => {
            let (status, headers) = (response.status(), response.headers().clone());
            Reply { status, headers, body: test::read_body(response).await.to_vec() }
        }
        Err(error) => {
            let response = error.error_response();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = actix_web::body::to_bytes(response.into_body()).await.unwrap_or_default();
            Reply { status, headers, body: body.to_vec() }
        }
    }
}

async fn count(session: Session) -> actix_web::Result<String> {
    Ok(format!("{} {:?}", session.increment("n", 1)?, session.origin()))
}

/// A server that counts in the session, as long as `client` runs.
pub(crate) async fn serve<F>(sessions: Sessions, client: impl FnOnce(SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let server = HttpServer::new(move || {
        App::new().wrap(SessionMiddleware::new(sessions.clone())).default_service(web::to(count))
    })
    .workers(2)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let running = actix_web::rt::spawn(server);
    let outcome = tokio::spawn(client(address)).await;
    handle.stop(false).await;
    running.await.unwrap().unwrap();
    outcome.unwrap();
}
