//! A server function of dioxus that counts in the session: `POST /api/add`. Prints its address.

use axum::Router;
use dioxus::prelude::*;
use dioxus_server::FullstackState;
use sealed_session::{Key, KeyRing, Session, SessionLayer, Sessions};

/// Puts so many more into the cart, and tells how many are in it.
#[post("/api/add", session: Session)]
async fn add(count: u32) -> Result<u32> {
    let all = session.get::<u32>("count")?.unwrap_or(0) + count;
    session.insert("count", all)?;
    Ok(all)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::builder(KeyRing::new(Key::generate())).build()?;
    let router = Router::new()
        .register_server_functions()
        .with_state(FullstackState::headless())
        .layer(SessionLayer::new(sessions));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
