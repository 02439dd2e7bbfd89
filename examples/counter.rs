//! The thirty lines of the README: visits, login, logout, in a session sealed into the cookie.
//!
//! `cargo run --example counter`, then open <http://127.0.0.1:8080/>, or
//! `curl -c jar -b jar -X POST http://127.0.0.1:8080/login`.

use actix_web::web::{get, post};
use actix_web::{App, HttpServer, Result};
use sealed_session::{KeyRing, Session, SessionMiddleware, Sessions};

async fn index(session: Session) -> Result<String> {
    let visits = session.increment("visits", 1)?;
    Ok(format!("visit {visits} of {}", session.subject().unwrap_or("nobody".into())))
}

async fn login(session: Session) -> Result<&'static str> {
    session.authenticate("ada")?; // once the password is checked; the session gets a new id
    Ok("welcome")
}

async fn logout(session: Session) -> &'static str {
    session.destroy();
    "bye"
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::builder(KeyRing::open_or_create("session.keys")?).build()?;
    let app = move || {
        let app = App::new().wrap(SessionMiddleware::new(sessions.clone()));
        app.route("/", get().to(index)).route("/login", post().to(login)).route("/logout", post().to(logout))
    };
    HttpServer::new(app).bind(("127.0.0.1", 8080))?.run().await?;
    Ok(())
}
