//! tower: the layer that gives requests a session, for axum, tonic and every other service over `http::Request`.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use sealed_session::{InsertError, Key, KeyRing, Session, SessionLayer, Sessions};
//!
//! async fn index(session: Session) -> Result<String, InsertError> {
//!     Ok(format!("visit {}", session.increment("visits", 1)?))
//! }
//!
//! let sessions = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
//! let app: Router = Router::new().route("/", get(index)).layer(SessionLayer::new(sessions));
//! # }
//! ```
//!
//! The layer puts a slot into each request and looks at it again when the response is there. Only what asks for the
//! session opens the slot: an extractor, or [`SessionExt`] in middleware. So a request that never asks for it costs no
//! decoding and gets no header.
//!
//! | what the request did | `Vary: Cookie` | `Set-Cookie` | `Cache-Control: no-store` |
//! |---|---|---|---|
//! | nothing with the session | | | |
//! | asked for it | yes | if it is due | with `Set-Cookie` |
//! | changed it, in its cookie | yes | yes | yes |
//! | asked for it, from another site's page | unless refused | | |
//! | changed it, in the store | yes | if it is due | with `Set-Cookie` |
//!
//! A session is committed with every response, whatever its status. An *error* of the service is not a response, so it
//! passes through, and the session stays as it was.
//!
//! # The order of layers
//!
//! The session belongs inside everything that makes a response of its own, and outside everything that asks for it.
//! [`ServiceBuilder`] names the outermost layer first; of several calls of `Router::layer` the last is the outermost.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! # use sealed_session::{Key, KeyRing, SessionLayer, Sessions};
//! # let sessions = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
//! use std::time::Duration;
//!
//! use axum::Router;
//! use axum::http::StatusCode;
//! use tower::ServiceBuilder;
//! use tower_http::catch_panic::CatchPanicLayer;
//! use tower_http::compression::CompressionLayer;
//! use tower_http::cors::CorsLayer;
//! use tower_http::timeout::TimeoutLayer;
//! use tower_http::trace::TraceLayer;
//!
//! let app: Router = Router::new().layer(
//!     ServiceBuilder::new()
//!         .layer(TraceLayer::new_for_http())
//!         .layer(CatchPanicLayer::new())
//!         .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)))
//!         .layer(CorsLayer::new())
//!         .layer(CompressionLayer::new())
//!         .layer(SessionLayer::new(sessions)), // and then what asks for the session, such as a guard of routes
//! );
//! # }
//! ```
//!
//! | layer | where | because |
//! |---|---|---|
//! | `Trace` | outermost | what the log says about a session is in the request's span, and the status is the one that was sent, including a failed commit's 503 |
//! | `CatchPanic` | outside | a handler that panics saves nothing; inside, its changes until then would be saved with the 500 |
//! | `Timeout` | outside | likewise, and the time includes the store's; give it more than [`store_timeout`](crate::SessionsBuilder::store_timeout). If it strikes while a session is being saved, it is unknown whether it was |
//! | `Cors` | outside | preflights do not reach the session; inside works as well, because a failed commit keeps its headers |
//! | `Compression` | outside | it sees the final headers, and what it adds to `Vary` is kept |
//! | what asks for the session: [`LoginGuard`], `from_fn`, handlers | inside | without the layer around it there is a 500 instead of a session |
//!
//! With a store the response head must not become too large for a proxy, and what outer layers add is not counted: set
//! [`response_head_reserve`](crate::SessionsBuilder::response_head_reserve) to how much that is. `HandleErrorLayer` goes
//! inside, or outside of everything: inside, it turns an error into a response, with which the session is committed.
//!
//! `Router::layer` covers the routes added so far and the fallback; `route_layer` leaves the fallback out. A nested
//! router has the sessions of the router that it is nested into; put the layer there, around all of them, because inside it
//! sees paths without their beginning, and so do [`LoginGuard`](crate::LoginGuard) and `device_binding` then.
//!
//! # Server functions
//!
//! Those of leptos and dioxus run on axum and extract a [`Session`](crate::Session) as handlers do: with
//! `leptos_axum::extract().await`, and with `#[post("/api/add", session: Session)]`. The repository's
//! `examples/server_functions` has one of each; the layer goes around the router that they are registered with.
//!
//! [`ServiceBuilder`]: https://docs.rs/tower/latest/tower/struct.ServiceBuilder.html

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "device-binding")]
mod device;
mod extract;
mod guard;
mod rejection;

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::extract::{BoxFuture, Slot, SlotInner};
pub use self::extract::{Loading, SessionExt};
pub use self::guard::{LoginGuardFuture, LoginGuardService};
pub use self::rejection::SessionRejection;
use crate::core::cookie::SetCookies;
use crate::core::cross_site::request_head;
use crate::core::error::CommitError;
use crate::frameworks::current;
use crate::frameworks::extract::scope_name;
pub use crate::frameworks::extract::{Scoped, Site, Subject};
pub use crate::frameworks::login_guard::LoginGuard;
use crate::frameworks::response::{
    Additions, Failure, Length, NO_STORE, fail, failure_of, head_bytes, headers_of, outlives_failure,
    remove_cookie, vary_by_cookie,
};
use crate::sessions::{CommitContext, Sessions};

headers_of!(http::header);
request_head!(http);

/// The layer that gives requests a [`Session`](crate::Session) and commits it with the response, whatever its status. See
/// the [module](self) for its place among others.
///
/// Independent sessions live side by side under different cookie names, distinguished by a type:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use sealed_session::{Key, KeyRing, Scoped, Session, SessionLayer, Sessions};
///
/// struct Admin;
///
/// async fn index(site: Session, admin: Scoped<Admin>) -> String {
///     format!("{} and {} entries", site.len(), admin.len())
/// }
///
/// let keys = KeyRing::new(Key::generate());
/// let site = Sessions::builder(keys.clone()).build().unwrap();
/// let admin = Sessions::builder(keys).cookie_name("__Host-Http-admin").build().unwrap();
/// let app: Router = Router::new()
///     .route("/", get(index))
///     .layer(SessionLayer::new(site))
///     .layer(SessionLayer::scoped::<Admin>(admin));
/// # }
/// ```
pub struct SessionLayer<S = Site> {
    sessions: Sessions,
    #[cfg(feature = "device-binding")]
    bodies: device::Bodies,
    scope: PhantomData<fn() -> S>,
}

impl SessionLayer {
    /// The layer behind the extractor [`Session`](crate::Session).
    #[must_use]
    pub fn new(sessions: Sessions) -> Self {
        Self::scoped(sessions)
    }

    /// The layer behind the extractor [`Scoped<S>`]. `S` is any type of the application; it is only a name. Its sessions
    /// need a [`cookie_name`](crate::SessionsBuilder::cookie_name) of their own: if two scopes of a
    /// process share a cookie and a key, requests for either get a 500, and the log says why.
    #[must_use]
    pub fn scoped<S: 'static>(sessions: Sessions) -> SessionLayer<S> {
        sessions.stand_for(TypeId::of::<S>(), scope_name::<S>());
        SessionLayer {
            sessions,
            #[cfg(feature = "device-binding")]
            bodies: device::Bodies::default(),
            scope: PhantomData,
        }
    }
}

#[cfg(feature = "device-binding")]
impl<S> SessionLayer<S> {
    /// How to make a response body from JSON, if the layer is around a service whose bodies are not axum's and [sessions
    /// are bound to devices](crate::SessionsBuilder::device_binding). Without it browsers get a 500 there, and the log
    /// says so.
    #[must_use]
    pub fn device_body<B: 'static>(mut self, make: fn(Vec<u8>) -> B) -> Self {
        self.bodies = device::Bodies::of(make);
        self
    }
}

impl<S> Clone for SessionLayer<S> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
            #[cfg(feature = "device-binding")]
            bodies: self.bodies.clone(),
            scope: PhantomData,
        }
    }
}

impl<S> fmt::Debug for SessionLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionLayer").field(&self.sessions).finish()
    }
}

impl<N, S> Layer<N> for SessionLayer<S> {
    type Service = SessionService<N, S>;

    fn layer(&self, inner: N) -> Self::Service {
        SessionService {
            inner,
            sessions: self.sessions.clone(),
            #[cfg(feature = "device-binding")]
            bodies: self.bodies.clone(),
            scope: PhantomData,
        }
    }
}

/// What the layer wraps a service into.
pub struct SessionService<N, S = Site> {
    inner: N,
    sessions: Sessions,
    #[cfg(feature = "device-binding")]
    bodies: device::Bodies,
    scope: PhantomData<fn() -> S>,
}

impl<N: Clone, S> Clone for SessionService<N, S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            sessions: self.sessions.clone(),
            #[cfg(feature = "device-binding")]
            bodies: self.bodies.clone(),
            scope: PhantomData,
        }
    }
}

impl<N, S> fmt::Debug for SessionService<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionService").field(&self.sessions).finish()
    }
}

impl<N, S, Req, Res> Service<Request<Req>> for SessionService<N, S>
where
    S: 'static,
    N: Service<Request<Req>, Response = Response<Res>>,
    Res: Body + Default + 'static,
{
    type Response = Response<Res>;
    type Error = N::Error;
    type Future = SessionFuture<N::Future, Res>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), N::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Req>) -> Self::Future {
        #[cfg(feature = "device-binding")]
        if self.sessions.answers_devices(request.method().as_str(), request.uri().path()) {
            let answer = device::answer(&self.sessions, request.headers(), self.bodies.clone());
            return SessionFuture { inner: None, slot: None, waiting: Waiting::Answer(answer) };
        }
        let outer = request.extensions().get::<Slot<S>>().map(|slot| slot.is_of(&self.sessions));
        let slot = match outer {
            None => {
                let path_bytes = request.uri().path().len();
                let inner = Arc::new(SlotInner::new(self.sessions.clone(), path_bytes));
                request.extensions_mut().insert(Slot::<S>::new(Arc::clone(&inner)));
                Some(inner)
            }
            Some(same) => {
                if !same {
                    tracing::error!(
                        target: "sealed_session",
                        scope = scope_name::<S>(),
                        "two different `Sessions` are layered under one scope, and the inner one is ignored; \
                         use `SessionLayer::scoped` for one of them"
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
        slot: Option<Arc<SlotInner>>,
        waiting: Waiting<B>,
    }
}

/// What a request waits for.
enum Waiting<B> {
    /// The application.
    Service,
    /// The store.
    Commit(Box<Committing<B>>),
    /// Not the application: the layer answers by itself.
    #[cfg(feature = "device-binding")]
    Answer(BoxFuture<Response<B>>),
}

/// A response whose session is being written into the store.
struct Committing<B> {
    commit: BoxFuture<Result<SetCookies, CommitError>>,
    response: Option<Response<B>>,
    slot: Arc<SlotInner>,
    /// Whether the request came over HTTPS, as far as that matters.
    secure: bool,
}

impl<F, B> fmt::Debug for SessionFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for SessionFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let loaded = this.slot.as_ref().and_then(|slot| slot.loaded.get());
        let _turn = current::turn(loaded.map(|loaded| &loaded.session));
        let committing = match this.waiting {
            Waiting::Commit(committing) => committing,
            #[cfg(feature = "device-binding")]
            Waiting::Answer(answer) => return answer.as_mut().poll(context).map(Ok),
            Waiting::Service => {
                let Some(inner) = this.inner.as_pin_mut() else {
                    unreachable!("the service is asked by `call`")
                };
                let mut response = ready!(inner.poll(context))?;
                let Some(slot) = this.slot.take() else { return Poll::Ready(Ok(response)) };
                let mut loaded = slot.loaded.get();
                if loaded.is_none() {
                    // Another thread may be about to load it.
                    slot.answered.swap(true, Ordering::SeqCst);
                    loaded = slot.loaded.get();
                }
                let Some(loaded) = loaded else {
                    // What was made of it that the store did not give the session depends on the cookie as well.
                    if slot.asked.load(Ordering::Relaxed) && slot.sessions.cache_headers() {
                        vary_by_cookie(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response));
                };
                let counted = slot.sessions.counts_response_head();
                let flash = slot.flash.get().map_or(0, |flash| flash.head_bytes(loaded.secure));
                let response_head_bytes = if counted { head_of(&response) + flash } else { 0 };
                let commit = CommitContext { response_head_bytes, secure: loaded.secure };
                if let Some(outcome) = slot.sessions.try_conclude(&loaded.session, commit) {
                    return Poll::Ready(Ok(finish(&slot, loaded.secure, response, outcome)));
                }
                let secure = loaded.secure;
                let (sessions, session) = (slot.sessions.clone(), loaded.session.clone());
                let commit = Box::pin(async move { sessions.conclude(&session, commit).await });
                *this.waiting =
                    Waiting::Commit(Box::new(Committing { commit, response: Some(response), slot, secure }));
                let Waiting::Commit(committing) = this.waiting else { unreachable!("it was just set") };
                committing
            }
        };
        let outcome = ready!(committing.commit.as_mut().poll(context));
        let response = committing.response.take().expect("a future is not polled after it was ready");
        Poll::Ready(Ok(finish(&committing.slot, committing.secure, response, outcome)))
    }
}

/// The response with what the session adds to it, or what takes its place.
fn finish<B: Default>(
    slot: &SlotInner,
    secure: bool,
    mut response: Response<B>,
    outcome: Result<SetCookies, CommitError>,
) -> Response<B> {
    match outcome {
        Ok(lines) => {
            let flash = slot.flash.get().and_then(|flash| flash.conclude(secure, lines.lost));
            Additions::new::<HeaderMap>(&slot.sessions, lines, flash).attach(response.headers_mut());
            response
        }
        Err(error) => {
            slot.loaded.get().inspect(|loaded| current::fails(&loaded.session));
            let mut failure = failure(&error, failure_of(&error));
            remove_cookie(&error, failure.headers_mut());
            for (name, value) in response.headers() {
                if outlives_failure(name.as_str()) {
                    failure.headers_mut().append(name, value.clone());
                }
            }
            failure.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
            failure
        }
    }
}

/// A response with an empty body; its error goes only to the log.
fn failure<B: Default>(error: &dyn std::error::Error, kind: Failure) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = kind.pick(
        http::StatusCode::INTERNAL_SERVER_ERROR,
        http::StatusCode::SERVICE_UNAVAILABLE,
        http::StatusCode::FORBIDDEN,
    );
    fail(error, kind, response.headers_mut());
    response
}

/// The size of a response's head.
fn head_of<B: Body>(response: &Response<B>) -> usize {
    let headers = response.headers();
    let body = match response.body().size_hint().exact() {
        _ if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) => Length::Said,
        Some(bytes) => Length::Known(bytes),
        None => Length::Unknown,
    };
    let lines = headers.iter().map(|(name, value)| (name.as_str().len(), value.len()));
    let reason = response.status().canonical_reason().unwrap_or("<none>");
    head_bytes(reason, body, headers.contains_key(DATE), lines)
}

#[cfg(test)]
mod tests {
    use ::axum::body::Body as AxumBody;
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_length_of_a_body_is_counted_once_whoever_tells_it() {
        let head = |body: AxumBody, header: Option<(HeaderName, &'static str)>| {
            let mut response = Response::new(body);
            header.into_iter().for_each(|(name, value)| {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            });
            head_of(&response)
        };
        let stream =
            || AxumBody::from_stream(futures_util::stream::empty::<Result<&'static [u8], std::io::Error>>());
        let bytes = |length, lines: &[(usize, usize)]| head_bytes("OK", length, false, lines.iter().copied());
        let said = Length::Said;
        assert_eq!(head(AxumBody::from("12345"), None), bytes(Length::Known(5), &[]));
        assert_eq!(head(stream(), None), bytes(Length::Unknown, &[]));
        assert_eq!(head(AxumBody::from("12345"), Some((CONTENT_LENGTH, "5"))), bytes(said, &[(14, 1)]));
        assert_eq!(head(stream(), Some((CONTENT_LENGTH, "5"))), bytes(said, &[(14, 1)]));
        assert_eq!(head(stream(), Some((TRANSFER_ENCODING, "chunked"))), bytes(said, &[(17, 7)]));
    }
}
