//! What the cookie is called, and its attributes.

use super::SessionsBuilder;
use crate::core::cookie::{SameSite, Secure};

impl SessionsBuilder {
    /// The cookie's name; the default is `__Host-Http-session`.
    ///
    /// # Security
    /// Browsers hold a name with the prefix `__Host-` to `Secure`, path `/` and no domain, so that no other site or
    /// subdomain can plant it (draft RFC 6265bis, section 4.1.3); `__Http-` to `HttpOnly` and `Secure`, `__Host-Http-` to all
    /// of these (draft-ietf-httpbis-layered-cookies, section 4.1.3). A cookie is bound to its name: moved to another one it is refused.
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

    /// A path and a domain that an earlier release gave the cookie; it may be called several times. None by default.
    ///
    /// After a change of [`path`](Self::path) or [`domain`](Self::domain) a browser holds two cookies of this name, and to
    /// remove the new one leaves the old, with which the user is still logged in. So `destroy`, and each cookie that is
    /// issued to a browser which sends several, remove those named here too. Keep it for as long as their sessions last.
    /// (A change of [`partitioned`](Self::partitioned) leaves one in another jar, which this does not reach.)
    ///
    /// ```
    /// # use sealed_session::{Key, KeyRing, Sessions};
    /// let sessions = Sessions::builder(KeyRing::new(Key::generate()))
    ///     .cookie_name("session")
    ///     .domain("example.com")
    ///     .formerly("/", None) // before there were subdomains
    ///     .build()?;
    /// # Ok::<(), sealed_session::ConfigError>(())
    /// ```
    ///
    /// # Security
    /// Without a store a copy of the old cookie stays valid until it ends, as after any logout. With one
    /// [`destroy`](crate::Session::destroy) ends each session whose cookie the request brings, named here or not, up to eight.
    pub fn formerly(mut self, path: impl Into<String>, domain: Option<&str>) -> Self {
        self.cookie.formerly.push((path.into(), domain.map(str::to_owned)));
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

    /// The `SameSite` attribute; the default is [`SameSite::Lax`]. With [`SameSite::None`] a request that may change
    /// something has to say by `Origin` or `Sec-Fetch-Site` where it comes from, as browsers do
    /// ([`cross_site`](Self::cross_site)).
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
}
