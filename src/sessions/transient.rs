//! Values that a browser brings back once, within minutes: what a login at another site has to remember until it returns.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::clock::Millis;
use crate::core::cookie::{CookieConfig, SameSite, Secure, SetCookie};
use crate::core::error::{ConfigError, TransientError};
use crate::core::key::Purpose;
use crate::core::short_cookie::{self, Look, ShortCookie, TooLarge};
use crate::core::value;
use crate::sessions::Sessions;

const LIFETIME: Duration = Duration::from_secs(10 * 60);
const MIN_LIFETIME: Duration = Duration::from_secs(1);
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// Name + value: leaves room for a session's cookie in the same response.
const MAX_BYTES: usize = 2_048;
/// For this browsers enforce `Secure`, `HttpOnly`, path `/` and no domain, as a transient cookie has.
const PREFIX: &str = "__Host-Http-";

impl Sessions {
    /// Cookies of their own for values of one type that the browser brings back once, within minutes: the `state`,
    /// `nonce` and PKCE verifier of a login at another site, or the step of a wizard. Sealed under the keys of these
    /// sessions, they work for visitors who have no session, and touch none.
    ///
    /// The cookie's name is `name` after the prefix `__Host-Http-`, or just `name` if that begins with `__` or these
    /// sessions are not [`Secure::Always`]. Only this host gets it, and scripts cannot read it. Its name has to be unique
    /// among all that use the same keys: what has one name is one kind.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use sealed_session::{Key, KeyRing, Sessions};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Pending {
    ///     nonce: String,
    ///     return_to: String,
    /// }
    ///
    /// let sessions = Sessions::builder(KeyRing::new(Key::generate())).build()?;
    /// let pending = sessions.transient::<Pending>("oidc").build()?;
    ///
    /// // The login begins. Each tab has a `state` of its own, and so a cookie.
    /// let state = "kNn3Vt0z"; // random, in the URL of the provider
    /// let value = Pending { nonce: "n".into(), return_to: "/account".into() };
    /// let set_cookies = pending.put_for(state, [""], &value)?; // a `Set-Cookie` header for each
    /// # let cookie = set_cookies[0].split(';').next().unwrap();
    ///
    /// // The provider sends the browser back with that `state`.
    /// let taken = pending.take_for(state, [cookie]).expect("the browser that began it comes back with it");
    /// assert_eq!(taken.value.return_to, "/account");
    /// assert!(taken.removal.contains("Max-Age=0")); // the `Set-Cookie` header that makes it a value for once
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transient<T: Serialize + DeserializeOwned>(&self, name: &str) -> TransientBuilder<T> {
        TransientBuilder {
            sessions: self.clone(),
            name: name.to_owned(),
            lifetime: LIFETIME,
            same_site: SameSite::Lax,
            secure: self.secure(),
            partitioned: None,
            of: PhantomData,
        }
    }
}

/// Configures [`Transient`]. Made by [`Sessions::transient`], completed by [`build`](Self::build).
#[must_use]
pub struct TransientBuilder<T> {
    sessions: Sessions,
    name: String,
    lifetime: Duration,
    same_site: SameSite,
    secure: Secure,
    partitioned: Option<bool>,
    of: PhantomData<fn(T) -> T>,
}

impl<T> TransientBuilder<T> {
    /// How long the value is valid, by the server's clock; from 1 s to 1 h, the default is 10 min.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// On which cross-site requests browsers send it; the default is [`SameSite::Lax`]. A sign-in that comes back by a
    /// cross-site `POST`, such as Apple's or that of SAML, needs [`SameSite::None`], and the session's
    /// [`trusted_origin`](crate::SessionsBuilder::trusted_origin) besides. With [`SameSite::Strict`] no site can lead the
    /// browser back with it.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Whether the cookie carries `Secure`; the default is what these sessions have. Nothing here tells whether a request
    /// came over HTTPS, so [`Secure::Auto`] has to be decided.
    pub fn secure(mut self, secure: Secure) -> Self {
        self.secure = secure;
        self
    }

    /// The `Partitioned` attribute: a cookie jar per top-level site (CHIPS). The default is what these sessions
    /// [have](crate::SessionsBuilder::partitioned), if the cookie carries `Secure`, which browsers want with it.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = Some(partitioned);
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] says which setting contradicts what, and what would be right.
    pub fn build(self) -> Result<Transient<T>, ConfigError> {
        let core = &self.sessions.core;
        let range = MIN_LIFETIME..=MAX_LIFETIME;
        if !range.contains(&self.lifetime) {
            let (setting, value) = ("lifetime", self.lifetime);
            return Err(ConfigError::OutOfRange { setting, value, min: MIN_LIFETIME, max: MAX_LIFETIME });
        }
        let attribute = "secure";
        let reason =
            "a transient cookie cannot tell how a request came; say `.secure(Secure::Always)` or `Never`";
        if self.secure == Secure::Auto {
            return Err(ConfigError::Attribute { attribute, value: "Secure::Auto".into(), reason });
        }
        let prefixed = self.secure == Secure::Always && !self.name.starts_with("__");
        let name = if prefixed { format!("{PREFIX}{}", self.name) } else { self.name };
        if name == core.cookie.name() || name == core.flash.name() {
            let reason = "it is that of the session's cookie, or of its flash messages";
            return Err(ConfigError::Name { name, reason });
        }
        if name.contains('.') {
            let reason = "a full stop is what stands before a suffix";
            return Err(ConfigError::Name { name, reason });
        }
        let (same_site, secure) = (self.same_site, self.secure);
        let inherited = || core.cookie.partitioned() && secure == Secure::Always;
        let partitioned = self.partitioned.unwrap_or_else(inherited);
        let config = CookieConfig { name, same_site, secure, partitioned, ..CookieConfig::default() };
        config.validate()?;
        let (engine, ring) = (core.sealer.engine(), core.sealer.ring().clone());
        let lifetime = Millis::span(self.lifetime);
        let cookie = ShortCookie::new(
            (engine, Purpose::Transient),
            ring,
            &config,
            (lifetime, MAX_BYTES),
            core.sink.clone(),
        );
        let cookie = Arc::new(cookie);
        Ok(Transient { sessions: self.sessions, cookie, of: PhantomData })
    }
}

/// One kind of values that a browser brings back once, within minutes. Cheap to clone. Made by [`Sessions::transient`].
///
/// # Security
/// *Once* holds for a browser, which drops the cookie with the response that carries the removal. Anyone who kept a copy
/// can send it again until it expires: what must not happen twice has to be prevented elsewhere, as a provider accepts an
/// OAuth code only once.
pub struct Transient<T> {
    sessions: Sessions,
    cookie: Arc<ShortCookie>,
    of: PhantomData<fn(T) -> T>,
}

/// A value that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken<T> {
    /// The value.
    pub value: T,
    /// The value of the `Set-Cookie` header that makes the browser forget it. Send it with the response.
    pub removal: String,
}

impl<T: Serialize + DeserializeOwned> Transient<T> {
    /// The value of the `Set-Cookie` header that gives the browser this value, in place of one that it may have.
    ///
    /// # Errors
    /// [`TransientError::TooLarge`], [`TransientError::Encode`].
    pub fn put(&self, value: &T) -> Result<String, TransientError> {
        self.line("", value).map(SetCookie::into_text)
    }

    /// The same under a name that ends in `suffix`, so that a browser can have several: with the `state` of a login, two
    /// tabs do not disturb one another. From 1 to 64 characters of `A-Z a-z 0-9 - _`.
    ///
    /// Returns the values of the `Set-Cookie` headers to send: of this kind's cookies in the request's `Cookie` headers,
    /// only the newest four stay, this one included. Otherwise a page that sends a visitor to the login again and again
    /// would fill the request's head until the server refuses it. (Such a page can push out a login under way, which then
    /// has to be begun again.)
    ///
    /// # Errors
    /// [`TransientError::Suffix`], [`TransientError::TooLarge`], [`TransientError::Encode`].
    pub fn put_for<H: AsRef<[u8]>>(
        &self,
        suffix: &str,
        cookie_headers: impl IntoIterator<Item = H>,
        value: &T,
    ) -> Result<Vec<String>, TransientError> {
        if !short_cookie::is_suffix(suffix) {
            return Err(TransientError::Suffix { suffix: suffix.to_owned() });
        }
        let line = self.line(suffix, value)?;
        let room = self.cookie.make_room(suffix, cookie_headers, false, self.sessions.now());
        Ok([line].into_iter().chain(room).map(SetCookie::into_text).collect())
    }

    /// The value that the request's `Cookie` headers bring, if there is a valid one: sealed here, for this kind, and not
    /// expired. One that no longer reads as a `T`, because a deploy changed it, is none.
    pub fn take<H: AsRef<[u8]>>(&self, cookie_headers: impl IntoIterator<Item = H>) -> Option<Taken<T>> {
        self.taken("", cookie_headers)
    }

    /// The value that was put for this suffix, which may come from anybody: an invalid suffix yields nothing.
    pub fn take_for<H: AsRef<[u8]>>(
        &self,
        suffix: &str,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Option<Taken<T>> {
        if short_cookie::is_suffix(suffix) { self.taken(suffix, cookie_headers) } else { None }
    }

    fn line(&self, suffix: &str, value: &T) -> Result<SetCookie, TransientError> {
        let bytes = value::encode(value).map_err(|source| TransientError::Encode { source })?;
        let line = self.cookie.set(suffix, &bytes, false, self.sessions.now());
        line.map_err(|TooLarge(size)| TransientError::TooLarge { size, limit: self.cookie.max_bytes() })
    }

    fn taken<H: AsRef<[u8]>>(
        &self,
        suffix: &str,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Option<Taken<T>> {
        let Look::Good(bytes) = self.cookie.look(suffix, cookie_headers, self.sessions.now()) else {
            return None;
        };
        let value = value::decode(&bytes).ok()?;
        Some(Taken { value, removal: self.cookie.remove(suffix, false).into_text() })
    }
}

impl<T> Clone for Transient<T> {
    fn clone(&self) -> Self {
        Self { sessions: self.sessions.clone(), cookie: Arc::clone(&self.cookie), of: PhantomData }
    }
}

impl<T> fmt::Debug for Transient<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transient").field(&self.cookie.name()).finish()
    }
}

impl<T> fmt::Debug for TransientBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransientBuilder").field(&self.name).finish_non_exhaustive()
    }
}
