//! In the company of other layers, routers and services.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE, VARY};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::routing::{get, post};
use sealed_session::tower::SessionExt as _;
use sealed_session::{InsertError, LoginGuard, Session, SessionLayer, Sessions, Subject};
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::spy::stored;
use crate::support::Bed;

async fn count(session: Session) -> Result<String, InsertError> {
    Ok(session.increment("n", 1)?.to_string())
}

fn request(path: &str, cookie: Option<&str>) -> Request {
    let mut request = axum::http::Request::get(path).header("origin", "https://shop.example");
    request = request.header("accept-encoding", "gzip");
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    request.body(Body::empty()).unwrap()
}

/// The status, the headers and the session's cookie.
async fn ask(app: &Router, path: &str, cookie: Option<&str>) -> (Response<Body>, Option<String>) {
    let response = app.clone().oneshot(request(path, cookie)).await.unwrap();
    let line = response.headers().get(SET_COOKIE).map(|line| line.to_str().unwrap());
    let cookie = line.map(|line| line.split(';').next().unwrap().to_owned());
    (response, cookie)
}

/// The order of the documentation.
fn in_order(app: Router, sessions: &Sessions) -> Router {
    app.layer(
        ServiceBuilder::new()
            .layer(TraceLayer::new_for_http())
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::SERVICE_UNAVAILABLE,
                Duration::from_millis(200),
            ))
            .layer(CorsLayer::permissive())
            .layer(CompressionLayer::new())
            .layer(SessionLayer::new(sessions.clone())),
    )
}

/// The session outside of what is usually outside of it.
fn inside_out(app: Router, sessions: &Sessions) -> Router {
    app.layer(
        ServiceBuilder::new()
            .layer(SessionLayer::new(sessions.clone()))
            .layer(CompressionLayer::new())
            .layer(CorsLayer::permissive())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::SERVICE_UNAVAILABLE,
                Duration::from_millis(200),
            ))
            .layer(CatchPanicLayer::new())
            .layer(TraceLayer::new_for_http()),
    )
}

fn routes() -> Router {
    Router::new()
        .route("/", get(count))
        .route("/untouched", get(async || "nothing"))
        .route(
            "/panic",
            get(async |session: Session| -> String {
                session.insert("half", true).unwrap();
                panic!("on purpose")
            }),
        )
        .route(
            "/hang",
            get(async |session: Session| {
                session.insert("half", true).unwrap();
                std::future::pending::<String>().await
            }),
        )
        .route(
            "/large",
            get(async |session: Session| {
                session.insert("large", "x".repeat(5_000)).map(|()| "x".repeat(500))
            }),
        )
}

#[tokio::test]
async fn in_the_documented_order_each_layer_does_its_part() {
    let (bed, spy) = stored(|builder| builder);
    let app = in_order(routes(), &bed.sessions);
    let (response, cookie) = ask(&app, "/", None).await;
    assert_eq!((response.status(), cookie.is_some()), (StatusCode::OK, true));
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let (response, _) = ask(&app, "/untouched", cookie.as_deref()).await;
    assert_eq!(response.headers().get(SET_COOKIE), None);
    assert!(!response.headers().get_all(VARY).iter().any(|value| value == "Cookie"));
    for (path, status) in
        [("/panic", StatusCode::INTERNAL_SERVER_ERROR), ("/hang", StatusCode::SERVICE_UNAVAILABLE)]
    {
        let (response, after) = ask(&app, path, cookie.as_deref()).await;
        assert_eq!((response.status(), after), (status, None), "nothing of it is saved: {path}");
    }
    let (response, _) = ask(&app, "/large", None).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.headers().contains_key(SET_COOKIE));
    let vary: Vec<_> = response.headers().get_all(VARY).iter().collect();
    assert!(vary.contains(&&HeaderValue::from_static("Cookie")) && vary.len() > 1, "{vary:?}");

    spy.go_down(true);
    let (response, _) = ask(&app, "/large", None).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["access-control-allow-origin"], "*", "the page may read the status");
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn in_the_opposite_order_a_session_is_committed_with_what_the_layers_answer() {
    let (bed, spy) = stored(|builder| builder);
    let app = inside_out(routes(), &bed.sessions);
    let (_, cookie) = ask(&app, "/", None).await;
    for path in ["/panic", "/hang"] {
        let (response, after) = ask(&app, path, cookie.as_deref()).await;
        assert!(response.status().is_server_error() && after.is_some(), "half of it is saved: {path}");
    }
    spy.go_down(true);
    let (response, _) = ask(&app, "/large", None).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers().get("content-encoding"), None, "the body is empty");
    let body = axum::body::to_bytes(response.into_body(), 10).await.unwrap();
    assert!(body.is_empty());
}

#[tokio::test]
async fn nested_routers_fallbacks_and_routers_with_a_state_have_the_session_of_what_is_around_them() {
    async fn with_state(State(greeting): State<&'static str>, session: Session) -> String {
        format!("{greeting} {}", session.increment("n", 1).unwrap())
    }
    let bed = Bed::new();
    let inner: Router<&'static str> = Router::new().route("/inner", get(with_state));
    let app = Router::new()
        .nest("/nested", inner)
        .merge(Router::new().route("/merged", get(with_state)))
        .fallback(count)
        .layer(SessionLayer::new(bed.sessions.clone()))
        .with_state("hello");
    let mut cookie = None;
    for (path, expected) in [("/nested/inner", "hello 1"), ("/merged", "hello 2"), ("/else", "3")] {
        let (response, next) = ask(&app, path, cookie.as_deref()).await;
        let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, expected);
        cookie = next;
    }
}

#[tokio::test]
async fn a_route_layer_leaves_the_fallback_out() {
    let bed = Bed::new();
    let app = Router::new()
        .route("/", get(count))
        .route_layer(SessionLayer::new(bed.sessions.clone()))
        .fallback(count);
    assert_eq!(ask(&app, "/", None).await.0.status(), StatusCode::OK);
    assert_eq!(ask(&app, "/else", None).await.0.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn middleware_inside_of_the_layer_shares_the_session_with_the_handler() {
    async fn guard(session: Session, request: Request, next: Next) -> Result<Response<Body>, InsertError> {
        session.increment("n", 1)?;
        assert_eq!(request.try_session().unwrap().id(), session.id());
        Ok(next.run(request).await)
    }
    async fn login(session: Session) -> Result<(), InsertError> {
        session.authenticate("ada")
    }
    let bed = Bed::new();
    let app = Router::new()
        .route("/", get(count))
        .route("/account", get(async |Subject(user): Subject| user))
        .route("/login", post(login).get(login))
        .layer(from_fn(guard))
        .layer(SessionLayer::new(bed.sessions.clone()));
    let (response, cookie) = ask(&app, "/", None).await;
    assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), "2");
    assert_eq!(ask(&app, "/account", cookie.as_deref()).await.0.status(), StatusCode::UNAUTHORIZED);
    let (_, cookie) = ask(&app, "/login", cookie.as_deref()).await;
    let (response, _) = ask(&app, "/account", cookie.as_deref()).await;
    assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), "ada");
}

/// A service that is neither `Clone` nor `Sync`, with request and response bodies of its own and an error.
struct Plain(std::cell::Cell<u8>);

#[derive(Debug, Default)]
struct Text(Option<&'static str>);

impl axum::body::HttpBody for Text {
    type Data = axum::body::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|text| Ok(http_body::Frame::data(text.into()))))
    }
}

#[derive(Debug, PartialEq)]
struct Broken;

impl Service<axum::http::Request<u8>> for Plain {
    type Response = Response<Text>;
    type Error = Broken;
    type Future = Ready<Result<Response<Text>, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<u8>) -> Self::Future {
        self.0.set(self.0.get() + request.body());
        crate::support::now(request.session()).unwrap().insert("n", self.0.get()).unwrap();
        ready(Ok(Response::new(Text(Some("text")))))
    }
}

#[tokio::test]
async fn bodies_errors_and_services_of_any_kind_will_do() {
    let bed = Bed::new();
    let mut service = SessionLayer::new(bed.sessions.clone()).layer(Plain(std::cell::Cell::new(1)));
    let response: Response<Text> =
        service.ready().await.unwrap().call(axum::http::Request::new(2)).await.unwrap();
    assert_eq!(response.body().0, Some("text"));
    assert_eq!(response.headers()[VARY], "Cookie");
    assert!(response.headers().contains_key(SET_COOKIE));
}

#[test]
fn what_is_sent_is_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let bed = Bed::new();
    shared(&SessionLayer::new(bed.sessions.clone()));
    let app = routes();
    let mut layered = SessionLayer::new(bed.sessions).layer(app);
    shared(&layered);
    drop(send(layered.call(request("/", None))));
    drop(send(request("/", None).session()));
}

/// Where a browser without a session is sent that opens this page.
async fn sent_to(app: &Router, path: &str) -> Option<String> {
    let mut request = request(path, None);
    request.headers_mut().insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
    let response = app.clone().oneshot(request).await.unwrap();
    let redirected = response.status() == StatusCode::SEE_OTHER;
    let location = response.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
    assert_eq!(redirected, location.is_some());
    assert!(redirected || response.status() == StatusCode::OK, "{path}: {}", response.status());
    location
}

fn account() -> Router {
    let page = || get(async || "a page");
    Router::new().route("/", page()).route("/orders", page()).route("/login", page())
}

#[tokio::test]
async fn a_guard_around_a_nested_router_knows_the_way_back() {
    let bed = Bed::new();
    let app = Router::new()
        .nest("/account", account())
        .route_layer(LoginGuard::new("/login").unwrap())
        .merge(account())
        .layer(SessionLayer::new(bed.sessions));
    for path in ["/", "/orders", "/login"] {
        assert_eq!(sent_to(&app, path).await, None, "outside of the guard: {path}");
    }
    for (path, location) in [
        ("/account", "/login?next=%2Faccount"),
        ("/account/orders?page=2", "/login?next=%2Faccount%2Forders%3Fpage%3D2"),
        ("/account/login", "/login?next=%2Faccount%2Flogin"),
    ] {
        assert_eq!(sent_to(&app, path).await.as_deref(), Some(location));
    }
}

/// As the documentation of the guard warns.
#[tokio::test]
async fn a_guard_leaves_the_fallback_of_a_nested_router_out_and_not_what_is_nested_as_a_service() {
    let bed = Bed::new();
    let files = || get(async || "a private file");
    let app = Router::new()
        .nest("/outside", account().fallback_service(files()))
        .nest_service("/inside", files())
        .nest("/around", account().fallback_service(files()).layer(LoginGuard::new("/login").unwrap()))
        .route_layer(LoginGuard::new("/login").unwrap())
        .layer(SessionLayer::new(bed.sessions));
    assert_eq!(sent_to(&app, "/outside/orders").await.as_deref(), Some("/login?next=%2Foutside%2Forders"));
    assert_eq!(sent_to(&app, "/outside/payslip").await, None);
    assert_eq!(sent_to(&app, "/inside/payslip").await.as_deref(), Some("/login?next=%2Finside%2Fpayslip"));
    assert_eq!(sent_to(&app, "/around/payslip").await.as_deref(), Some("/login"));
}

/// It sees `/login` and `/orders`, and neither is what was asked for.
#[tokio::test]
async fn a_guard_inside_of_a_nested_router_gives_no_way_back_and_lets_nobody_pass() {
    let bed = Bed::new();
    let guarded = account().route_layer(LoginGuard::new("/login").unwrap());
    let app = Router::new()
        .nest("/account", guarded.clone())
        .nest_service("/service", guarded)
        .layer(SessionLayer::new(bed.sessions.clone()));
    for path in ["/account", "/account/orders?page=2", "/account/login", "/service/orders", "/service/login"]
    {
        assert_eq!(sent_to(&app, path).await.as_deref(), Some("/login"), "{path}");
    }
    // Who is logged in does not see any of this.
    let mut jar = crate::support::Jar::default();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    for path in ["/account", "/account/orders", "/service/login"] {
        assert_eq!(ask(&app, path, jar.0.as_deref()).await.0.status(), StatusCode::OK);
    }
}

/// One that counts its clones, and is ready when it is called.
#[derive(Debug)]
struct Counted(std::sync::Arc<std::sync::atomic::AtomicUsize>, bool);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Self(self.0.clone(), false)
    }
}

impl Service<Request> for Counted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.1 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.1), "it is called when it is ready");
        ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn the_guard_calls_who_is_ready_and_clones_only_to_wait_for_the_store() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = crate::support::Jar::default();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    let in_cookie = jar.0.clone().unwrap();
    bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    spy.slowly(true);
    let clones = std::sync::Arc::default();
    let inner = Counted(std::sync::Arc::clone(&clones), false);
    let guarded = LoginGuard::new("/login").unwrap().layer(inner);
    let mut app = SessionLayer::new(bed.sessions).layer(guarded);
    for (cookie, expected) in [(&in_cookie, 0), (jar.0.as_ref().unwrap(), 1), (&in_cookie, 0)] {
        let before = clones.load(std::sync::atomic::Ordering::SeqCst);
        let response = app.ready().await.unwrap().call(request("/orders", Some(cookie))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(clones.load(std::sync::atomic::Ordering::SeqCst) - before, expected);
    }
}
