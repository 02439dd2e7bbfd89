//! Two sessions side by side: visitors of the site, and its administrators with an hour and a stricter cookie.
//!
//! `cargo run --example scoped`, then http://127.0.0.1:8080/. Logging out of one leaves the other alone, and a cookie of
//! the one is worth nothing under the name of the other.

use std::time::Duration;

use actix_web::web::{get, post};
use actix_web::{App, HttpResponse, HttpServer, Responder, Result};
use sealed_session::{KeyRing, Lifetime, SameSite, Scoped, Session, SessionMiddleware, Sessions};

/// Names the scope; it is never made.
enum Admin {}

async fn index(site: Session, admin: Scoped<Admin>) -> Result<impl Responder> {
    let visits = site.increment("visits", 1)?;
    let who = admin.subject().unwrap_or_else(|| "nobody".into());
    Ok(format!("visit {visits} of the site; its administrator is {who}\n"))
}

async fn login(admin: Scoped<Admin>) -> Result<impl Responder> {
    admin.authenticate("root")?; // once the password and the second factor are checked
    Ok("logged in\n")
}

async fn logout(admin: Scoped<Admin>) -> impl Responder {
    admin.destroy();
    HttpResponse::NoContent()
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = KeyRing::open_or_create("session.keys")?;
    let site = Sessions::builder(keys.clone()).lifetime(Lifetime::aal1()).build()?;
    let admin = Sessions::builder(keys)
        .cookie_name("__Host-Http-admin")
        .same_site(SameSite::Strict)
        .persistent(false)
        .lifetime(Lifetime::new(Duration::from_secs(3600)).fixed())
        .build()?;
    let app = move || {
        App::new()
            .wrap(SessionMiddleware::new(site.clone()))
            .wrap(SessionMiddleware::scoped::<Admin>(admin.clone()))
            .route("/", get().to(index))
            .route("/admin/login", post().to(login))
            .route("/admin/logout", post().to(logout))
    };
    HttpServer::new(app).bind(("127.0.0.1", 8080))?.run().await?;
    Ok(())
}
