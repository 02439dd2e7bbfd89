//! The configuration of [`Sessions`], checked by `build()`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::cookie::{CookieConfig, CookieWriter, MAX_NAME_VALUE_BYTES, SameSite, Secure};
use crate::envelope::Sealer;
use crate::error::ConfigError;
use crate::event::Event;
use crate::key::{KeyRing, Purpose};
use crate::lifetime::{Lifetime, MAX_AGE_LIMIT};
use crate::sessions::{EventHook, Inner, Sessions};
use crate::state::Limits;

/// Configures [`Sessions`]. Made by [`Sessions::builder`], ended by [`build`](Self::build).
#[must_use]
pub struct SessionsBuilder {
    keys: KeyRing,
    cookie: CookieConfig,
    lifetime: Lifetime,
    max_duration: Duration,
    rolling: bool,
    issue_empty: bool,
    cache_headers: bool,
    clock: Box<dyn Clock>,
    on_event: Option<EventHook>,
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
            lifetime: Lifetime::default(),
            max_duration: MAX_AGE_LIMIT.to_duration(),
            rolling: false,
            issue_empty: false,
            cache_headers: true,
            clock: Box::new(SystemClock),
            on_event: None,
        }
    }

    /// The cookie's name; the default is `__Host-Http-session`.
    ///
    /// # Security
    /// Browsers hold a name with the prefix `__Host-` to `Secure`, path `/` and no domain, so that no other site or
    /// subdomain can plant it; `__Http-` to `HttpOnly` and `Secure`, `__Host-Http-` to all of these
    /// (RFC 6265bis, section 4.1.3). A cookie is bound to its name: moved to another one it is refused.
    pub fn cookie_name(mut self, name: impl Into<String>) -> Self {
        self.cookie.name = name.into();
        self
    }

    /// The `Path` attribute; the default is `/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.cookie.path = path.into();
        self
    }

    /// The `Domain` attribute, which sends the cookie to subdomains too; none by default.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.cookie.domain = Some(domain.into());
        self
    }

    /// The `Secure` attribute; the default is [`Secure::Always`].
    pub fn secure(mut self, secure: Secure) -> Self {
        self.cookie.secure = secure;
        self
    }

    /// The `HttpOnly` attribute, which keeps scripts from reading the cookie; the default is true.
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.cookie.http_only = http_only;
        self
    }

    /// The `SameSite` attribute; the default is [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.cookie.same_site = same_site;
        self
    }

    /// The `Partitioned` attribute: a cookie jar per top-level site (CHIPS); the default is false.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.cookie.partitioned = partitioned;
        self
    }

    /// Whether browsers keep the cookie when they are closed, by `Max-Age`; the default is true. Where false is set
    /// (`ephemeral` in `client-sessions`) the server's limits hold all the same.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.cookie.persistent = persistent;
        self
    }

    /// How long sessions live; the default is 24 hours, prolonged by 5 minutes at a time.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The most that `set_duration` may give a session, and `duration` may be; from 1 ms to 10 years, the default is
    /// 400 days, for which browsers keep cookies at most.
    pub fn max_duration(mut self, max_duration: Duration) -> Self {
        self.max_duration = max_duration;
        self
    }

    /// Counts the duration from every request that uses the session, and issues the cookie on each; the default is
    /// false. An answer after more than 500 ms leaves it out, as long as the session can wait for the next one.
    pub fn rolling(mut self, rolling: bool) -> Self {
        self.rolling = rolling;
        self
    }

    /// Issues a cookie to a session that was used but holds nothing (Express' `saveUninitialized`); the default is
    /// false.
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

    /// Where the time comes from; the default is [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Is called with each [`Event`], in the thread of the request: it must be quick.
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Box::new(hook));
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
        static HOMES: AtomicU64 = AtomicU64::new(0);

        self.cookie.validate()?;
        let terms = self.lifetime.terms(self.max_duration)?;
        let cookie = CookieWriter::new(&self.cookie);
        let limits = Limits {
            terms,
            rolling: self.rolling,
            home: HOMES.fetch_add(1, Ordering::Relaxed),
            name_len: cookie.name().len(),
            max_name_value: MAX_NAME_VALUE_BYTES,
            max_plaintext: cookie.max_plaintext_len(),
        };
        Ok(Sessions::new(Inner {
            sealer: Sealer::new(self.keys, Purpose::Cookie, cookie.name()),
            cookie,
            limits,
            issue_empty: self.issue_empty,
            cache_headers: self.cache_headers,
            clock: self.clock,
            on_event: self.on_event,
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
