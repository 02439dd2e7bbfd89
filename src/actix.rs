//! actix-web: the middleware and the extractors. The only file that names the framework.
//!
//! The middleware puts a slot into each request and looks at it again when the response is there. Only an extractor
//! opens the slot, so a request that never asks for the session costs no decoding and gets no header.
//!
//! | what the request did | `Vary: Cookie` | `Set-Cookie` | `Cache-Control: no-store` |
//! |---|---|---|---|
//! | nothing with the session | | | |
//! | asked for it | yes | if it is due | with `Set-Cookie` |
//! | changed it | yes | yes | yes |
//!
//! Wrap the application with it last, and thus outermost, so that responses of other middleware are committed too.

mod headers;

use std::any::type_name;
use std::cell::OnceCell;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready as poll_ready};

use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::http::header::{COOKIE, HeaderValue, RETRY_AFTER, SET_COOKIE};
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use pin_project_lite::pin_project;

use self::headers::Additions;
use crate::cookie::Secure;
use crate::error::{CommitError, InsertError, StoreError, ValueError};
use crate::session::Session;
use crate::sessions::{CommitContext, Sessions};

/// The scope of a session that was not given one.
#[derive(Debug)]
pub enum Site {}

/// The middleware that gives requests a [`Session`] and commits it with the response, whatever its status.
///
/// ```
/// use actix_web::{App, web};
/// use sealed_session::{Key, KeyRing, Session, SessionMiddleware, Sessions};
///
/// async fn index(session: Session) -> actix_web::Result<String> {
///     Ok(format!("visit {}", session.increment("visits", 1)?))
/// }
///
/// let sessions = Sessions::builder(KeyRing::new(Key::generate())).build()?;
/// let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(index));
/// # Ok::<(), sealed_session::ConfigError>(())
/// ```
///
/// Independent sessions live side by side under different cookie names, told apart by a type:
///
/// ```
/// use actix_web::{App, web};
/// use sealed_session::{Key, KeyRing, Scoped, Session, SessionMiddleware, Sessions};
///
/// struct Admin;
///
/// async fn index(site: Session, admin: Scoped<Admin>) -> String {
///     format!("{} and {} entries", site.len(), admin.len())
/// }
///
/// let keys = KeyRing::new(Key::generate());
/// let site = Sessions::builder(keys.clone()).build()?;
/// let admin = Sessions::builder(keys).cookie_name("__Host-Http-admin").build()?;
/// let app = App::new()
///     .wrap(SessionMiddleware::new(site))
///     .wrap(SessionMiddleware::scoped::<Admin>(admin))
///     .route("/", web::get().to(index));
/// # Ok::<(), sealed_session::ConfigError>(())
/// ```
pub struct SessionMiddleware<S = Site> {
    sessions: Sessions,
    scope: PhantomData<fn() -> S>,
}

impl SessionMiddleware {
    /// The middleware behind the extractor [`Session`].
    #[must_use]
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions, scope: PhantomData }
    }

    /// The middleware behind the extractor [`Scoped<S>`]. `S` is any type of the application; it is only a name.
    #[must_use]
    pub fn scoped<S: 'static>(sessions: Sessions) -> SessionMiddleware<S> {
        SessionMiddleware { sessions, scope: PhantomData }
    }
}

impl<S> Clone for SessionMiddleware<S> {
    fn clone(&self) -> Self {
        Self { sessions: self.sessions.clone(), scope: PhantomData }
    }
}

impl<S> fmt::Debug for SessionMiddleware<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionMiddleware").field(&self.sessions).finish()
    }
}

impl<S, N, B> Transform<N, ServiceRequest> for SessionMiddleware<S>
where
    S: 'static,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    N::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = SessionService<N, S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: N) -> Self::Future {
        ready(Ok(SessionService { inner, sessions: Rc::new(self.sessions.clone()), scope: PhantomData }))
    }
}

/// What the middleware wraps a service into.
pub struct SessionService<N, S> {
    inner: N,
    /// Counted per worker thread: an atomic counter that all requests share would be the dearest part of a request
    /// that does not touch its session.
    sessions: Rc<Sessions>,
    scope: PhantomData<fn() -> S>,
}

impl<N, S> fmt::Debug for SessionService<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionService").field(&self.sessions).finish()
    }
}

/// The place of a scope's session in a request's extensions, found by its type.
struct Slot<S> {
    inner: Rc<SlotInner>,
    scope: PhantomData<fn() -> S>,
}

struct SlotInner {
    sessions: Rc<Sessions>,
    loaded: OnceCell<Loaded>,
}

struct Loaded {
    session: Session,
    /// Whether the request came over HTTPS, as far as that matters.
    secure: bool,
}

impl SlotInner {
    /// The request's session, loaded by the first who asks.
    fn session(&self, request: &HttpRequest) -> Session {
        let load = || Loaded {
            session: self.sessions.open(request.headers().get_all(COOKIE).map(HeaderValue::as_bytes)),
            secure: self.sessions.secure() == Secure::Auto && request.connection_info().scheme() == "https",
        };
        self.loaded.get_or_init(load).session.clone()
    }
}

impl<N, S, B> Service<ServiceRequest> for SessionService<N, S>
where
    S: 'static,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    N::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = SessionFuture<N::Future>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let outer =
            request.extensions().get::<Slot<S>>().map(|slot| slot.inner.sessions.is_same(&self.sessions));
        let slot = match outer {
            None => {
                let inner =
                    Rc::new(SlotInner { sessions: Rc::clone(&self.sessions), loaded: OnceCell::new() });
                request.extensions_mut().insert(Slot::<S> { inner: Rc::clone(&inner), scope: PhantomData });
                Some(inner)
            }
            Some(same) => {
                if !same {
                    tracing::error!(
                        target: "sealed_session",
                        scope = type_name::<S>(),
                        "two different `Sessions` are wrapped under one scope, and the inner one is ignored; \
                         use `SessionMiddleware::scoped` for one of them"
                    );
                }
                None
            }
        };
        SessionFuture { inner: self.inner.call(request), slot }
    }
}

pin_project! {
    /// Waits for the inner service, then commits the session if the request asked for it.
    pub struct SessionFuture<F> {
        #[pin]
        inner: F,
        slot: Option<Rc<SlotInner>>,
    }
}

impl<F> fmt::Debug for SessionFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

impl<F, B> Future for SessionFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<B>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut outcome = poll_ready!(this.inner.poll(context));
        let Some(slot) = this.slot.take() else { return Poll::Ready(outcome) };
        let Some(loaded) = slot.loaded.get() else { return Poll::Ready(outcome) };

        let context = CommitContext { response_head_bytes: 0, secure: loaded.secure };
        let additions = match slot.sessions.close(&loaded.session, context) {
            Ok(line) => Additions::new(&slot.sessions, line),
            Err(error) => return Poll::Ready(Err(replace(outcome, error))),
        };
        match &mut outcome {
            Ok(response) => additions.attach(response.headers_mut()),
            Err(error) => error.add_response_mapper(move |mut response| {
                additions.attach(response.headers_mut());
                response
            }),
        }
        Poll::Ready(outcome)
    }
}

/// The error that takes the place of a response whose session could not be saved. Cookies that other scopes have set
/// stay with it.
fn replace<B>(outcome: Result<ServiceResponse<B>, Error>, error: CommitError) -> Error {
    let mut replacement = Error::from(error);
    if let Ok(response) = outcome {
        let kept: Vec<HeaderValue> = response.headers().get_all(SET_COOKIE).cloned().collect();
        replacement.add_response_mapper(move |mut response| {
            kept.iter().for_each(|line| response.headers_mut().append(SET_COOKIE, line.clone()));
            response
        });
    }
    replacement
}

/// The extractor of an independent session: that of [`SessionMiddleware::scoped`] with the same type. Derefs to
/// [`Session`].
pub struct Scoped<S> {
    session: Session,
    scope: PhantomData<fn() -> S>,
}

impl<S> Scoped<S> {
    /// The session itself.
    #[must_use]
    pub fn into_inner(self) -> Session {
        self.session
    }
}

impl<S> Clone for Scoped<S> {
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), scope: PhantomData }
    }
}

impl<S> Deref for Scoped<S> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<S> fmt::Debug for Scoped<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scoped<{}>({:?})", type_name::<S>(), self.session)
    }
}

impl FromRequest for Session {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(load::<Site>(request))
    }
}

impl<S: 'static> FromRequest for Scoped<S> {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(load::<S>(request).map(|session| Self { session, scope: PhantomData }))
    }
}

/// The session of a request, where there is no extractor: in middleware and in guards.
///
/// ```
/// use actix_web::{Error, HttpRequest};
/// use sealed_session::SessionExt;
///
/// async fn is_logged_in(request: HttpRequest) -> Result<bool, Error> {
///     Ok(request.session().await?.subject().is_some())
/// }
/// ```
pub trait SessionExt {
    /// The session of [`SessionMiddleware::new`], loaded now if it is not yet.
    ///
    /// # Errors
    /// Without the middleware: an error that answers 500 and names the mistake in the log.
    fn session(&self) -> impl Future<Output = Result<Session, Error>> {
        self.scoped_session::<Site>()
    }

    /// The session of [`SessionMiddleware::scoped`], loaded now if it is not yet.
    ///
    /// # Errors
    /// Like [`session`](Self::session).
    fn scoped_session<S: 'static>(&self) -> impl Future<Output = Result<Session, Error>>;

    /// The session of [`SessionMiddleware::new`], if this request has loaded it already.
    fn try_session(&self) -> Option<Session> {
        self.try_scoped_session::<Site>()
    }

    /// The session of [`SessionMiddleware::scoped`], if this request has loaded it already.
    fn try_scoped_session<S: 'static>(&self) -> Option<Session>;
}

impl SessionExt for HttpRequest {
    fn scoped_session<S: 'static>(&self) -> impl Future<Output = Result<Session, Error>> {
        ready(load::<S>(self))
    }

    fn try_scoped_session<S: 'static>(&self) -> Option<Session> {
        self.extensions().get::<Slot<S>>()?.inner.loaded.get().map(|loaded| loaded.session.clone())
    }
}

impl SessionExt for ServiceRequest {
    fn scoped_session<S: 'static>(&self) -> impl Future<Output = Result<Session, Error>> {
        self.request().scoped_session::<S>()
    }

    fn try_scoped_session<S: 'static>(&self) -> Option<Session> {
        self.request().try_scoped_session::<S>()
    }
}

fn load<S: 'static>(request: &HttpRequest) -> Result<Session, Error> {
    let slot = request.extensions().get::<Slot<S>>().map(|slot| Rc::clone(&slot.inner));
    slot.map(|slot| slot.session(request)).ok_or_else(|| NotWrapped { scope: type_name::<S>() }.into())
}

/// A handler asks for a session that no middleware provides.
#[derive(Debug, thiserror::Error)]
#[error(
    "a handler asks for the session of scope `{scope}`, but no `SessionMiddleware` provides it; \
     add `.wrap(SessionMiddleware::new(sessions))`, or `SessionMiddleware::scoped` for `Scoped`, to the `App`"
)]
struct NotWrapped {
    scope: &'static str,
}

impl ResponseError for NotWrapped {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl ResponseError for StoreError {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl ResponseError for CommitError {
    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Store(error) => error.error_response(),
            Self::Foreign => failure(self, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl ResponseError for InsertError {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl ResponseError for ValueError {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// An answer with an empty body: what went wrong is told in the log alone.
fn failure(error: &dyn std::error::Error, status: StatusCode) -> HttpResponse {
    let source = error.source().map(tracing::field::display);
    tracing::error!(target: "sealed_session", %error, source, "session failure answered with {}", status.as_u16());
    let mut response = HttpResponse::new(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
