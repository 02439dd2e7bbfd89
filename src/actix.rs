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
//! Wrap the application with it last, and thus outermost, so that responses of other middleware are committed too, and
//! the response head is known when a session is to fit it.
//!
//! Nothing waits but what needs the store: a session that is in its cookie is loaded and committed at once.

mod headers;

use std::any::type_name;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready as poll_ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, COOKIE, HeaderValue, RETRY_AFTER, SET_COOKIE};
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use pin_project_lite::pin_project;
use tokio::sync::OnceCell;

use self::headers::{Additions, UNKNOWN_HEAD, head_bytes};
use crate::cookie::Secure;
use crate::error::{CommitError, InsertError, StoreError, ValueError};
use crate::session::Session;
use crate::sessions::{CommitContext, Opening, Sessions};

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
    B: MessageBody + 'static,
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

#[derive(Clone)]
struct Loaded {
    session: Session,
    /// Whether the request came over HTTPS, as far as that matters.
    secure: bool,
}

impl SlotInner {
    /// The request's session, loaded by the first who asks. Others who ask meanwhile wait for the same.
    fn session(self: Rc<Self>, request: &HttpRequest) -> Loading<Session> {
        if let Some(loaded) = self.loaded.get() {
            return Loading::ready(Ok(loaded.session.clone()));
        }
        let cookies = request.headers().get_all(COOKIE).map(HeaderValue::as_bytes);
        let opening = self.sessions.open(cookies);
        let secure = self.sessions.secure() == Secure::Auto && request.connection_info().scheme() == "https";
        match opening {
            Opening::Ready(session) => {
                // The same cookies are there for all who ask, so nobody waits for the store meanwhile.
                let _ = self.loaded.set(Loaded { session: session.clone(), secure });
                Loading::ready(Ok(session))
            }
            Opening::Referenced(reference) => Loading::Stored(Box::pin(async move {
                let fetch = async || {
                    let session = self.sessions.fetch(*reference).await?;
                    Ok::<_, StoreError>(Loaded { session, secure })
                };
                Ok(self.loaded.get_or_try_init(fetch).await?.session.clone())
            })),
        }
    }
}

type LocalBox<T> = Pin<Box<dyn Future<Output = T>>>;

/// The future of the extractors: most sessions are there at once.
pub enum Loading<T> {
    #[doc(hidden)]
    Ready(Ready<Result<T, Error>>),
    #[doc(hidden)]
    Stored(LocalBox<Result<T, Error>>),
}

impl<T> Loading<T> {
    fn ready(outcome: Result<T, Error>) -> Self {
        Self::Ready(ready(outcome))
    }

    fn map<U: 'static>(self, f: impl FnOnce(T) -> U + 'static) -> Loading<U>
    where
        T: 'static,
    {
        match self {
            Self::Ready(outcome) => Loading::ready(outcome.into_inner().map(f)),
            Self::Stored(future) => Loading::Stored(Box::pin(async move { future.await.map(f) })),
        }
    }
}

impl<T: Unpin> Future for Loading<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(future) => Pin::new(future).poll(context),
            Self::Stored(future) => future.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for Loading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").finish_non_exhaustive()
    }
}

impl<N, S, B> Service<ServiceRequest> for SessionService<N, S>
where
    S: 'static,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    N::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = SessionFuture<N::Future, B>;

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
        SessionFuture { inner: self.inner.call(request), slot, committing: None }
    }
}

pin_project! {
    /// Waits for the inner service, then commits the session if the request asked for it.
    pub struct SessionFuture<F, B> {
        #[pin]
        inner: F,
        slot: Option<Rc<SlotInner>>,
        committing: Option<Box<Committing<B>>>,
    }
}

/// A response whose session is being written into the store.
struct Committing<B> {
    commit: LocalBox<Result<Option<String>, CommitError>>,
    response: Option<Result<ServiceResponse<B>, Error>>,
    slot: Rc<SlotInner>,
}

impl<F, B> fmt::Debug for SessionFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

impl<F, B> Future for SessionFuture<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<B>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let committing = match this.committing {
            Some(committing) => committing,
            None => {
                let response = poll_ready!(this.inner.poll(context));
                let Some(slot) = this.slot.take() else { return Poll::Ready(response) };
                let Some(loaded) = slot.loaded.get().cloned() else { return Poll::Ready(response) };
                let counted = slot.sessions.counts_response_head();
                let response_head_bytes = match &response {
                    Ok(response) if counted => head_bytes(response),
                    Err(_) if counted => UNKNOWN_HEAD,
                    _ => 0,
                };
                let commit = CommitContext { response_head_bytes, secure: loaded.secure };
                if let Some(outcome) = slot.sessions.try_commit(&loaded.session, commit) {
                    return Poll::Ready(finish(&slot.sessions, response, outcome));
                }
                let sessions = Sessions::clone(&slot.sessions);
                let commit = Box::pin(async move { sessions.commit(&loaded.session, commit).await });
                this.committing.insert(Box::new(Committing { commit, response: Some(response), slot }))
            }
        };
        let outcome = poll_ready!(committing.commit.as_mut().poll(context));
        let response = committing.response.take().expect("a future is not polled after it was ready");
        Poll::Ready(finish(&committing.slot.sessions, response, outcome))
    }
}

/// The response with what the session adds to it.
fn finish<B>(
    sessions: &Sessions,
    mut response: Result<ServiceResponse<B>, Error>,
    outcome: Result<Option<String>, CommitError>,
) -> Result<ServiceResponse<B>, Error> {
    let additions = match outcome {
        Ok(line) => Additions::new(sessions, line),
        Err(error) => return Err(replace(response, error)),
    };
    match &mut response {
        Ok(response) => additions.attach(response.headers_mut()),
        Err(error) => error.add_response_mapper(move |mut response| {
            additions.attach(response.headers_mut());
            response
        }),
    }
    response
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
    type Future = Loading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        load::<Site>(request)
    }
}

impl<S: 'static> FromRequest for Scoped<S> {
    type Error = Error;
    type Future = Loading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        load::<S>(request).map(|session| Self { session, scope: PhantomData })
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
    /// [`StoreError`] if it is in a store that fails, which answers 503. Without the middleware: an error that answers
    /// 500 and names the mistake in the log.
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
        load::<S>(self)
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

fn load<S: 'static>(request: &HttpRequest) -> Loading<Session> {
    let slot = request.extensions().get::<Slot<S>>().map(|slot| Rc::clone(&slot.inner));
    match slot {
        Some(slot) => slot.session(request),
        None => Loading::ready(Err(NotWrapped { scope: type_name::<S>() }.into())),
    }
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
        let status = match self {
            Self::Store(_) | Self::NotEnded { .. } | Self::Conflict | Self::Ended => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Foreign => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = failure(self, status);
        if let Self::NotEnded { set_cookie: Some(line), .. } = self {
            let line = HeaderValue::try_from(line).expect("the writer emits visible ASCII only");
            response.headers_mut().append(SET_COOKIE, line);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
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
