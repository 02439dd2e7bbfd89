//! `stored` on axum: one server with two threads, whose sessions are in Redis: `stored_axum ours URL` or
//! `stored_axum tower-sessions URL`, with the routes /fill/{bytes}, /read and /write. Prints its address.

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};

/// Whatever has data is in the store then.
const SPILL_ABOVE: usize = 300;

mod ours {
    use super::*;
    use sealed_session::store::RedisStore;
    use sealed_session::{KeyRing, Session, Sessions};

    async fn fill(session: Session, Path(bytes): Path<usize>) {
        session.insert("n", 0).unwrap();
        session.insert("filler", "x".repeat(bytes)).unwrap();
    }

    async fn read(session: Session) -> Json<Option<i64>> {
        Json(session.get("n").unwrap())
    }

    async fn write(session: Session) -> Json<i64> {
        Json(session.increment("n", 1).unwrap())
    }

    pub(super) async fn router(url: &str) -> Router {
        let keys = KeyRing::new(sealed_session::Key::generate());
        let store = RedisStore::connect(url).await.unwrap();
        let sessions = Sessions::builder(keys).__rust_crypto().store(store).spill_above(SPILL_ABOVE);
        Router::new()
            .route("/fill/{bytes}", get(fill))
            .route("/read", get(read))
            .route("/write", get(write))
            .layer(sealed_session::SessionLayer::new(sessions.build().unwrap()))
    }
}

mod tower_sessions {
    use super::*;
    use tower_sessions_redis_store::RedisStore;
    use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};
    use tower_sessions_with_redis::{Session, SessionManagerLayer};

    /// As many as the threads of the server.
    const CONNECTIONS: usize = 2;

    async fn fill(session: Session, Path(bytes): Path<usize>) {
        session.insert("n", 0).await.unwrap();
        session.insert("filler", "x".repeat(bytes)).await.unwrap();
    }

    async fn read(session: Session) -> Json<Option<i64>> {
        Json(session.get("n").await.unwrap())
    }

    async fn write(session: Session) -> Json<i64> {
        let n = session.get::<i64>("n").await.unwrap().unwrap_or(0) + 1;
        session.insert("n", n).await.unwrap();
        Json(n)
    }

    pub(super) async fn router(url: &str) -> Router {
        let pool = Pool::new(Config::from_url(url).unwrap(), None, None, None, CONNECTIONS).unwrap();
        pool.connect();
        pool.wait_for_connect().await.unwrap();
        Router::new()
            .route("/fill/{bytes}", get(fill))
            .route("/read", get(read))
            .route("/write", get(write))
            .layer(SessionManagerLayer::new(RedisStore::new(pool)))
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (which, url) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let router = match which.as_str() {
        "ours" => ours::router(&url).await,
        "tower-sessions" => tower_sessions::router(&url).await,
        _ => {
            return Err(std::io::Error::other(
                "which one: ours or tower-sessions, and the address of Redis?",
            ));
        }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router).await
}
