//! The configuration of [`Sessions`], checked by `build()`.

mod cookie;
mod device;
mod stored;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::device::DeviceConfig;
use crate::core::browser::{MAX_AGE, MAX_NAME_VALUE_BYTES};
use crate::core::clock::{Clock, ClockSource, Millis};
use crate::core::cookie::{CookieConfig, CookieWriter};
use crate::core::cross_site::{CrossSite, GuardConfig};
use crate::core::envelope::{Engine, RowSealer, Sealer};
use crate::core::error::ConfigError;
use crate::core::event::{Event, EventSink};
use crate::core::key::{KeyRing, Purpose};
use crate::core::lifetime::Lifetime;
use crate::core::measure;
use crate::core::record;
use crate::core::short_cookie::ShortCookie;
use crate::core::state::Limits;
use crate::sessions::{Core, Sessions};
use crate::store::Store;
use crate::store::revocation::{FailurePolicy, Revocation};
use crate::store::roster::Overflow;
use crate::store::rows::{Rows, Writers};

/// What stands behind the session's name in that of its flash messages.
const FLASH: &str = "-flash";
const FLASH_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// Name + value: messages are sentences, and the session's cookie may be in the same head.
const MAX_FLASH_BYTES: usize = 1_024;

/// Configures [`Sessions`]. Made by [`Sessions::builder`], ended by [`build`](Self::build).
#[must_use]
pub struct SessionsBuilder {
    keys: KeyRing,
    cookie: CookieConfig,
    guard: GuardConfig,
    lifetime: Lifetime,
    max_duration: Duration,
    rolling: bool,
    issue_empty: bool,
    cache_headers: bool,
    clock: ClockSource,
    sink: EventSink,
    store: Option<Arc<dyn Store>>,
    spill_above: Option<usize>,
    response_head_budget: Option<usize>,
    response_head_reserve: Option<usize>,
    max_stored_bytes: Option<usize>,
    store_timeout: Option<Duration>,
    revocation: Option<Revocation>,
    revocation_failure: Option<FailurePolicy>,
    roster: Option<bool>,
    max_sessions: Option<(usize, Overflow)>,
    engine: Engine,
    device: DeviceConfig,
}

impl Sessions {
    /// Starts the configuration; everything has a secure default.
    pub fn builder(keys: KeyRing) -> SessionsBuilder {
        SessionsBuilder::new(keys)
    }
}

impl SessionsBuilder {
    fn new(keys: KeyRing) -> Self {
        Self {
            keys,
            cookie: CookieConfig::default(),
            guard: GuardConfig::default(),
            lifetime: Lifetime::default(),
            max_duration: MAX_AGE,
            rolling: false,
            issue_empty: false,
            cache_headers: true,
            clock: ClockSource::System,
            sink: EventSink::default(),
            store: None,
            spill_above: None,
            response_head_budget: None,
            response_head_reserve: None,
            max_stored_bytes: None,
            store_timeout: None,
            revocation: None,
            revocation_failure: None,
            roster: None,
            max_sessions: None,
            engine: Engine::DEFAULT,
            device: DeviceConfig::default(),
        }
    }

    /// The engine that is there without the feature, for measuring one beside the other.
    #[cfg(feature = "aws-lc-rs")]
    #[doc(hidden)]
    pub fn __rust_crypto(mut self) -> Self {
        self.engine = Engine::RustCrypto;
        self
    }

    /// What becomes of requests that another site's page has made and that may change something; the default is
    /// [`CrossSite::Refuse`], or with a [`domain`](Self::domain) [`CrossSite::AllowSameSite`].
    ///
    /// The middleware and the layer judge each request that asks for the session by `Sec-Fetch-Site` and `Origin`, which
    /// browsers set and pages cannot. [`Sessions::load`] knows nothing of the request but its cookies, and judges none.
    pub fn cross_site(mut self, policy: CrossSite) -> Self {
        self.guard.policy = Some(policy);
        self
    }

    /// An origin whose pages count as own, such as `https://app.example.com`: a sibling that calls this application, or
    /// a sign-in that comes back by a cross-site `POST` (Apple's, SAML). It may be called several times. None by default.
    ///
    /// Behind a proxy that rewrites `Host`, name the application's own origin, for websockets and whatever else comes
    /// without `Sec-Fetch-Site`. A trusted origin is let in whatever `Sec-Fetch-Site` says: for that it is there. Only this host
    /// and port over plain HTTP is not, while the cookie is `Secure`: browsers would drop it, and nobody be logged in.
    pub fn trusted_origin(mut self, origin: impl Into<String>) -> Self {
        self.guard.trusted.push(origin.into());
        self
    }

    /// Whether the first host in `Forwarded` (RFC 7239), else in `X-Forwarded-Host`, is the one that the request was
    /// addressed to, for the comparison with `Origin`; the default is false.
    ///
    /// # Security
    /// Switch it on only behind a proxy that sets one of the headers, and takes the other away.
    pub fn forwarded_host(mut self, trusted: bool) -> Self {
        self.guard.forwarded_host = trusted;
        self
    }

    /// How long sessions live; the default is 24 hours, prolonged by 5 minutes at a time, 30 days in all.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The most that `set_duration` may give a session, and `duration` may be; from 1 ms to 10 years, the default is
    /// 400 days, for which browsers keep cookies at most (draft RFC 6265bis, section 5.5). A longer session loses its cookie
    /// then, unless a use has issued it again: [`active`](Lifetime::active) has to be longer than what is above 400 days.
    ///
    /// # Security
    /// Sessions that were given longer end sooner when this is lowered, and go on when it is raised again. What says that one was
    /// revoked lasts as this was at that time. So once it was lowered, do not raise it again before the former value has
    /// run out.
    pub fn max_duration(mut self, max_duration: Duration) -> Self {
        self.max_duration = max_duration;
        self
    }

    /// Counts the duration from every request that uses the session, and issues the cookie on each; the default is
    /// false. [`Lifetime::active`] does not matter then, and [`Lifetime::fixed`] neither. An answer after more than 500 ms leaves it out, as long as the session can wait for the next one. The end
    /// that [`Lifetime::absolute`] says stays where it is: 30 days after the birth, or the duration if that is longer, by
    /// default.
    pub fn rolling(mut self, rolling: bool) -> Self {
        self.rolling = rolling;
        self
    }

    /// Issues a cookie to a session that was used but holds nothing (Express' `saveUninitialized`); the default is
    /// false.
    ///
    /// With [`SameSite::Strict`](crate::SameSite::Strict) a link from another site brings no cookie, so a page that it leads to would
    /// replace the user's session by an empty one: do not combine them, unless such pages do without the session.
    pub fn issue_empty(mut self, issue_empty: bool) -> Self {
        self.issue_empty = issue_empty;
        self
    }

    /// Whether responses get `Vary: Cookie` when the session was read, and `Cache-Control: no-store` when its cookie
    /// was set; the default is true.
    ///
    /// # Security
    /// A cached `Set-Cookie` hands one user's session to others. Switch this off only where something else prevents
    /// that.
    pub fn cache_headers(mut self, cache_headers: bool) -> Self {
        self.cache_headers = cache_headers;
        self
    }

    /// Where sessions go that outgrow their cookie; by default nowhere, and [`insert`](crate::Session::insert) is an
    /// error then. An `Arc<dyn Store>` will do as well. Calls need a tokio runtime with time enabled, which actix-web
    /// has.
    ///
    /// A session *spills* when it is changed and its name + value exceed [`spill_above`](Self::spill_above), or the
    /// response head would exceed [`response_head_budget`](Self::response_head_budget). From then on its cookie is a
    /// reference, and it stays in the store until [`renew`](crate::Session::renew), which may bring it back, or its
    /// end.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// The largest name + value of a cookie that holds the session itself, in bytes; the default is 3,072. From the
    /// size of an empty session to 4,096; there, and with 0, no entry is ever in a cookie.
    pub fn spill_above(mut self, bytes: usize) -> Self {
        self.spill_above = Some(bytes);
        self
    }

    /// The largest response head that the session may lead to, in bytes; the default is 4,096, which is what nginx
    /// accepts of its upstreams with `proxy_buffer_size` as it comes: more is a 502. From 512 to 1 MiB.
    pub fn response_head_budget(mut self, bytes: usize) -> Self {
        self.response_head_budget = Some(bytes);
        self
    }

    /// What is left of [`response_head_budget`](Self::response_head_budget) to headers that are added after the session was
    /// committed, by middleware around this one or a proxy, in bytes; the default is 0. The budget less this must be at
    /// least 512.
    pub fn response_head_reserve(mut self, bytes: usize) -> Self {
        self.response_head_reserve = Some(bytes);
        self
    }

    /// The largest row, in bytes as it is stored; the default is 1 MiB. From 8 KiB to 15 MiB.
    pub fn max_stored_bytes(mut self, bytes: usize) -> Self {
        self.max_stored_bytes = Some(bytes);
        self
    }

    /// How long each step with the store may take: the load, the question before a commit, the list of the subject's sessions
    /// at a login, and the write, which is looked for once more, for as long again, if it may have happened. The default is
    /// 2 s; from 1 ms to 1 min. What cannot be done without is answered with 503 then.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = Some(timeout);
        self
    }

    /// How often the store is asked whether a session in a cookie has been revoked; with a store the default is
    /// `Revocation::Every` 60 s. It costs a session, and again a subject, one round trip in that time and process.
    /// Nothing but [`Revocation::Off`] is possible without a store.
    ///
    /// # Security
    /// With it `destroy` and `renew` end also what was in a cookie, and `revoke` and `revoke_subject` work. This `Sessions`
    /// and its clones see what they have ended themselves at once, and what others have within this time.
    pub fn revocation(mut self, revocation: Revocation) -> Self {
        self.revocation = Some(revocation);
        self
    }

    /// What becomes of a session when the store does not say whether it, or its user, was revoked; the default is
    /// [`FailurePolicy::Open`]. A second passes before the next request asks a store that failed, or a
    /// [part](crate::store::Store::part) of it.
    pub fn revocation_failure(mut self, policy: FailurePolicy) -> Self {
        self.revocation_failure = Some(policy);
        self
    }

    /// Whether the store keeps a list of each subject's sessions, for [`Sessions::of`], [`Sessions::end`] and
    /// [`max_sessions`](Self::max_sessions); the default is true with a store, unless revocation is off.
    ///
    /// A login costs three round trips more with it, a logout two, and a session one or two in an hour and process, when the
    /// store is asked anyway. An ordinary request costs none. Switch it off where thousands share one subject.
    pub fn roster(mut self, listed: bool) -> Self {
        self.roster = Some(listed);
        self
    }

    /// How many sessions a subject may be logged in to at once, and what becomes of a login beyond that; from 1 to 1,000, by
    /// default any number. `set_subject` is no login.
    ///
    /// The count is exact among logins of several browsers at the same time. It is exceeded by logins while a rotation of the
    /// keys has not reached all processes, by sessions whose line was lost until they are used, by one where two requests of one
    /// session renew it or log in at a time, and with [`Overflow::Refuse`] by those that come back after they were out of use:
    /// a session does not count when it was not used for an hour or two, the time of [`revocation`](Self::revocation) and what
    /// a use prolongs (or it lives idle), or closed private windows would lock their owner out.
    ///
    /// If the list cannot be read or written, the login fails with the store's error.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use sealed_session::store::MemoryStore;
    /// use sealed_session::{Key, KeyRing, Overflow, Sessions};
    ///
    /// let sessions = Sessions::builder(KeyRing::new(Key::generate()))
    ///     .store(MemoryStore::new())
    ///     .max_sessions(3, Overflow::EndOldest)
    ///     .build()?;
    /// # }
    /// # Ok::<(), sealed_session::ConfigError>(())
    /// ```
    pub fn max_sessions(mut self, most: usize, overflow: Overflow) -> Self {
        self.max_sessions = Some((most, overflow));
        self
    }

    /// Where the time comes from; the default is [`SystemClock`](crate::SystemClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = ClockSource::Given(Box::new(clock));
        self
    }

    /// Is called with each [`Event`], in the thread of the request: it must be quick. By default nothing is called.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.sink = EventSink::to(Arc::new(hook));
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] says which setting contradicts what, and what would be right.
    ///
    /// ```
    /// use sealed_session::{Key, KeyRing, Secure, Sessions};
    ///
    /// let error = Sessions::builder(KeyRing::new(Key::generate())).secure(Secure::Never).build().unwrap_err();
    /// assert!(error.to_string().contains("secure(Secure::Always)"));
    /// ```
    pub fn build(self) -> Result<Sessions, ConfigError> {
        static OWNERS: AtomicU64 = AtomicU64::new(0);

        measure::announce();
        self.cookie.validate()?;
        let guard = self.guard.build(&self.cookie)?;
        let terms = self.lifetime.terms(self.max_duration)?;
        let (stored, timeout) = self.stored()?;
        let revoking = self.revoking()?;
        let roster = self.listed(revoking.is_some())?;
        let device = self.binder()?;
        let cookie = CookieWriter::new(&self.cookie);
        let limits = Limits {
            terms,
            rolling: self.rolling,
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            device_key: if device.is_some() { record::DEVICE_KEY_LEN } else { 0 },
            name_len: cookie.name().len(),
            max_name_value: MAX_NAME_VALUE_BYTES,
            max_plaintext: cookie.max_plaintext_len(),
            stored,
        };
        let rows = self.store.map(|store| Rows {
            store,
            sealer: RowSealer::new(self.engine, self.keys.clone(), cookie.name()),
            timeout,
            sink: self.sink.clone(),
            writers: Writers::default(),
        });
        let flash = CookieConfig { name: format!("{}{FLASH}", self.cookie.name), ..self.cookie.clone() };
        let bounds = (Millis::span(FLASH_LIFETIME), MAX_FLASH_BYTES);
        let flash = ShortCookie::new(
            (self.engine, Purpose::Transient),
            self.keys.clone(),
            &flash,
            bounds,
            self.sink.clone(),
        );
        Ok(Sessions::new(Core {
            sealer: Sealer::with_engine(self.engine, self.keys, Purpose::Cookie, cookie.name()),
            cookie,
            guard,
            flash,
            limits,
            issue_empty: self.issue_empty,
            cache_headers: self.cache_headers,
            clock: self.clock,
            sink: self.sink,
            device,
            rows,
            revoking,
            roster,
            #[cfg(any(feature = "actix", feature = "tower"))]
            shared_cookie: std::sync::OnceLock::new(),
        }))
    }
}

impl fmt::Debug for SessionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsBuilder")
            .field("keys", &self.keys)
            .field("cookie", &self.cookie)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
