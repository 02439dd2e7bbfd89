//! The whole of it: a page that counts its visits, in a session sealed into the cookie.
//!
//! `cargo run --example counter`, then open <http://127.0.0.1:8080/>.

use actix_web::{App, HttpServer, web};
use sealed_session::{KeyRing, Session, SessionKey, SessionMiddleware, Sessions};

const VISITS: SessionKey<u32> = SessionKey::new("visits");

async fn index(session: Session) -> actix_web::Result<String> {
    let visits = session.get(VISITS)?.unwrap_or(0) + 1;
    session.insert(VISITS, visits)?;
    Ok(format!("visit {visits}\n"))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Made on the first start, mode 0600; the sessions of a former start stay valid.
    let keys = KeyRing::open_or_create("session.keys")?;
    let sessions = Sessions::builder(keys).build()?;
    println!("http://127.0.0.1:8080/");
    HttpServer::new(move || {
        App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(index))
    })
    .bind(("127.0.0.1", 8080))?
    .run()
    .await?;
    Ok(())
}
