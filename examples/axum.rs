//! The thirty lines of the README on axum: visits, login, logout, in a session sealed into the cookie.
//!
//! `cargo run --features axum --example axum`, then open <http://127.0.0.1:8080/>, or
//! `curl -c jar -b jar -X POST http://127.0.0.1:8080/login`.

use axum::{Router, routing::get, routing::post};
use sealed_session::{InsertError, KeyRing, Session, SessionLayer, Sessions};

async fn index(session: Session) -> Result<String, InsertError> {
    let visits = session.increment("visits", 1)?;
    Ok(format!("visit {visits} of {}", session.subject().unwrap_or("nobody".into())))
}

async fn login(session: Session) -> Result<&'static str, InsertError> {
    session.authenticate("ada")?; // once the password is checked; the session gets a new id
    Ok("welcome")
}

async fn logout(session: Session) -> &'static str {
    session.destroy();
    "bye"
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::builder(KeyRing::open_or_create("session.keys")?).build()?;
    let app =
        Router::new().route("/", get(index)).route("/login", post(login)).route("/logout", post(logout));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 8080)).await?;
    axum::serve(listener, app.layer(SessionLayer::new(sessions))).await?;
    Ok(())
}
