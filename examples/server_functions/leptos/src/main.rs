//! A server function of leptos that counts in the session: `POST /api/add`. Prints its address.

use axum::Router;
use axum::routing::post;
use leptos::prelude::*;
use sealed_session::{Key, KeyRing, Session, SessionLayer, Sessions};

/// Puts so many more into the cart, and tells how many are in it.
#[server(prefix = "/api", endpoint = "add")]
async fn add(count: u32) -> Result<u32, ServerFnError> {
    let session: Session = leptos_axum::extract().await?;
    let all = session.get::<u32>("count")?.unwrap_or(0) + count;
    session.insert("count", all)?;
    Ok(all)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::builder(KeyRing::new(Key::generate())).build()?;
    let router = Router::new()
        .route("/api/{*function}", post(leptos_axum::handle_server_fns))
        .layer(SessionLayer::new(sessions));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
