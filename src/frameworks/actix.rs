//! actix-web: the middleware and the extractors. The only file that names the framework.
//!
//! The middleware puts a slot into each request and looks at it again when the response is there. Only an extractor
//! opens the slot, so a request that never asks for the session costs no decoding and gets no header.
//!
//! | what the request did | `Vary: Cookie` | `Set-Cookie` | `Cache-Control: no-store` |
//! |---|---|---|---|
//! | nothing with the session | | | |
//! | asked for it | yes | if it is due | with `Set-Cookie` |
//! | changed it, in its cookie | yes | yes | yes |
//! | asked for it, from another site's page | unless refused | | |
//! | changed it, in the store | yes | if it is due | with `Set-Cookie` |
//!
//! Wrap the application with it last, and thus outermost, so that responses of other middleware are committed too, and
//! the response head is known when a session has to fit into it.
//!
//! Only what needs the store waits: a session in its cookie that needs no query is loaded and committed at once.

#[cfg(feature = "device-binding")]
mod device;
mod errors;
mod extract;
mod guard;

use std::any::TypeId;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready as poll_ready};

use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{CACHE_CONTROL, DATE, HeaderMap, HeaderValue};
use actix_web::{Error, HttpMessage, HttpResponse};
use pin_project_lite::pin_project;

pub use self::extract::{Loading, SessionExt};
use self::extract::{LocalBox, Slot, SlotInner};
pub use self::guard::{LoginGuardFuture, LoginGuardService};
use crate::core::cookie::SetCookies;
use crate::core::cross_site::request_head;
use crate::core::error::CommitError;
use crate::frameworks::current;
use crate::frameworks::extract::scope_name;
pub use crate::frameworks::extract::{Scoped, Site, Subject};
pub use crate::frameworks::login_guard::LoginGuard;
use crate::frameworks::response::{
    Additions, Length, NO_STORE, UNKNOWN_HEAD, head_bytes, headers_of, outlives_failure, vary_by_cookie,
};
use crate::sessions::{CommitContext, Sessions};

headers_of!(actix_web::http::header);
request_head!(actix_web::http);

/// The middleware that gives requests a [`Session`](crate::Session) and commits it with the response, whatever its status.
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
/// Independent sessions live side by side under different cookie names, distinguished by a type:
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
    /// The middleware behind the extractor [`Session`](crate::Session).
    ///
    /// Build the `Sessions` once and move a clone in. If built inside `HttpServer::new(|| ..)`, each worker has its own,
    /// and learns what the others end from the store, within [`Revocation`](crate::Revocation)'s time.
    #[must_use]
    pub fn new(sessions: Sessions) -> Self {
        Self::scoped(sessions)
    }

    /// The middleware behind the extractor [`Scoped<S>`]. `S` is any type of the application; it is only a name. Its
    /// sessions need a [`cookie_name`](crate::SessionsBuilder::cookie_name) of their own: if two scopes of a
    /// process share a cookie and a key, requests for either get a 500, and the log says why.
    #[must_use]
    pub fn scoped<S: 'static>(sessions: Sessions) -> SessionMiddleware<S> {
        sessions.stand_for(TypeId::of::<S>(), scope_name::<S>());
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
    type Response = ServiceResponse<EitherBody<B>>;
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
    /// Counted per worker thread: an atomic counter shared by all requests would be the most expensive part of a request
    /// that does not touch its session.
    sessions: Rc<Sessions>,
    scope: PhantomData<fn() -> S>,
}

impl<N, S> fmt::Debug for SessionService<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionService").field(&self.sessions).finish()
    }
}

impl<N, S, B> Service<ServiceRequest> for SessionService<N, S>
where
    S: 'static,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    N::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = SessionFuture<N::Future, B>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        #[cfg(feature = "device-binding")]
        if self.sessions.answers_devices(request.method().as_str(), request.path()) {
            let answer = device::answer(&self.sessions, request);
            return SessionFuture { inner: None, slot: None, waiting: Waiting::Answer(answer) };
        }
        let outer =
            request.extensions().get::<Slot<S>>().map(|slot| slot.inner.sessions.is_same(&self.sessions));
        let slot = match outer {
            None => {
                let inner = Rc::new(SlotInner::new(Rc::clone(&self.sessions)));
                request.extensions_mut().insert(Slot::<S> { inner: Rc::clone(&inner), scope: PhantomData });
                Some(inner)
            }
            Some(same) => {
                if !same {
                    tracing::error!(
                        target: "sealed_session",
                        scope = scope_name::<S>(),
                        "two different `Sessions` are wrapped under one scope, and the inner one is ignored; \
                         use `SessionMiddleware::scoped` for one of them"
                    );
                }
                None
            }
        };
        SessionFuture { inner: Some(self.inner.call(request)), slot, waiting: Waiting::Service }
    }
}

pin_project! {
    /// Waits for the inner service, then commits the session if the request asked for it.
    pub struct SessionFuture<F, B> {
        #[pin]
        inner: Option<F>,
        slot: Option<Rc<SlotInner>>,
        waiting: Waiting<B>,
    }
}

/// What a request waits for.
enum Waiting<B> {
    /// The application.
    Service,
    /// The store.
    Commit(Box<Committing<B>>),
    /// Not the application: the middleware answers by itself.
    #[cfg(feature = "device-binding")]
    Answer(LocalBox<Result<ServiceResponse<EitherBody<B>>, Error>>),
}

/// A response whose session is being written into the store.
struct Committing<B> {
    commit: LocalBox<Result<SetCookies, CommitError>>,
    response: Option<Result<ServiceResponse<B>, Error>>,
    slot: Rc<SlotInner>,
    /// Whether the request came over HTTPS, as far as that matters.
    secure: bool,
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
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let loaded = this.slot.as_ref().and_then(|slot| slot.loaded.get());
        let _turn = current::turn(loaded.map(|loaded| &loaded.session));
        let committing = match this.waiting {
            Waiting::Commit(committing) => committing,
            #[cfg(feature = "device-binding")]
            Waiting::Answer(answer) => return answer.as_mut().poll(context),
            Waiting::Service => {
                let Some(inner) = this.inner.as_pin_mut() else {
                    unreachable!("the service is asked by `call`")
                };
                let response = poll_ready!(inner.poll(context));
                let Some(slot) = this.slot.take() else { return Poll::Ready(unchanged(response)) };
                let Some(loaded) = slot.loaded.get() else {
                    slot.answered.set(true);
                    return Poll::Ready(unchanged(without_session(&slot, response)));
                };
                let counted = slot.sessions.counts_response_head();
                let flash = slot.flash.get().map_or(0, |flash| flash.head_bytes(loaded.secure));
                let response_head_bytes = flash
                    + match &response {
                        Ok(response) if counted => head_of(response),
                        Ok(_) => 0,
                        Err(_) => UNKNOWN_HEAD,
                    };
                let commit = CommitContext { response_head_bytes, secure: loaded.secure };
                if let Some(outcome) = slot.sessions.try_conclude(&loaded.session, commit) {
                    return Poll::Ready(finish(&slot, loaded.secure, response, outcome));
                }
                let secure = loaded.secure;
                let (sessions, session) = (Sessions::clone(&slot.sessions), loaded.session.clone());
                let commit = Box::pin(async move { sessions.conclude(&session, commit).await });
                *this.waiting =
                    Waiting::Commit(Box::new(Committing { commit, response: Some(response), slot, secure }));
                let Waiting::Commit(committing) = this.waiting else { unreachable!("it was just set") };
                committing
            }
        };
        let outcome = poll_ready!(committing.commit.as_mut().poll(context));
        let response = committing.response.take().expect("a future is not polled after it was ready");
        Poll::Ready(finish(&committing.slot, committing.secure, response, outcome))
    }
}

fn unchanged<B>(
    response: Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    response.map(ServiceResponse::map_into_left_body)
}

/// What a handler made of it that the store did not give the session depends on the cookie as well.
fn without_session<B>(
    slot: &SlotInner,
    mut response: Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<B>, Error> {
    if let Ok(response) = &mut response
        && slot.asked.get()
        && slot.sessions.cache_headers()
    {
        vary_by_cookie(response.headers_mut());
    }
    response
}

/// The response with what the session adds to it.
fn finish<B>(
    slot: &SlotInner,
    secure: bool,
    mut response: Result<ServiceResponse<B>, Error>,
    outcome: Result<SetCookies, CommitError>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let additions = match outcome {
        Ok(lines) => {
            let flash = slot.flash.get().and_then(|flash| flash.conclude(secure, lines.lost));
            Additions::new::<HeaderMap>(&slot.sessions, lines, flash)
        }
        Err(error) => {
            slot.loaded.get().inspect(|loaded| current::fails(&loaded.session));
            return replace(response, error);
        }
    };
    match &mut response {
        Ok(response) => additions.attach(response.headers_mut()),
        Err(error) => error.add_response_mapper(move |mut response| {
            additions.clone().attach(response.headers_mut());
            response
        }),
    }
    unchanged(response)
}

/// Replaces a response whose session could not be saved. The result is a response, no error, so that middleware around
/// this one, such as CORS, treats it as one; unless there was none, but an error.
fn replace<B>(
    outcome: Result<ServiceResponse<B>, Error>,
    error: CommitError,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match outcome {
        Ok(response) => {
            let mut failure = HttpResponse::from_error(error);
            outlive(response.headers(), failure.headers_mut());
            Ok(response.into_response(failure).map_into_right_body())
        }
        Err(before) => {
            let before = before.error_response();
            let mut failure = Error::from(error);
            failure.add_response_mapper(move |mut response| {
                outlive(before.headers(), response.headers_mut());
                response
            });
            Err(failure)
        }
    }
}

/// Copies what stays of the response before.
fn outlive(before: &HeaderMap, after: &mut HeaderMap) {
    for (name, value) in before {
        if outlives_failure(name.as_str()) {
            after.append(name.clone(), value.clone());
        }
    }
    after.insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
}

/// The size of a response's head.
fn head_of<B: MessageBody>(response: &ServiceResponse<B>) -> usize {
    let (head, headers) = (response.response().head(), response.headers());
    let body = match response.response().body().size() {
        BodySize::None => Length::Said,
        BodySize::Sized(bytes) => Length::Known(bytes),
        BodySize::Stream => Length::Unknown,
    };
    let lines = headers.iter().map(|(name, value)| (name.as_str().len(), value.len()));
    head_bytes(head.reason(), body, headers.contains_key(DATE), lines)
}
