//! The guard of pages for logged-in users only: whether a request passes, is sent to log in, or is refused. A pure
//! decision from the session and the request's head; `actix/guard.rs` and `tower/guard.rs` carry it out.
//!
//! | the request | answer |
//! |---|---|
//! | for the login page itself | passes, without asking for the session |
//! | of a session with a subject, authenticated recently where that is required | passes |
//! | a page by `GET`, from another site's link, of a session whose device has not proved itself | 200, an empty page that reloads itself: browsers fetch a proof for a request of our own page |
//! | a page that the browser is about to show, by `GET` or `HEAD` | 303 to the login page, with `next` |
//! | a page that the browser is about to show, by another method | 303 to the login page: what was sent is lost, and `next` would do something else |
//! | anything else: `fetch`, images, websockets, other programs | 401, because none of them can log in on a page |
//!
//! Browsers say whether they are about to show a page: `Sec-Fetch-Mode: navigate` (W3C Fetch Metadata). Over plain HTTP,
//! and from old browsers, it is missing; then `Accept` decides, which names `text/html` only for pages. `Sec-Fetch-Dest`
//! is ignored: a frame's page may show the login as well, and a service worker that forwards a page's request sets it to
//! `empty`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::core::cross_site::{Field, Head, Values, only};
use crate::core::error::{ConfigError, Rejection};
use crate::core::lifetime::MAX_SPAN;
use crate::core::local_path::{MAX_LOCAL_PATH_BYTES, local_path};
use crate::core::session::Session;
use crate::core::state::Origin;
use crate::frameworks::extract::Site;
use crate::frameworks::response::{self, Headers};

/// Restricts routes to logged-in users: anybody else is sent to the login page, with the way back. It is a middleware for
/// actix-web, and a layer for axum and other tower services.
///
/// It goes inside the session's middleware, and around the routes to guard:
///
/// ```
/// use actix_web::web::{self, Query, Redirect};
/// use actix_web::{App, HttpServer};
/// use sealed_session::actix::LoginGuard;
/// use sealed_session::{Key, KeyRing, Session, SessionMiddleware, Sessions, Subject, local_path};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Login {
///     next: Option<String>,
/// }
///
/// async fn log_in(session: Session, Query(login): Query<Login>) -> actix_web::Result<Redirect> {
///     // Once the password was right:
///     session.authenticate("ada")?;
///     let next = login.next.as_deref().and_then(local_path).unwrap_or("/");
///     Ok(Redirect::to(next.to_owned()).see_other())
/// }
///
/// async fn orders(Subject(user): Subject) -> String {
///     format!("the orders of {user}")
/// }
///
/// let sessions = Sessions::builder(KeyRing::new(Key::generate())).build()?;
/// let users_alone = LoginGuard::new("/login")?;
/// let server = HttpServer::new(move || {
///     App::new()
///         .route("/login", web::post().to(log_in))
///         .service(web::scope("/account").wrap(users_alone.clone()).route("/orders", web::get().to(orders)))
///         .wrap(SessionMiddleware::new(sessions.clone()))
/// });
/// # Ok::<(), sealed_session::ConfigError>(())
/// ```
///
/// On axum:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::Router;
/// use axum::extract::Query;
/// use axum::response::Redirect;
/// use axum::routing::{get, post};
/// use sealed_session::tower::LoginGuard;
/// use sealed_session::{InsertError, Key, KeyRing, Session, SessionLayer, Sessions, Subject, local_path};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Login {
///     next: Option<String>,
/// }
///
/// async fn log_in(session: Session, Query(login): Query<Login>) -> Result<Redirect, InsertError> {
///     // Once the password was right:
///     session.authenticate("ada")?;
///     Ok(Redirect::to(login.next.as_deref().and_then(local_path).unwrap_or("/")))
/// }
///
/// async fn orders(Subject(user): Subject) -> String {
///     format!("the orders of {user}")
/// }
///
/// let sessions = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
/// let account: Router = Router::new().route("/orders", get(orders));
/// let app = Router::new()
///     .nest("/account", account)
///     .route_layer(LoginGuard::new("/login").unwrap()) // around the routes above
///     .route("/login", post(log_in))
///     .layer(SessionLayer::new(sessions));
/// # }
/// ```
///
/// | who is not logged in | answer |
/// |---|---|
/// | opens a page | 303 to `/login?next=%2Faccount%2Forders`, or to `/login` where the page is `/` or no [`local_path`](crate::local_path()) |
/// | comes by another site's link, and is logged in, but the device's proof has expired (`device_binding`) | 200, and an empty page that reloads itself, with a proof |
/// | sends a form | 303 to `/login`; what was sent is lost |
/// | uses `fetch`, or is not a browser | 401 with an empty body, as from [`Subject`](crate::Subject) |
///
/// Each has `Cache-Control: no-store`. A page is recognized by `Sec-Fetch-Mode`, and where that is missing by an `Accept`
/// that names `text/html`. As from the extractors, a session whose store fails is a 503, a request that is refused as
/// another site's ([`CrossSite`](crate::CrossSite)) a 403, and a session that nothing provides a 500.
///
/// The login page itself always passes, by any method, so it may stand among the guarded routes. Its styles and images do
/// not, so put them outside. Nor does a path that differs from it by as much as a trailing slash.
///
/// # Nested routers
/// A router that axum nests into another sees its paths without the prefix, and so does a guard inside it. That guard
/// does not know the whole path, and cannot tell the login page from one of the same name below the prefix, so it turns
/// away everybody who is not logged in, even from a login page inside it, and gives no `next`. Nest first, then guard, as
/// above. The guard learns that from the session's layer: one that is inside the nested router too sees no more than the guard, and
/// then `/users/login` passes as `/login`. So put the layer outside, also that of a scope. Scopes of actix-web keep the whole path.
///
/// **axum's `route_layer` leaves every fallback out**, also the one that a nested router brought along: what that serves,
/// anybody gets. Files that are for users belong into a `nest_service` or `route_service` before the guard; or put the guard
/// around the nested router by `.layer`, fallback and all, without a `next`. The `default_service` of a scope of actix-web
/// is inside of a guard that wraps the scope.
///
/// # Security
/// It checks whether somebody is logged in, not what they may do. Keep asking for the [`Subject`](crate::Subject) in
/// handlers: nothing else guards a route that is added in the wrong place. Put the CORS layer outside, because preflights
/// have no cookie.
pub struct LoginGuard<S = Site> {
    pub(crate) gate: Arc<Gate>,
    scope: PhantomData<fn() -> S>,
}

impl LoginGuard {
    /// Sends visitors who are not logged in to this path, such as `/login`, without a query.
    ///
    /// # Errors
    /// [`ConfigError::LoginPath`] if it is not a path of this origin, or has a query or a fragment.
    pub fn new(login: impl Into<String>) -> Result<Self, ConfigError> {
        Self::of_scope(login.into())
    }

    /// The same for the session of [`Scoped<S>`](crate::Scoped).
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn scoped<S: 'static>(login: impl Into<String>) -> Result<LoginGuard<S>, ConfigError> {
        LoginGuard::of_scope(login.into())
    }
}

impl<S> LoginGuard<S> {
    fn of_scope(login: String) -> Result<Self, ConfigError> {
        if local_path(&login).is_none() || login.contains(['?', '#']) {
            let reason = "it must be a path of this origin and no more, such as `/login`";
            return Err(ConfigError::LoginPath { value: login, reason });
        }
        Ok(Self { gate: Arc::new(Gate { login, within: None }), scope: PhantomData })
    }

    /// Also sends users to log in who were not authenticated within this time, from a second to 3,660 days: for what a
    /// stolen session, or one left open, must not do ([`Session::is_fresh`]). Without it any login will do.
    ///
    /// The login page then has to ask for the password again. If it sends back whoever is logged in, the browser ends up
    /// in a redirect loop.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] for anything shorter or longer.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use sealed_session::LoginGuard;
    ///
    /// let recently = LoginGuard::new("/login")?.fresh(Duration::from_secs(5 * 60))?;
    /// assert!(LoginGuard::new("/login")?.fresh(Duration::ZERO).is_err());
    /// # Ok::<(), sealed_session::ConfigError>(())
    /// ```
    pub fn fresh(mut self, within: Duration) -> Result<Self, ConfigError> {
        const MIN: Duration = Duration::from_secs(1);

        if !(MIN..=MAX_SPAN).contains(&within) {
            return Err(ConfigError::OutOfRange { setting: "fresh", value: within, min: MIN, max: MAX_SPAN });
        }
        Arc::make_mut(&mut self.gate).within = Some(within);
        Ok(self)
    }
}

impl<S> Clone for LoginGuard<S> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), scope: PhantomData }
    }
}

impl<S> fmt::Debug for LoginGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gate { login, within } = &*self.gate;
        f.debug_struct("LoginGuard").field("login", login).field("fresh", within).finish()
    }
}

/// The guard's settings.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    login: String,
    within: Option<Duration>,
}

/// What happens to a request that does not pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    LogIn { location: String },
    Reload,
    Unauthorized,
}

impl Gate {
    pub(crate) fn is_login(&self, path: &str) -> bool {
        path == self.login
    }

    pub(crate) fn admits(&self, session: &Session) -> bool {
        session.subject().is_some() && self.within.is_none_or(|within| session.is_fresh(within))
    }

    /// `target` is the path and the query that were asked for, if they are known.
    pub(crate) fn refuse(&self, session: &Session, head: &impl Head, target: Option<&str>) -> Refusal {
        if !is_navigation(head) {
            return Refusal::Unauthorized;
        }
        // Browsers fetch no proof for a request from another site's page, but do for the next one, from our own page.
        let is_linked = matches!(only(head, Field::SecFetchSite), Values::One(b"cross-site"));
        if is_linked && head.method() == "GET" && session.origin() == Origin::Rejected(Rejection::Unproven) {
            return Refusal::Reload;
        }
        let is_safe = matches!(head.method(), "GET" | "HEAD");
        let next = target.filter(|_| is_safe).and_then(local_path).filter(|next| *next != "/").map(encode);
        let location = match next {
            Some(next) if next.len() <= MAX_LOCAL_PATH_BYTES => format!("{}?next={next}", self.login),
            Some(_) | None => self.login.clone(),
        };
        Refusal::LogIn { location }
    }
}

impl Refusal {
    /// One of a framework's statuses for it: 200, 303 and 401.
    pub(crate) fn pick<T>(&self, ok: T, see_other: T, unauthorized: T) -> T {
        match self {
            Self::Reload => ok,
            Self::LogIn { .. } => see_other,
            Self::Unauthorized => unauthorized,
        }
    }

    /// Sets the headers of the response.
    pub(crate) fn attach<H: Headers>(self, headers: &mut H) {
        match &self {
            Self::LogIn { .. } => {
                tracing::debug!(target: "sealed_session", "nobody has logged in, or not recently: sent to log in");
            }
            Self::Reload => tracing::debug!(
                target: "sealed_session",
                "another site's link came without a proof of the device: the page is loaded again, with one"
            ),
            Self::Unauthorized => tracing::debug!(
                target: "sealed_session",
                "nobody has logged in, or not recently: 401, because no page was asked for by `Sec-Fetch-Mode` or `Accept`"
            ),
        }
        headers.replace(response::Field::CacheControl, H::fixed("no-store"));
        match self {
            Self::LogIn { location } => {
                let location = H::made(location.into_bytes()).expect("a local path is visible ASCII");
                headers.replace(response::Field::Location, location);
            }
            Self::Reload => {
                headers.replace(response::Field::ContentType, H::fixed("text/html"));
                headers.replace(response::Field::Refresh, H::fixed("0"));
            }
            Self::Unauthorized => {}
        }
    }
}

/// Whether the browser is about to show the answer as a page.
fn is_navigation(head: &impl Head) -> bool {
    match only(head, Field::SecFetchMode) {
        Values::One(mode) => mode == b"navigate",
        Values::Several => false,
        Values::None => head.values(Field::Accept).any(|value| {
            value.split(|&byte| byte == b',').any(|range| {
                let media_type = range.split(|&byte| byte == b';').next().unwrap_or_default();
                media_type.trim_ascii().eq_ignore_ascii_case(b"text/html")
            })
        }),
    }
}

/// As a query value, with only unreserved characters left as they are (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out
}
