//! The session of a request: loaded on first use, handed out by extractors and by `SessionExt`.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::header::{COOKIE, FORWARDED, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Extensions, Request, Uri};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{RequestHead, SessionRejection};
use crate::core::cookie::Secure;
use crate::core::session::Session;
use crate::frameworks::current;
use crate::frameworks::extract::{Site, scope_name};
use crate::sessions::flash::Flash;
use crate::sessions::{Opening, Sessions};

/// The place of a scope's session in a request's extensions, found by its type.
pub(super) struct Slot<S> {
    inner: Arc<SlotInner>,
    scope: PhantomData<fn() -> S>,
}

impl<S> Slot<S> {
    pub(super) fn new(inner: Arc<SlotInner>) -> Self {
        Self { inner, scope: PhantomData }
    }

    pub(super) fn is_of(&self, sessions: &Sessions) -> bool {
        self.inner.sessions.is_same(sessions)
    }
}

impl<S> Clone for Slot<S> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inner))
    }
}

pub(super) struct SlotInner {
    pub(super) sessions: Sessions,
    arrived: Instant,
    pub(super) loaded: OnceLock<Loaded>,
    /// Whether the request was found to be another site's, and gets no session.
    refused: AtomicBool,
    /// Whether the store was asked for it.
    pub(super) asked: AtomicBool,
    /// Whether the response was there before anybody had asked for the session.
    pub(super) answered: AtomicBool,
    /// For loading from the store, one at a time.
    loading: Mutex<()>,
    /// The flash messages, once somebody has asked for them.
    pub(super) flash: OnceLock<Flash>,
    /// The length of the path that was asked for; routers inside remove parts of it.
    path_bytes: usize,
}

pub(super) struct Loaded {
    pub(super) session: Session,
    /// Whether the request came over HTTPS, as far as that matters.
    pub(super) secure: bool,
}

impl SlotInner {
    pub(super) fn new(sessions: Sessions, path_bytes: usize) -> Self {
        Self {
            sessions,
            arrived: Instant::now(),
            loaded: OnceLock::new(),
            refused: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            loading: Mutex::const_new(()),
            flash: OnceLock::new(),
            path_bytes,
        }
    }

    /// Makes it the request's session, unless one loaded without waiting is there already: then that one stays.
    fn keep(&self, session: Session, secure: bool) -> Session {
        let kept = &self.loaded.get_or_init(|| Loaded { session, secure }).session;
        current::note(kept);
        if self.answered.load(Ordering::SeqCst) {
            kept.close();
        }
        kept.clone()
    }

    /// The request's session, loaded on first use. Concurrent callers wait for the same one.
    fn session(self: Arc<Self>, head: RequestHead<'_>) -> Loading<Session> {
        if let Some(loaded) = self.loaded.get() {
            return Loading::ready(Ok(loaded.session.clone()));
        }
        if self.refused.load(Ordering::Relaxed) {
            return Loading::ready(Err(SessionRejection::CrossSite));
        }
        // In HTTP/2 there may be several (RFC 9113, section 8.2.3).
        let cookies = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        let Some(opening) = self.sessions.admit(self.arrived, &head, cookies) else {
            self.refused.store(true, Ordering::Relaxed);
            return Loading::ready(Err(SessionRejection::CrossSite));
        };
        let secure = self.sessions.secure() == Secure::Auto && is_https(head.headers, head.uri);
        match opening {
            Opening::Ready(session) => Loading::ready(Ok(self.keep(session, secure))),
            Opening::Referenced(chosen) => Loading::waiting(async move {
                let _turn = self.loading.lock().await;
                if let Some(loaded) = self.loaded.get() {
                    return Ok(loaded.session.clone());
                }
                self.asked.store(true, Ordering::Relaxed);
                let session = self.sessions.fetch(*chosen).await?;
                Ok(self.keep(session, secure))
            }),
        }
    }
}

/// Whether the request came over HTTPS, as the proxy in front says, else its URI. The proxy has to overwrite these
/// headers, or clients can set them.
fn is_https(headers: &HeaderMap, uri: &Uri) -> bool {
    const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

    let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let forwarded = texts(FORWARDED).flat_map(|line| line.split([';', ','])).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    let told = || texts(X_FORWARDED_PROTO).next().and_then(|line| line.split(',').next()).map(str::trim);
    forwarded
        .or_else(told)
        .or_else(|| uri.scheme_str())
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The future of the extractors and of [`SessionExt`]: most sessions are ready at once.
pub struct Loading<T>(pub(super) Kind<T>);

pub(super) enum Kind<T> {
    Ready(Ready<Result<T, SessionRejection>>),
    Stored(BoxFuture<Result<T, SessionRejection>>),
}

impl<T> Loading<T> {
    fn ready(outcome: Result<T, SessionRejection>) -> Self {
        Self(Kind::Ready(ready(outcome)))
    }

    fn waiting(future: impl Future<Output = Result<T, SessionRejection>> + Send + 'static) -> Self {
        Self(Kind::Stored(Box::pin(future)))
    }
}

impl<T: Unpin> Future for Loading<T> {
    type Output = Result<T, SessionRejection>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Kind::Ready(future) => Pin::new(future).poll(context),
            Kind::Stored(future) => future.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for Loading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").finish_non_exhaustive()
    }
}

/// The session of a request, where there is no extractor: in middleware, and in layers around tonic's services. Such a service
/// gets no `http::Request`: let the layer insert the [`Session`] into the request's extensions, which tonic hands on.
///
/// ```
/// use http::Request;
/// use sealed_session::tower::{SessionExt, SessionRejection};
///
/// async fn is_logged_in<B>(request: &Request<B>) -> Result<bool, SessionRejection> {
///     Ok(request.session().await?.subject().is_some())
/// }
/// ```
pub trait SessionExt: Sealed {
    /// The session of [`SessionLayer::new`](super::SessionLayer::new), loaded now if it is not yet.
    ///
    /// # Errors
    /// [`SessionRejection::Store`] if it is in a store that fails, [`SessionRejection::CrossSite`] if another site's page
    /// asks for it, [`SessionRejection::NotLayered`] without the layer.
    fn session(&self) -> Loading<Session> {
        self.scoped_session::<Site>()
    }

    /// The session of [`SessionLayer::scoped`](super::SessionLayer::scoped), loaded now if it is not yet.
    ///
    /// # Errors
    /// Like [`session`](Self::session).
    fn scoped_session<S: 'static>(&self) -> Loading<Session>;

    /// The session of [`SessionLayer::new`](super::SessionLayer::new), if this request has loaded it already.
    fn try_session(&self) -> Option<Session> {
        self.try_scoped_session::<Site>()
    }

    /// The session of [`SessionLayer::scoped`](super::SessionLayer::scoped), if this request has loaded it already.
    fn try_scoped_session<S: 'static>(&self) -> Option<Session>;
}

/// Keeps others from implementing [`SessionExt`], which may get more methods.
pub trait Sealed {}

impl<B> Sealed for Request<B> {}
impl Sealed for Parts {}

impl<B> SessionExt for Request<B> {
    fn scoped_session<S: 'static>(&self) -> Loading<Session> {
        let head = RequestHead { method: self.method(), uri: self.uri(), headers: self.headers() };
        load::<S>(head, self.extensions())
    }

    fn try_scoped_session<S: 'static>(&self) -> Option<Session> {
        loaded::<S>(self.extensions())
    }
}

impl SessionExt for Parts {
    fn scoped_session<S: 'static>(&self) -> Loading<Session> {
        let head = RequestHead { method: &self.method, uri: &self.uri, headers: &self.headers };
        load::<S>(head, &self.extensions)
    }

    fn try_scoped_session<S: 'static>(&self) -> Option<Session> {
        loaded::<S>(&self.extensions)
    }
}

fn load<S: 'static>(head: RequestHead<'_>, extensions: &Extensions) -> Loading<Session> {
    match extensions.get::<Slot<S>>() {
        Some(slot) => {
            if let Some(clash) = slot.inner.sessions.shared_cookie() {
                tracing::error!(target: "sealed_session", "{clash}");
                return Loading::ready(Err(SessionRejection::SharedCookie));
            }
            Arc::clone(&slot.inner).session(head)
        }
        None => {
            let error = SessionRejection::NotLayered;
            tracing::error!(target: "sealed_session", scope = scope_name::<S>(), "{error}");
            Loading::ready(Err(error))
        }
    }
}

/// The request's flash messages.
#[cfg(feature = "axum")]
pub(super) async fn flash(parts: &Parts) -> Result<Flash, SessionRejection> {
    let session = parts.session().await?;
    let slot = parts.extensions.get::<Slot<Site>>().ok_or(SessionRejection::NotLayered)?;
    let cookies = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let flash = || slot.inner.sessions.flash(&session, cookies).closed_if_late();
    Ok(slot.inner.flash.get_or_init(flash).clone())
}

/// Whether the path is no longer the one that was asked for, as in a router that is nested into another.
pub(super) fn is_rewritten<S: 'static>(extensions: &Extensions, uri: &Uri) -> bool {
    extensions.get::<Slot<S>>().is_some_and(|slot| slot.inner.path_bytes != uri.path().len())
}

fn loaded<S: 'static>(extensions: &Extensions) -> Option<Session> {
    Some(extensions.get::<Slot<S>>()?.inner.loaded.get()?.session.clone())
}
