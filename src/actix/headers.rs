//! The headers that a session adds to a response, merged with those of the application.

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{CACHE_CONTROL, DATE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY};

use crate::cookie::SetCookie;
use crate::sessions::Sessions;

/// What is taken for the head of a response that an error will make only later.
pub(super) const UNKNOWN_HEAD: usize = 512;

/// The size of the response's head on HTTP/1 as it will be sent, and never less: with what the server adds.
pub(super) fn head_bytes<B: MessageBody>(response: &ServiceResponse<B>) -> usize {
    const STATUS_LINE: usize = "HTTP/1.1 200 \r\n".len();
    const TRANSFER_ENCODING: usize = "transfer-encoding: chunked\r\n".len();
    const CONTENT_LENGTH: usize = "content-length: ".len() + "\r\n".len();
    const CONNECTION: usize = "connection: Upgrade, keep-alive\r\n".len();
    const DATE_LINE: usize = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".len();
    const END: usize = "\r\n".len();

    let (head, headers) = (response.response().head(), response.headers());
    let body = match response.response().body().size() {
        BodySize::None => 0,
        BodySize::Sized(bytes) => CONTENT_LENGTH + bytes.checked_ilog10().unwrap_or(0) as usize + 1,
        BodySize::Stream => TRANSFER_ENCODING,
    };
    let date = if headers.contains_key(DATE) { 0 } else { DATE_LINE };
    let lines: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    STATUS_LINE + head.reason().len() + body + CONNECTION + date + END + lines
}

/// The headers that a session adds to its response.
#[derive(Clone)]
pub(super) struct Additions {
    set_cookie: Option<HeaderValue>,
    cache_headers: bool,
}

impl Additions {
    pub(super) fn new(sessions: &Sessions, set_cookie: Option<SetCookie>) -> Self {
        let set_cookie = set_cookie.map(|line| {
            HeaderValue::try_from(line.into_bytes())
                .expect("the writer emits visible ASCII only; `build` checks the attributes")
        });
        Self { set_cookie, cache_headers: sessions.cache_headers() }
    }

    pub(super) fn attach(self, headers: &mut HeaderMap) {
        if self.cache_headers {
            vary_by_cookie(headers);
        }
        if let Some(line) = self.set_cookie {
            headers.append(SET_COOKIE, line);
            if self.cache_headers {
                forbid_storing(headers);
            }
        }
    }
}

/// The comma-separated items of all headers of this name.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn vary_by_cookie(headers: &mut HeaderMap) {
    let told = items(headers, VARY).any(|item| item == "*" || item.eq_ignore_ascii_case("cookie"));
    if !told {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

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
fn forbid_storing(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return;
    }
    let permits = |item: &&str| {
        let directive = item.split('=').next().unwrap_or_default().trim_end();
        PERMISSIVE.iter().any(|permissive| directive.eq_ignore_ascii_case(permissive))
    };
    let forbids = |item: &str| item.eq_ignore_ascii_case("no-store");
    if items(headers, CACHE_CONTROL).any(forbids) && !items(headers, CACHE_CONTROL).any(|item| permits(&item))
    {
        return;
    }
    let strict =
        items(headers, CACHE_CONTROL).filter(|item| !item.is_empty() && !permits(item) && !forbids(item));
    let merged = strict.chain(["no-store"]).collect::<Vec<_>>().join(", ");
    let merged = HeaderValue::try_from(merged).expect("it is made of valid header values");
    headers.insert(CACHE_CONTROL, merged);
}
