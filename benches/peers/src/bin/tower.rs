//! tower-sessions with its memory store on axum, beside bare axum: nanoseconds per request above bare, and the size of
//! the cookie. Each payload has routes of its own, so that nothing but the session is extracted from a request.

#[path = "../payload.rs"]
mod payload;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::get;
use serde_json::json;
use tower::{Service, ServiceExt};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

use payload::{Account, account};

async fn fill(session: Session, payload: &str) {
    match payload {
        "counter" => session.insert("n", 1_u32).await.unwrap(),
        "cart" => session.insert("account", account()).await.unwrap(),
        "2 KiB" => session.insert("text", "x".repeat(2_048)).await.unwrap(),
        _ => {}
    }
}

async fn untouched() {}

async fn read(session: Session, payload: &str) {
    match payload {
        "counter" => assert!(session.get::<u32>("n").await.unwrap().is_some()),
        "cart" => assert_eq!(session.get::<Account>("account").await.unwrap().unwrap().id, 4_711),
        "2 KiB" => assert_eq!(session.get::<String>("text").await.unwrap().unwrap().len(), 2_048),
        _ => assert_eq!(session.get::<u32>("n").await.unwrap(), None),
    }
}

async fn write(session: Session, payload: &str) {
    match payload {
        "counter" => {
            let n = session.get::<u32>("n").await.unwrap().unwrap();
            session.insert("n", n + 1).await.unwrap();
        }
        "cart" => {
            let mut account = session.get::<Account>("account").await.unwrap().unwrap();
            account.cart[0].quantity = if account.cart[0].quantity == 9 { 8 } else { 9 };
            session.insert("account", &account).await.unwrap();
        }
        "2 KiB" => {
            let mut text = session.get::<String>("text").await.unwrap().unwrap();
            text.replace_range(..1, if text.starts_with('y') { "x" } else { "y" });
            session.insert("text", &text).await.unwrap();
        }
        _ => session.insert("n", 1_u32).await.unwrap(),
    }
}

const PAYLOADS: [&str; 4] = ["empty", "counter", "cart", "2 KiB"];
const CASES: [&str; 3] = ["untouched", "read", "read + write"];
const ROUNDS: usize = 60;
const CALLS: usize = 400;

/// The route of that case and payload.
fn path(case: &str, payload: &str) -> String {
    format!("/{case}/{payload}").replace([' ', '+'], "")
}

fn router() -> Router {
    PAYLOADS.into_iter().fold(Router::new(), |router, payload| {
        router
            .route(&path("fill", payload), get(move |session: Session| fill(session, payload)))
            .route(&path("untouched", payload), get(untouched))
            .route(&path("read", payload), get(move |session: Session| read(session, payload)))
            .route(&path("read + write", payload), get(move |session: Session| write(session, payload)))
    })
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
    let layer = SessionManagerLayer::new(MemoryStore::default());
    let mut bare = router().into_service::<Body>();
    let mut theirs = router().layer(layer).into_service::<Body>();
    let mut rows = Vec::new();
    for payload in PAYLOADS {
        let own = set_by(&mut theirs, &path("fill", payload), "other=1").await;
        let header = own.as_deref().unwrap_or("other=1");
        for case in CASES {
            let set = set_by(&mut theirs, &path(case, payload), header).await;
            let mut best = [f64::MAX; 2];
            for _ in 0..ROUNDS {
                best[0] = best[0].min(round(&mut bare, &path("untouched", payload), header).await);
                best[1] = best[1].min(round(&mut theirs, &path(case, payload), header).await);
            }
            rows.push(json!({
                "payload": payload, "case": case, "bare": best[0], "tower_sessions": best[1] - best[0],
                "tower_sessions_cookie": set.or(own.clone()).map_or(0, |cookie| cookie.len() - 1),
            }));
        }
    }
    println!("{}", json!(rows));
}
