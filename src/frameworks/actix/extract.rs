//! The session of a request: loaded on first use, handed out by extractors and by `SessionExt`.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{COOKIE, HeaderValue};
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::RequestHead;
use super::errors::{CrossSiteRequest, NotAuthenticated, NotWrapped, told};
use crate::core::cookie::Secure;
use crate::core::session::Session;
use crate::frameworks::current;
use crate::frameworks::extract::{Scoped, Site, Subject};
use crate::sessions::flash::Flash;
use crate::sessions::{Opening, Sessions};

/// The place of a scope's session in a request's extensions, found by its type.
pub(super) struct Slot<S> {
    pub(super) inner: Rc<SlotInner>,
    pub(super) scope: PhantomData<fn() -> S>,
}

pub(super) struct SlotInner {
    pub(super) sessions: Rc<Sessions>,
    arrived: Instant,
    pub(super) loaded: OnceCell<Loaded>,
    /// Whether the request was found to be another site's, and gets no session.
    refused: Cell<bool>,
    /// Whether the store was asked for it.
    pub(super) asked: Cell<bool>,
    /// Whether the response was there before anybody had asked for the session.
    pub(super) answered: Cell<bool>,
    /// For loading from the store, one at a time.
    loading: Mutex<()>,
    /// The flash messages, once somebody has asked for them.
    pub(super) flash: OnceCell<Flash>,
}

#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) session: Session,
    /// Whether the request came over HTTPS, as far as that matters.
    pub(super) secure: bool,
}

impl SlotInner {
    pub(super) fn new(sessions: Rc<Sessions>) -> Self {
        Self {
            sessions,
            arrived: Instant::now(),
            loaded: OnceCell::new(),
            refused: Cell::new(false),
            asked: Cell::new(false),
            answered: Cell::new(false),
            loading: Mutex::const_new(()),
            flash: OnceCell::new(),
        }
    }

    /// Makes it the request's session, unless one loaded without waiting is there already: then that one stays.
    fn keep(&self, session: Session, secure: bool) -> Session {
        let kept = &self.loaded.get_or_init(|| Loaded { session, secure }).session;
        current::note(kept);
        if self.answered.get() {
            kept.close();
        }
        kept.clone()
    }

    /// The request's session, loaded on first use. Concurrent callers wait for the same one.
    fn session(self: Rc<Self>, request: &HttpRequest) -> Loading<Session> {
        if let Some(loaded) = self.loaded.get() {
            return Loading::ready(Ok(loaded.session.clone()));
        }
        if self.refused.get() {
            return Loading::ready(Err(CrossSiteRequest.into()));
        }
        let cookies = request.headers().get_all(COOKIE).map(HeaderValue::as_bytes);
        let (method, uri) = (request.method(), request.uri());
        let head = RequestHead { method, uri, headers: request.headers() };
        let Some(opening) = self.sessions.admit(self.arrived, &head, cookies) else {
            self.refused.set(true);
            return Loading::ready(Err(CrossSiteRequest.into()));
        };
        let secure = self.sessions.secure() == Secure::Auto && request.connection_info().scheme() == "https";
        match opening {
            Opening::Ready(session) => Loading::ready(Ok(self.keep(session, secure))),
            Opening::Referenced(chosen) => Loading::waiting(async move {
                let _turn = self.loading.lock().await;
                if let Some(loaded) = self.loaded.get() {
                    return Ok(loaded.session.clone());
                }
                self.asked.set(true);
                let session = self.sessions.fetch(*chosen).await?;
                Ok(self.keep(session, secure))
            }),
        }
    }
}

pub(super) type LocalBox<T> = Pin<Box<dyn Future<Output = T>>>;

/// The future of the extractors: most sessions are ready at once.
pub struct Loading<T>(pub(super) Kind<T>);

pub(super) enum Kind<T> {
    Ready(Ready<Result<T, Error>>),
    Stored(LocalBox<Result<T, Error>>),
}

impl<T> Loading<T> {
    fn ready(outcome: Result<T, Error>) -> Self {
        Self(Kind::Ready(ready(outcome)))
    }

    fn waiting(future: impl Future<Output = Result<T, Error>> + 'static) -> Self {
        Self(Kind::Stored(Box::pin(future)))
    }

    fn and_then<U: 'static>(self, f: impl FnOnce(T) -> Result<U, Error> + 'static) -> Loading<U>
    where
        T: 'static,
    {
        match self.0 {
            Kind::Ready(outcome) => Loading::ready(outcome.into_inner().and_then(f)),
            Kind::Stored(future) => Loading::waiting(async move { future.await.and_then(f) }),
        }
    }
}

impl<T: Unpin> Future for Loading<T> {
    type Output = Result<T, Error>;

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
        load::<S>(request).and_then(|session| Ok(Self::new(session)))
    }
}

impl FromRequest for Flash {
    type Error = Error;
    type Future = Loading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        load::<Site>(&request.clone()).and_then(move |session| {
            let slot = request.extensions().get::<Slot<Site>>().map(|slot| Rc::clone(&slot.inner));
            let Some(slot) = slot else { return Err(NotWrapped::told::<Site>()) };
            let cookies = request.headers().get_all(COOKIE).map(HeaderValue::as_bytes);
            let flash = || slot.sessions.flash(&session, cookies).closed_if_late();
            Ok(slot.flash.get_or_init(flash).clone())
        })
    }
}

impl FromRequest for Subject {
    type Error = Error;
    type Future = Loading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        load::<Site>(request)
            .and_then(|session| session.subject().map(Self).ok_or_else(|| NotAuthenticated.into()))
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
pub trait SessionExt: Sealed {
    /// The session of [`SessionMiddleware::new`](crate::SessionMiddleware::new), loaded now if it is not yet.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError) if it is in a store that fails, answered with 503. Another site's page that asks
    /// for it gets 403 ([`CrossSite`](crate::CrossSite)). Without the middleware: an error answered with 500, with the
    /// mistake in the log.
    fn session(&self) -> Loading<Session> {
        self.scoped_session::<Site>()
    }

    /// The session of [`SessionMiddleware::scoped`](crate::SessionMiddleware::scoped), loaded now if it is not yet.
    ///
    /// # Errors
    /// Like [`session`](Self::session).
    fn scoped_session<S: 'static>(&self) -> Loading<Session>;

    /// The session of [`SessionMiddleware::new`](crate::SessionMiddleware::new), if this request has loaded it already.
    fn try_session(&self) -> Option<Session> {
        self.try_scoped_session::<Site>()
    }

    /// The session of [`SessionMiddleware::scoped`](crate::SessionMiddleware::scoped), if this request has loaded it already.
    fn try_scoped_session<S: 'static>(&self) -> Option<Session>;
}

/// Keeps others from implementing [`SessionExt`], which may get more methods.
pub trait Sealed {}

impl Sealed for HttpRequest {}
impl Sealed for ServiceRequest {}

impl SessionExt for HttpRequest {
    fn scoped_session<S: 'static>(&self) -> Loading<Session> {
        load::<S>(self)
    }

    fn try_scoped_session<S: 'static>(&self) -> Option<Session> {
        self.extensions().get::<Slot<S>>()?.inner.loaded.get().map(|loaded| loaded.session.clone())
    }
}

impl SessionExt for ServiceRequest {
    fn scoped_session<S: 'static>(&self) -> Loading<Session> {
        self.request().scoped_session::<S>()
    }

    fn try_scoped_session<S: 'static>(&self) -> Option<Session> {
        self.request().try_scoped_session::<S>()
    }
}

pub(super) fn load<S: 'static>(request: &HttpRequest) -> Loading<Session> {
    let slot = request.extensions().get::<Slot<S>>().map(|slot| Rc::clone(&slot.inner));
    let Some(slot) = slot else { return Loading::ready(Err(NotWrapped::told::<S>())) };
    if let Some(clash) = slot.sessions.shared_cookie() {
        return Loading::ready(Err(told(clash.clone())));
    }
    slot.session(request)
}
