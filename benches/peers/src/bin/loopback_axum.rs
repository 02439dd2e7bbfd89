//! `loopback` on axum: one server with one thread, for a load generator: `loopback_axum bare`, `ours`, `tower-sessions` (in
//! its memory store) or `private-cookie` (axum-extra's `PrivateCookieJar`), with the routes /untouched, /read and /write.
//! Prints its address.
//!
//! All answer alike: the number in the session, or that number and one, as JSON. Bare knows no session and answers what
//! the others do if the number is 3.

use axum::routing::get;
use axum::{Json, Router};
use axum_extra::extract::cookie::{Cookie, Key, PrivateCookieJar};

async fn untouched() {}

mod ours {
    use super::*;
    use sealed_session::Session;

    async fn read(session: Session) -> Json<Option<u32>> {
        Json(session.get("n").unwrap())
    }

    async fn write(session: Session) -> Json<u32> {
        let n = session.get::<u32>("n").unwrap().unwrap_or(0) + 1;
        session.insert("n", n).unwrap();
        Json(n)
    }

    pub(super) fn router() -> Router {
        let keys = sealed_session::KeyRing::new(sealed_session::Key::generate());
        let sessions = sealed_session::Sessions::builder(keys).__rust_crypto().build().unwrap();
        Router::new()
            .route("/untouched", get(untouched))
            .route("/read", get(read))
            .route("/write", get(write))
            .layer(sealed_session::SessionLayer::new(sessions))
    }
}

mod tower_sessions {
    use super::*;
    use ::tower_sessions::{MemoryStore, Session, SessionManagerLayer};

    async fn read(session: Session) -> Json<Option<u32>> {
        Json(session.get("n").await.unwrap())
    }

    async fn write(session: Session) -> Json<u32> {
        let n = session.get::<u32>("n").await.unwrap().unwrap_or(0) + 1;
        session.insert("n", n).await.unwrap();
        Json(n)
    }

    pub(super) fn router() -> Router {
        Router::new()
            .route("/untouched", get(untouched))
            .route("/read", get(read))
            .route("/write", get(write))
            .layer(SessionManagerLayer::new(MemoryStore::default()))
    }
}

mod private_cookie {
    use super::*;

    fn number(jar: &PrivateCookieJar) -> Option<u32> {
        serde_json::from_str(jar.get("session")?.value()).ok()
    }

    async fn read(jar: PrivateCookieJar) -> Json<Option<u32>> {
        Json(number(&jar))
    }

    async fn write(jar: PrivateCookieJar) -> (PrivateCookieJar, Json<u32>) {
        let n = number(&jar).unwrap_or(0) + 1;
        let cookie = Cookie::build(("session", n.to_string())).path("/").http_only(true).secure(true);
        (jar.add(cookie), Json(n))
    }

    pub(super) fn router() -> Router {
        Router::new()
            .route("/untouched", get(untouched))
            .route("/read", get(read))
            .route("/write", get(write))
            .with_state(Key::generate())
    }
}

fn bare() -> Router {
    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(async || Json(Some(3_u32))))
        .route("/write", get(async || Json(4_u32)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let router = match std::env::args().nth(1).unwrap_or_default().as_str() {
        "bare" => bare(),
        "ours" => ours::router(),
        "tower-sessions" => tower_sessions::router(),
        "private-cookie" => private_cookie::router(),
        _ => return Err(std::io::Error::other("which one: bare, ours, tower-sessions or private-cookie?")),
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router).await
}
