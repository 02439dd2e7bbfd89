//! tower-sessions with its memory store on axum, beside bare axum: nanoseconds and allocations per request above bare.

#[path = "../payload.rs"]
mod payload;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{Request, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tower::{Service, ServiceExt};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

use payload::{Account, account};

#[derive(Deserialize)]
struct Payload {
    p: String,
}

async fn fill(session: Session, payload: Query<Payload>) {
    match payload.p.as_str() {
        "counter" => session.insert("n", 1_u32).await.unwrap(),
        "cart" => session.insert("account", account()).await.unwrap(),
        _ => session.insert("text", "x".repeat(2_048)).await.unwrap(),
    }
}

async fn untouched() {}

async fn read(session: Session, payload: Query<Payload>) {
    match payload.p.as_str() {
        "counter" => assert!(session.get::<u32>("n").await.unwrap().is_some()),
        "cart" => assert_eq!(session.get::<Account>("account").await.unwrap().unwrap().id, 4_711),
        _ => assert_eq!(session.get::<String>("text").await.unwrap().unwrap().len(), 2_048),
    }
}

async fn write(session: Session, payload: Query<Payload>) {
    match payload.p.as_str() {
        "counter" => {
            let n = session.get::<u32>("n").await.unwrap().unwrap();
            session.insert("n", n + 1).await.unwrap();
        }
        "cart" => {
            let mut account = session.get::<Account>("account").await.unwrap().unwrap();
            account.cart[0].quantity = if account.cart[0].quantity == 9 { 8 } else { 9 };
            session.insert("account", &account).await.unwrap();
        }
        _ => {
            let mut text = session.get::<String>("text").await.unwrap().unwrap();
            text.replace_range(..1, if text.starts_with('y') { "x" } else { "y" });
            session.insert("text", &text).await.unwrap();
        }
    }
}

const ROUNDS: usize = 60;
const CALLS: usize = 400;

async fn round<S>(app: &mut S, path: &str, payload: &str, cookie: &str) -> f64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let build = || {
        let uri = format!("/{path}?p={payload}");
        Request::builder().uri(uri).header("cookie", cookie).body(Body::empty()).unwrap()
    };
    let requests: Vec<Request<Body>> = (0..CALLS).map(|_| build()).collect();
    let start = Instant::now();
    for request in requests {
        let response = black_box(app.ready().await.unwrap().call(request).await.unwrap());
        assert!(response.status().is_success());
    }
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let router = || {
        Router::new()
            .route("/fill", get(fill))
            .route("/untouched", get(untouched))
            .route("/read", get(read))
            .route("/write", get(write))
    };
    let layer = SessionManagerLayer::new(MemoryStore::default());
    let mut bare = router().into_service::<Body>();
    let mut theirs = router().layer(layer).into_service::<Body>();
    let mut rows = Vec::new();
    for payload in ["counter", "cart", "2KiB"] {
        let request = Request::builder().uri(format!("/fill?p={payload}")).body(Body::empty()).unwrap();
        let response = theirs.ready().await.unwrap().call(request).await.unwrap();
        let line = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        let cookie = line.split(';').next().unwrap();
        for (case, path) in [("untouched", "untouched"), ("read", "read"), ("read + write", "write")] {
            let mut best = [f64::MAX; 2];
            for _ in 0..ROUNDS {
                best[0] = best[0].min(round(&mut bare, "untouched", payload, cookie).await);
                best[1] = best[1].min(round(&mut theirs, path, payload, cookie).await);
            }
            rows.push(json!({
                "payload": if payload == "2KiB" { "2 KiB" } else { payload }, "case": case, "bare": best[0],
                "tower_sessions": best[1] - best[0], "tower_sessions_cookie": cookie.len() - 1,
            }));
        }
    }
    println!("{}", json!(rows));
}
