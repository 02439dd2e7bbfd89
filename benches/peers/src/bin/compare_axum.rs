//! On axum: sealed-session beside tower-sessions with its memory store, axum-extra's `PrivateCookieJar`, and bare axum; the
//! same payloads, one process, in turns. Prints nanoseconds per request above bare, and the size of the cookie, as JSON.
//!
//! Each payload has routes of its own, so that nothing but the session is extracted from a request. A private cookie
//! knows bytes alone, so what is in it is JSON; an application that would not have a cookie without an end seals one in it
//! itself, which is not counted here.

#[path = "../payload.rs"]
mod payload;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::{RouterIntoService, get};
use axum_extra::extract::cookie::{Cookie, Key, PrivateCookieJar};
use serde_json::json;
use tower::{Service, ServiceExt};

use payload::{Account, account};

const PAYLOADS: [&str; 4] = ["empty", "counter", "cart", "2 KiB"];
const CASES: [&str; 3] = ["untouched", "read", "read + write"];
const ROUNDS: usize = 60;
const CALLS: usize = 400;

async fn untouched() {}

fn changed(mut account: Account) -> Account {
    account.cart[0].quantity = if account.cart[0].quantity == 9 { 8 } else { 9 };
    account
}

fn changed_text(mut text: String) -> String {
    text.replace_range(..1, if text.starts_with('y') { "x" } else { "y" });
    text
}

/// What the handlers do, written once for the libraries that have sessions: one's answers are awaited, the other's not.
macro_rules! handlers {
    ($name:ident, $session:ty $(, .$wait:tt)?) => {
        mod $name {
            use super::*;

            async fn fill(session: $session, payload: &str) {
                match payload {
                    "counter" => session.insert("n", 1_u32)$(.$wait)?.unwrap(),
                    "cart" => session.insert("account", account())$(.$wait)?.unwrap(),
                    "2 KiB" => session.insert("text", "x".repeat(2_048))$(.$wait)?.unwrap(),
                    _ => {}
                }
            }

            async fn read(session: $session, payload: &str) {
                match payload {
                    "counter" => assert!(session.get::<u32>("n")$(.$wait)?.unwrap().is_some()),
                    "cart" => {
                        assert_eq!(session.get::<Account>("account")$(.$wait)?.unwrap().unwrap().id, 4_711)
                    }
                    "2 KiB" => {
                        assert_eq!(session.get::<String>("text")$(.$wait)?.unwrap().unwrap().len(), 2_048)
                    }
                    _ => assert_eq!(session.get::<u32>("n")$(.$wait)?.unwrap(), None),
                }
            }

            async fn write(session: $session, payload: &str) {
                match payload {
                    "counter" => {
                        let n = session.get::<u32>("n")$(.$wait)?.unwrap().unwrap();
                        session.insert("n", n + 1)$(.$wait)?.unwrap();
                    }
                    "cart" => {
                        let account = session.get::<Account>("account")$(.$wait)?.unwrap().unwrap();
                        session.insert("account", &changed(account))$(.$wait)?.unwrap();
                    }
                    "2 KiB" => {
                        let text = session.get::<String>("text")$(.$wait)?.unwrap().unwrap();
                        session.insert("text", &changed_text(text))$(.$wait)?.unwrap();
                    }
                    _ => session.insert("n", 1_u32)$(.$wait)?.unwrap(),
                }
            }

            pub(super) fn router() -> Router {
                PAYLOADS.into_iter().fold(Router::new(), |router, payload| {
                    router
                        .route(&path("fill", payload), get(move |session: $session| fill(session, payload)))
                        .route(&path("untouched", payload), get(untouched))
                        .route(&path("read", payload), get(move |session: $session| read(session, payload)))
                        .route(&path("read + write", payload), get(move |session: $session| write(session, payload)))
                })
            }
        }
    };
}

handlers!(ours, sealed_session::Session);
handlers!(tower_sessions, ::tower_sessions::Session, .await);

mod private_cookie {
    use super::*;

    fn put(jar: PrivateCookieJar, value: String) -> PrivateCookieJar {
        jar.add(Cookie::build(("session", value)).path("/").http_only(true).secure(true))
    }

    async fn fill(jar: PrivateCookieJar, payload: &str) -> PrivateCookieJar {
        match payload {
            "counter" => put(jar, serde_json::to_string(&1_u32).unwrap()),
            "cart" => put(jar, serde_json::to_string(&account()).unwrap()),
            "2 KiB" => put(jar, serde_json::to_string(&"x".repeat(2_048)).unwrap()),
            _ => jar,
        }
    }

    async fn read(jar: PrivateCookieJar, payload: &str) -> PrivateCookieJar {
        let cookie = jar.get("session");
        let value = cookie.as_ref().map_or("", Cookie::value);
        match payload {
            "counter" => assert!(serde_json::from_str::<u32>(value).is_ok()),
            "cart" => assert_eq!(serde_json::from_str::<Account>(value).unwrap().id, 4_711),
            "2 KiB" => assert_eq!(serde_json::from_str::<String>(value).unwrap().len(), 2_048),
            _ => assert!(cookie.is_none()),
        }
        jar
    }

    async fn write(jar: PrivateCookieJar, payload: &str) -> PrivateCookieJar {
        let cookie = jar.get("session");
        let value = cookie.as_ref().map_or("", Cookie::value);
        let value = match payload {
            "counter" => serde_json::to_string(&(serde_json::from_str::<u32>(value).unwrap() + 1)),
            "cart" => serde_json::to_string(&changed(serde_json::from_str(value).unwrap())),
            "2 KiB" => serde_json::to_string(&changed_text(serde_json::from_str(value).unwrap())),
            _ => serde_json::to_string(&1_u32),
        };
        put(jar, value.unwrap())
    }

    pub(super) fn router() -> Router {
        let router = PAYLOADS.into_iter().fold(Router::new(), |router, payload| {
            router
                .route(&path("fill", payload), get(move |jar: PrivateCookieJar| fill(jar, payload)))
                .route(&path("untouched", payload), get(untouched))
                .route(&path("read", payload), get(move |jar: PrivateCookieJar| read(jar, payload)))
                .route(&path("read + write", payload), get(move |jar: PrivateCookieJar| write(jar, payload)))
        });
        router.with_state(Key::generate())
    }
}

fn bare() -> Router {
    PAYLOADS.into_iter().fold(Router::new(), |router, payload| {
        CASES.into_iter().fold(router, |router, case| router.route(&path(case, payload), get(untouched)))
    })
}

/// The route of that case and payload.
fn path(case: &str, payload: &str) -> String {
    format!("/{case}/{payload}").replace([' ', '+'], "")
}

fn request(path: &str, cookie: &str) -> Request<Body> {
    Request::builder().uri(path).header("cookie", cookie).body(Body::empty()).unwrap()
}

/// Name and value, with the `=` between them, of the cookie that the response sets.
async fn set_by<S>(app: &mut S, path: &str, cookie: &str) -> Option<String>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let response = app.ready().await.unwrap().call(request(path, cookie)).await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.status());
    let line = response.headers().get("set-cookie")?.to_str().unwrap();
    Some(line.split(';').next().unwrap().to_owned())
}

async fn round<S>(app: &mut S, path: &str, cookie: &str) -> f64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let requests: Vec<Request<Body>> = (0..CALLS).map(|_| request(path, cookie)).collect();
    let start = Instant::now();
    for request in requests {
        let response = black_box(app.ready().await.unwrap().call(request).await.unwrap());
        assert!(response.status().is_success());
    }
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sessions = |name: &str| {
        let keys = sealed_session::KeyRing::new(sealed_session::Key::generate());
        let sessions = sealed_session::Sessions::builder(keys);
        // Without the feature's AWS-LC, as the others have their ciphers in Rust.
        let sessions = if name == "aws_lc" { sessions } else { sessions.__rust_crypto() };
        sealed_session::SessionLayer::new(sessions.build().unwrap())
    };
    let memory = ::tower_sessions::SessionManagerLayer::new(::tower_sessions::MemoryStore::default());
    let mut peers: [(&str, RouterIntoService<Body>); 4] = [
        ("ours", ours::router().layer(sessions("ours")).into_service()),
        ("aws_lc", ours::router().layer(sessions("aws_lc")).into_service()),
        ("tower_sessions", tower_sessions::router().layer(memory).into_service()),
        ("private_cookie", private_cookie::router().into_service()),
    ];
    let mut bare = bare().into_service::<Body>();
    let mut rows = Vec::new();
    for payload in PAYLOADS {
        let mut own = Vec::new();
        for (_, app) in &mut peers {
            own.push(set_by(app, &path("fill", payload), "other=1").await);
        }
        for case in CASES {
            let path = path(case, payload);
            let mut row = json!({ "payload": payload, "case": case });
            let mut best = [[f64::MAX; 2]; 4];
            for _ in 0..ROUNDS {
                for (((_, app), cookie), best) in peers.iter_mut().zip(&own).zip(&mut best) {
                    let cookie = cookie.as_deref().unwrap_or("other=1");
                    // Each beside bare axum with its own cookie, whose length costs too.
                    best[0] = best[0].min(round(&mut bare, &path, cookie).await);
                    best[1] = best[1].min(round(app, &path, cookie).await);
                }
            }
            for (((name, app), cookie), [bare, with]) in peers.iter_mut().zip(&own).zip(best) {
                let set = set_by(app, &path, cookie.as_deref().unwrap_or("other=1")).await;
                row[*name] = json!(with - bare);
                row[format!("{name}_cookie")] =
                    json!(set.as_ref().or(cookie.as_ref()).map_or(0, |cookie| cookie.len() - 1));
                row["bare"] = json!(bare);
            }
            rows.push(row);
        }
    }
    println!("{}", json!(rows));
}
