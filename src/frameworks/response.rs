//! What a session does to a response, whatever framework sends it: the headers that it adds, merged with those of the
//! application; the size of the head; and what is left of a response whose session could not be saved.

use std::error::Error;

use crate::core::cookie::{SetCookie, SetCookies};
use crate::core::error::CommitError;
use crate::frameworks::current;
use crate::sessions::Sessions;

/// The header fields that are read or written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    CacheControl,
    ContentType,
    Location,
    Refresh,
    RetryAfter,
    SecureSessionChallenge,
    SecureSessionRegistration,
    SetCookie,
    Vary,
}

pub(crate) const SECURE_SESSION_CHALLENGE: &str = "secure-session-challenge";
pub(crate) const SECURE_SESSION_REGISTRATION: &str = "secure-session-registration";
#[cfg(feature = "device-binding")]
pub(crate) const SECURE_SESSION_ID: &str = "sec-secure-session-id";
#[cfg(feature = "device-binding")]
pub(crate) const SECURE_SESSION_RESPONSE: &str = "secure-session-response";

/// The headers of a framework.
pub(crate) trait Headers {
    type Value: Clone;

    fn fixed(text: &'static str) -> Self::Value;
    /// `None`: these bytes are not allowed in a header.
    fn made(bytes: Vec<u8>) -> Option<Self::Value>;
    fn contains(&self, field: Field) -> bool;
    /// The values of all headers of this name that are text.
    fn texts(&self, field: Field) -> impl Iterator<Item = &str>;
    fn append(&mut self, field: Field, value: Self::Value);
    fn replace(&mut self, field: Field, value: Self::Value);
    /// Removes the headers by which caches of a kind are told something else than by `Cache-Control`.
    fn remove_targeted(&mut self);
}

/// Whether some caches go by this header instead of `Cache-Control`: those of RFC 9213, `CDN-Cache-Control` and what vendors put
/// before it, `Surrogate-Control`, and nginx's.
pub(crate) fn is_targeted(name: &str) -> bool {
    name.ends_with("cdn-cache-control") || ["surrogate-control", "x-accel-expires"].contains(&name)
}

/// Implements [`Headers`] for the `HeaderMap` of a module: all frameworks' have the same shape.
macro_rules! headers_of {
    ($($module:ident)::+) => {
        const _: () = {
            use $($module)::+::{
                CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, REFRESH, RETRY_AFTER, SET_COOKIE, VARY,
            };
            use $crate::frameworks::response::{
                Field, Headers, SECURE_SESSION_CHALLENGE, SECURE_SESSION_REGISTRATION, is_targeted,
            };

            fn name(field: Field) -> HeaderName {
                match field {
                    Field::CacheControl => CACHE_CONTROL,
                    Field::ContentType => CONTENT_TYPE,
                    Field::Location => LOCATION,
                    Field::Refresh => REFRESH,
                    Field::RetryAfter => RETRY_AFTER,
                    Field::SecureSessionChallenge => HeaderName::from_static(SECURE_SESSION_CHALLENGE),
                    Field::SecureSessionRegistration => HeaderName::from_static(SECURE_SESSION_REGISTRATION),
                    Field::SetCookie => SET_COOKIE,
                    Field::Vary => VARY,
                }
            }

            impl Headers for HeaderMap {
                type Value = HeaderValue;

                fn fixed(text: &'static str) -> HeaderValue {
                    HeaderValue::from_static(text)
                }

                fn made(bytes: Vec<u8>) -> Option<HeaderValue> {
                    HeaderValue::try_from(bytes).ok()
                }

                fn contains(&self, field: Field) -> bool {
                    self.contains_key(name(field))
                }

                fn texts(&self, field: Field) -> impl Iterator<Item = &str> {
                    self.get_all(name(field)).into_iter().filter_map(|value| value.to_str().ok())
                }

                fn append(&mut self, field: Field, value: HeaderValue) {
                    self.append(name(field), value);
                }

                fn replace(&mut self, field: Field, value: HeaderValue) {
                    self.insert(name(field), value);
                }

                fn remove_targeted(&mut self) {
                    let targeted: Vec<_> = self.keys().filter(|name| is_targeted(name.as_str())).cloned().collect();
                    for name in targeted {
                        self.remove(name);
                    }
                }
            }
        };
    };
}
pub(crate) use headers_of;

/// The headers that a session adds to its response.
#[derive(Clone)]
pub(crate) struct Additions<V> {
    /// The first, separate because there is seldom another.
    set_cookie: Option<V>,
    others: Vec<V>,
    /// The header about a device.
    device: Option<(Field, V)>,
    cache_headers: bool,
}

impl<V> Additions<V> {
    pub(crate) fn new<H: Headers<Value = V>>(
        sessions: &Sessions,
        mut lines: SetCookies,
        flash: Option<SetCookie>,
    ) -> Self {
        let made = |bytes: Vec<u8>| {
            H::made(bytes).expect("the writer emits visible ASCII only; `build` checks the attributes")
        };
        let value = |line: SetCookie| made(line.into_bytes());
        let cache_headers = sessions.cache_headers();
        let device = lines.device.as_mut().and_then(|device| {
            let registration =
                device.registration.take().map(|line| (Field::SecureSessionRegistration, line));
            registration.or_else(|| Some((Field::SecureSessionChallenge, device.challenge.take()?)))
        });
        let device = device.map(|(field, line)| (field, made(line)));
        if lines.former.is_empty() && flash.is_none() && lines.device.is_none() {
            return Self {
                set_cookie: lines.own.take().map(value),
                others: Vec::new(),
                device,
                cache_headers,
            };
        }
        let mut values = lines.into_lines(flash).map(value);
        let (set_cookie, others) = (values.next(), values.collect());
        Self { set_cookie, others, device, cache_headers }
    }

    pub(crate) fn attach<H: Headers<Value = V>>(self, headers: &mut H) {
        if self.cache_headers {
            vary_by_cookie(headers);
        }
        let sets = self.set_cookie.is_some();
        for line in self.set_cookie.into_iter().chain(self.others) {
            headers.append(Field::SetCookie, line);
        }
        if let Some((field, value)) = self.device {
            headers.append(field, value);
        }
        if sets && self.cache_headers {
            forbid_storing(headers);
        }
    }
}

/// The comma-separated items of all headers of this name.
fn items<H: Headers>(headers: &H, field: Field) -> impl Iterator<Item = &str> {
    headers.texts(field).flat_map(|value| value.split(',')).map(str::trim)
}

pub(crate) fn vary_by_cookie<H: Headers>(headers: &mut H) {
    const COOKIE: &str = "Cookie";

    if !headers.contains(Field::Vary) {
        headers.append(Field::Vary, H::fixed(COOKIE));
        return;
    }
    let tells = |item: &str| item == "*" || item.eq_ignore_ascii_case(COOKIE);
    if items(headers, Field::Vary).any(tells) {
        return;
    }
    // In one line, since middleware such as actix-cors reads the first and drops all others.
    let merged = items(headers, Field::Vary).filter(|item| !item.is_empty()).chain([COOKIE]);
    let merged = merged.collect::<Vec<_>>().join(", ");
    let merged = H::made(merged.into_bytes()).expect("it is made of valid header values");
    headers.replace(Field::Vary, merged);
}

pub(crate) const NO_STORE: &str = "no-store";

/// Directives that permit storing, or that lift `no-store` (RFC 9111, section 5.2.2).
const PERMISSIVE: [&str; 7] = [
    "public",
    "max-age",
    "s-maxage",
    "immutable",
    "must-understand",
    "stale-while-revalidate",
    "stale-if-error",
];

/// Adds `no-store` to what the application said and drops what contradicts it.
fn forbid_storing<H: Headers>(headers: &mut H) {
    const FIELD: Field = Field::CacheControl;

    headers.remove_targeted();
    if !headers.contains(FIELD) {
        headers.replace(FIELD, H::fixed(NO_STORE));
        return;
    }
    let permits = |item: &&str| {
        let directive = item.split('=').next().unwrap_or_default().trim_end();
        PERMISSIVE.iter().any(|permissive| directive.eq_ignore_ascii_case(permissive))
    };
    let forbids = |item: &str| item.eq_ignore_ascii_case(NO_STORE);
    if items(headers, FIELD).any(forbids) && !items(headers, FIELD).any(|item| permits(&item)) {
        return;
    }
    let strict = items(headers, FIELD).filter(|item| !item.is_empty() && !permits(item) && !forbids(item));
    let merged = strict.chain([NO_STORE]).collect::<Vec<_>>().join(", ");
    let merged = H::made(merged.into_bytes()).expect("it is made of valid header values");
    headers.replace(FIELD, merged);
}

/// The assumed head size of a response that an error will make only later.
#[cfg(feature = "actix")]
pub(crate) const UNKNOWN_HEAD: usize = 512;

/// The length of a body, as far as the server states it in the head.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// There is no body, or the headers say it already.
    Said,
    Known(u64),
    Unknown,
}

/// The size of a response's head on HTTP/1 as it will be sent, never underestimated: its lines, with what the server
/// adds. `lines` are the lengths of the names and values.
pub(crate) fn head_bytes(
    reason: &str,
    body: Length,
    has_date: bool,
    lines: impl Iterator<Item = (usize, usize)>,
) -> usize {
    const STATUS_LINE: usize = "HTTP/1.1 200 \r\n".len();
    const TRANSFER_ENCODING: usize = "transfer-encoding: chunked\r\n".len();
    const CONTENT_LENGTH: usize = "content-length: ".len() + "\r\n".len();
    const CONNECTION: usize = "connection: Upgrade, keep-alive\r\n".len();
    const DATE: usize = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".len();
    const END: usize = "\r\n".len();

    let body = match body {
        Length::Said => 0,
        Length::Known(bytes) => CONTENT_LENGTH + bytes.checked_ilog10().unwrap_or(0) as usize + 1,
        Length::Unknown => TRANSFER_ENCODING,
    };
    let date = if has_date { 0 } else { DATE };
    let lines: usize = lines.map(|(name, value)| name + value + ": \r\n".len()).sum();
    STATUS_LINE + reason.len() + body + CONNECTION + date + END + lines
}

/// Whether a response whose session could not be saved keeps a header: cookies of other scopes, with what is said of their
/// device, what lets a page of another origin read the status, or its browser would report a network error instead of a
/// 503, and what a logout has the browser forget. Such a response is not to be stored.
pub(crate) fn outlives_failure(name: &str) -> bool {
    const KEPT: [&str; 6] = [
        "set-cookie",
        SECURE_SESSION_CHALLENGE,
        SECURE_SESSION_REGISTRATION,
        "vary",
        "timing-allow-origin",
        "clear-site-data",
    ];

    KEPT.contains(&name) || ["access-control-", "cross-origin-"].iter().any(|family| name.starts_with(family))
}

/// What a failure is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 500: the application is wrong.
    Internal,
    /// 503: it may work in a moment.
    Unavailable,
    /// 403: it is not permitted.
    Refused,
}

impl Failure {
    /// The one of the three values for this failure.
    pub(crate) fn pick<S>(self, internal: S, unavailable: S, refused: S) -> S {
        match self {
            Self::Internal => internal,
            Self::Unavailable => unavailable,
            Self::Refused => refused,
        }
    }
}

/// The failure of a response whose session could not be saved.
pub(crate) fn failure_of(error: &CommitError) -> Failure {
    match error {
        CommitError::Store(_) | CommitError::NotEnded { .. } | CommitError::Conflict | CommitError::Ended => {
            Failure::Unavailable
        }
        CommitError::TooManySessions => Failure::Refused,
        CommitError::Foreign => Failure::Internal,
    }
}

/// The headers of a response with an empty body for this failure. What went wrong goes only to the log.
pub(crate) fn fail<H: Headers>(error: &dyn Error, failure: Failure, headers: &mut H) {
    if failure == Failure::Refused {
        return refuse(error);
    }
    let status = failure.pick(500, 503, 403);
    let source = error.source().map(tracing::field::display);
    let session = current::log_id().map(tracing::field::display);
    tracing::error!(target: "sealed_session", session, %error, source, "session failure answered with {status}");
    if failure == Failure::Unavailable {
        headers.replace(Field::RetryAfter, H::fixed("1"));
    }
}

/// Logs what is not permitted, so that a 403 can be explained.
pub(crate) fn refuse(error: &dyn Error) {
    let session = current::log_id().map(tracing::field::display);
    tracing::warn!(target: "sealed_session", session, %error, "session failure answered with 403");
}

/// The cookie's removal, where the session could not be ended.
pub(crate) fn remove_cookie<H: Headers>(error: &CommitError, headers: &mut H) {
    // An application may have made this error itself, with an invalid line.
    let CommitError::NotEnded { set_cookies, .. } = error else { return };
    for line in set_cookies.iter().filter_map(|line| H::made(line.clone().into_bytes())) {
        headers.append(Field::SetCookie, line);
        headers.replace(Field::CacheControl, H::fixed(NO_STORE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_large_as_the_server_makes_it() {
        const DATE: &str = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        for (body, line) in [
            (Length::Said, String::new()),
            (Length::Known(0), "content-length: 0\r\n".into()),
            (Length::Known(9), "content-length: 9\r\n".into()),
            (Length::Known(12_345), "content-length: 12345\r\n".into()),
            (Length::Unknown, "transfer-encoding: chunked\r\n".into()),
        ] {
            let head = format!(
                "HTTP/1.1 404 Not Found\r\n{line}connection: Upgrade, keep-alive\r\n{DATE}vary: Cookie\r\nx: \r\n\r\n"
            );
            let lines = [("vary".len(), "Cookie".len()), (1, 0)];
            assert_eq!(head_bytes("Not Found", body, false, lines.into_iter()), head.len(), "{head}");
            // Then it is one of the lines.
            assert_eq!(head_bytes("Not Found", body, true, lines.into_iter()), head.len() - DATE.len());
        }
    }
}
