//! The guard against other sites: whether a request that may change something was made by a page of this origin.
//!
//! Browsers say so themselves, in headers that no page can set: `Sec-Fetch-Site` (W3C Fetch Metadata), else `Origin` (RFC
//! 6454, section 7). OWASP's cheat sheet on cross-site request forgery names each as a defence in its own right. What is
//! judged, in this order:
//!
//! | the request | verdict |
//! |---|---|
//! | `GET`, `HEAD`, `OPTIONS`, `TRACE`, unless it is a websocket handshake | not judged: these change nothing (RFC 9110, section 9.2.1) |
//! | one trusted `Origin`, unless it is this host and port over plain HTTP and the cookie is `Secure`; it goes first because browsers call siblings and sign-ins `same-site` and `cross-site` | own |
//! | one `Sec-Fetch-Site`: `same-origin`, `none` | own |
//! | one `Sec-Fetch-Site`: `same-site` | as the policy says |
//! | any other `Sec-Fetch-Site`, or several | foreign |
//! | one `Origin` that is the request's own | own |
//! | one `Origin` under the cookie's domain | as the policy says |
//! | any other `Origin`, also `null`, or several | foreign |
//! | neither header | own: no current browser sends this; foreign with `SameSite=None` |

use crate::core::cookie::{CookieConfig, SameSite, Secure};
use crate::core::error::ConfigError;

/// What happens to a request that another site's page made and that may change something: any method but `GET`, `HEAD`,
/// `OPTIONS` and `TRACE`, or a websocket handshake.
///
/// Except with [`Allow`](Self::Allow), such a request cannot start, change or remove a session
/// ([`InsertError::CrossSite`](crate::InsertError::CrossSite)); otherwise a foreign form could log the visitor in to the
/// attacker's account. A request that does not ask for the session is not judged. One with neither header, such as a
/// webhook or a command line, does not count as another site's, except with [`SameSite::None`](crate::SameSite::None).
///
/// # Security
/// This is what OWASP ASVS 5 asks for in 3.5.1. It does not distinguish pages of one origin, and does not help where a
/// `GET` changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrossSite {
    /// It gets 403 in place of a session that an earlier request began. Pages of the same site but another origin, such
    /// as another subdomain, are foreign too. The default, unless the cookie is for subdomains.
    Refuse,
    /// Like [`Refuse`](Self::Refuse), but pages of the same site count as own. The default with
    /// [`domain`](crate::SessionsBuilder::domain). Where a browser does not say what is the same site, as with the handshake of
    /// a websocket, only `domain` tells; without it name such pages by
    /// [`trusted_origin`](crate::SessionsBuilder::trusted_origin) as well.
    AllowSameSite,
    /// It gets an empty session in place of the one that its cookie names, so the handler sees no user.
    Anonymous,
    /// It is treated like any other: something else protects the application, such as a token in every form, including
    /// the login form.
    Allow,
}

/// Why a request counts as another site's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrossSiteReason {
    /// Its headers name a page of another origin.
    OtherSite,
    /// Its page is of this host, but was loaded over plain HTTP, where browsers keep no `Secure` cookie.
    PlainHttp,
    /// It has neither `Origin` nor `Sec-Fetch-Site`, one of which is required with `SameSite=None`.
    Unnamed,
}

/// What is reported of a request that counts as another site's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) reason: CrossSiteReason,
    pub(crate) origin: Option<String>,
    pub(crate) host: Option<String>,
}

/// The header fields that are examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    #[cfg(any(feature = "actix", feature = "tower"))]
    Accept,
    Forwarded,
    Host,
    Origin,
    #[cfg(any(feature = "actix", feature = "tower"))]
    SecFetchMode,
    SecFetchSite,
    Upgrade,
    XForwardedHost,
}

/// The head of a request, whatever the framework.
pub(crate) trait Head {
    fn method(&self) -> &str;
    /// The authority in its URI: `:authority` in HTTP/2, or that of the absolute form.
    fn authority(&self) -> Option<&str>;
    /// The values of all headers of this name.
    fn values(&self, field: Field) -> impl Iterator<Item = &[u8]>;
}

/// Implements [`Head`] for a framework's requests, from its module of HTTP types: all have the same shape.
#[cfg(any(feature = "actix", feature = "tower"))]
macro_rules! request_head {
    ($($module:ident)::+) => {
        #[derive(Clone, Copy)]
        pub(super) struct RequestHead<'a> {
            pub(super) method: &'a $($module)::+::Method,
            pub(super) uri: &'a $($module)::+::Uri,
            pub(super) headers: &'a $($module)::+::header::HeaderMap,
        }

        impl $crate::core::cross_site::Head for RequestHead<'_> {
            fn method(&self) -> &str {
                self.method.as_str()
            }

            fn authority(&self) -> Option<&str> {
                self.uri.authority().map(|authority| authority.as_str())
            }

            fn values(&self, field: $crate::core::cross_site::Field) -> impl Iterator<Item = &[u8]> {
                use $crate::core::cross_site::Field;
                use $($module)::+::header::{ACCEPT, FORWARDED, HOST, HeaderName, ORIGIN, UPGRADE};

                let name = match field {
                    Field::Accept => ACCEPT,
                    Field::Forwarded => FORWARDED,
                    Field::Host => HOST,
                    Field::Origin => ORIGIN,
                    Field::SecFetchMode => HeaderName::from_static("sec-fetch-mode"),
                    Field::SecFetchSite => HeaderName::from_static("sec-fetch-site"),
                    Field::Upgrade => UPGRADE,
                    Field::XForwardedHost => HeaderName::from_static("x-forwarded-host"),
                };
                self.headers.get_all(name).into_iter().map(|value| value.as_bytes())
            }
        }
    };
}
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) use request_head;

/// The policy, and what it has to know of the configuration.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) policy: CrossSite,
    trusted: Box<[Origin]>,
    /// The cookie's domain, in lower case.
    domain: Option<String>,
    forwarded_host: bool,
    /// `SameSite=None`, so nothing else keeps the cookie from other sites' requests.
    sent_to_all: bool,
    /// The cookie is for HTTPS only, so a page loaded over plain HTTP is another origin.
    always_secure: bool,
}

/// The guard's part of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct GuardConfig {
    pub(crate) policy: Option<CrossSite>,
    pub(crate) trusted: Vec<String>,
    pub(crate) forwarded_host: bool,
}

impl GuardConfig {
    pub(crate) fn build(&self, cookie: &CookieConfig) -> Result<Guard, ConfigError> {
        let origin = |text: &String| {
            // As browsers write it, however it was typed.
            let typed = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
            let reason = match text.contains('*') {
                true => "it can have no `*`; for all subdomains set `cross_site(CrossSite::AllowSameSite)`",
                false => "it must be a scheme, a host and no more, such as `https://app.example.com`",
            };
            Origin::parse(typed.as_bytes()).ok_or_else(|| ConfigError::Origin { value: text.clone(), reason })
        };
        let trusted = self.trusted.iter().map(origin).collect::<Result<_, _>>()?;
        let domain =
            cookie.domain.as_deref().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
        let default = if domain.is_some() { CrossSite::AllowSameSite } else { CrossSite::Refuse };
        Ok(Guard {
            policy: self.policy.unwrap_or(default),
            trusted,
            domain,
            forwarded_host: self.forwarded_host,
            sent_to_all: cookie.same_site == SameSite::None,
            always_secure: cookie.secure == Secure::Always,
        })
    }
}

impl Guard {
    /// What to log if another site's page made this request and it may change something; otherwise `None`.
    pub(crate) fn foreign(&self, head: &impl Head) -> Option<Foreign> {
        let is_foreign = self.policy != CrossSite::Allow && is_judged(head) && !self.is_own(head);
        is_foreign.then(|| self.explained(head))
    }

    fn explained(&self, head: &impl Head) -> Foreign {
        let origin = only(head, Field::Origin);
        let reason = match (only(head, Field::SecFetchSite), origin) {
            (Values::None, Values::None) => CrossSiteReason::Unnamed,
            (_, Values::One(text))
                if Origin::parse(text).is_some_and(|own| self.lacks_cookie(&own, head)) =>
            {
                CrossSiteReason::PlainHttp
            }
            _ => CrossSiteReason::OtherSite,
        };
        let origin = match origin {
            Values::One(text) => Some(excerpt(&String::from_utf8_lossy(text))),
            Values::None | Values::Several => None,
        };
        Foreign { reason, origin, host: self.addressed(head).map(|host| excerpt(&host)) }
    }

    /// Whether the page is of this host, but of a scheme for which its browser has no cookie.
    fn lacks_cookie(&self, origin: &Origin, head: &impl Head) -> bool {
        !self.may_have_cookie(origin) && self.is_addressed(origin, head)
    }

    fn is_own(&self, head: &impl Head) -> bool {
        let (site, origin) = (only(head, Field::SecFetchSite), only(head, Field::Origin));
        let parsed = match origin {
            Values::One(value) => Origin::parse(value),
            _ => None,
        };
        // A page of this host over plain HTTP could log in, but would get no cookie. Where the port is the same, the request
        // came over plain HTTP too.
        if parsed.as_ref().is_some_and(|origin| {
            self.trusted.contains(origin) && !(origin.port != Some(80) && self.lacks_cookie(origin, head))
        }) {
            return true;
        }
        match (site, origin) {
            (Values::One(b"same-origin" | b"none"), _) => true,
            (Values::One(b"same-site"), _) => self.policy == CrossSite::AllowSameSite,
            (Values::One(_) | Values::Several, _) => false,
            (Values::None, Values::One(_)) => parsed.is_some_and(|origin| {
                self.may_have_cookie(&origin)
                    && (self.is_addressed(&origin, head)
                        || (self.policy == CrossSite::AllowSameSite && self.is_sibling(&origin)))
            }),
            (Values::None, Values::Several) => false,
            (Values::None, Values::None) => !self.sent_to_all,
        }
    }

    /// Whether a page of that scheme could have the cookie: plain HTTP gets no `Secure` one.
    fn may_have_cookie(&self, origin: &Origin) -> bool {
        !self.always_secure || origin.scheme == "https" || is_loopback(&origin.host)
    }

    /// Whether the cookie is for the origin's host too.
    fn is_sibling(&self, origin: &Origin) -> bool {
        self.domain.as_deref().is_some_and(|domain| {
            let sub = origin.host.strip_suffix(domain);
            sub.is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
        })
    }

    /// The authority that the request is addressed to.
    fn addressed(&self, head: &impl Head) -> Option<String> {
        let forwarded = if self.forwarded_host { forwarded_host(head) } else { None };
        match (forwarded, head.authority(), only(head, Field::Host)) {
            (Some(host), ..) => Some(host),
            // It takes precedence over `Host` (RFC 9112, section 3.2.2).
            (None, Some(authority), _) => Some(authority.to_owned()),
            (None, None, Values::One(host)) => str::from_utf8(host).ok().map(str::to_owned),
            (None, None, _) => None,
        }
    }

    /// Whether the request is addressed to that origin.
    fn is_addressed(&self, origin: &Origin, head: &impl Head) -> bool {
        let Some(addressed) = self.addressed(head) else { return false };
        let Some((host, port)) = host_and_port(&addressed) else { return false };
        origin.host.eq_ignore_ascii_case(host) && origin.port == port.or(origin.default_port())
    }
}

/// Whether a request may change something.
fn is_judged(head: &impl Head) -> bool {
    match head.method() {
        // A websocket handshake, with which browsers send cookies from any page (RFC 6455, section 10.2).
        "GET" => head.values(Field::Upgrade).any(|value| {
            value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(b"websocket"))
        }),
        "HEAD" | "OPTIONS" | "TRACE" => false,
        _ => true,
    }
}

/// As much of a header as the log has room for.
fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    None,
    One(&'a [u8]),
    Several,
}

/// The value of a header that may occur only once.
pub(crate) fn only(head: &impl Head, field: Field) -> Values<'_> {
    let mut values = head.values(field);
    match (values.next(), values.next()) {
        (None, _) => Values::None,
        (Some(value), None) => Values::One(value),
        (Some(_), Some(_)) => Values::Several,
    }
}

/// What the first proxy was addressed as: `Forwarded` (RFC 7239), else `X-Forwarded-Host`.
fn forwarded_host(head: &impl Head) -> Option<String> {
    let texts = |field| head.values(field).filter_map(|value| str::from_utf8(value).ok());
    let first = texts(Field::Forwarded).next().and_then(|line| line.split(',').next());
    let told = first.into_iter().flat_map(|element| element.split(';')).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("host").then(|| value.trim().trim_matches('"'))
    });
    let other = || texts(Field::XForwardedHost).next().and_then(|line| line.split(',').next()).map(str::trim);
    told.or_else(other).map(str::to_owned)
}

/// An origin as a browser serializes it: no path, no user, no default port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// `None` for `null`, and where anything but the host is not in lower case.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = !scheme.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        let (host, port) = host_and_port(rest)?;
        let mut origin = Self { scheme: scheme.to_owned(), host: host.to_ascii_lowercase(), port };
        origin.port = port.or(origin.default_port());
        is_scheme.then_some(origin)
    }

    fn default_port(&self) -> Option<u16> {
        match self.scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        }
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`; `None` for anything else.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, port) = text.split_at(end);
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._~[]:%".contains(&b);
    if host.is_empty() || !host.bytes().all(is_host) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        None => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

/// Whether browsers take `Secure` cookies from this host over plain HTTP (Secure Contexts, section 3.1).
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
