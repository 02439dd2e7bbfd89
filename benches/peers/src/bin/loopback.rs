//! One server with one worker, for a load generator: `loopback bare`, `loopback ours`, `loopback plain` or
//! `loopback actix-session`, with the routes /untouched, /read and /write. Prints its address.
//!
//! "Plain" is sealed-session sending what actix-session sends by default: the cookie `id` without `Max-Age`, and no
//! headers for caches. All answer alike: the number in the session, or that number and one, as JSON. Bare knows no session
//! and answers what the others do if the number is 3.

use actix_session::storage::CookieSessionStore;
use actix_web::{App, HttpResponse, HttpServer, web};

async fn untouched() -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn bare_read() -> HttpResponse {
    HttpResponse::Ok().json(Some(3_u32))
}

async fn bare_write() -> HttpResponse {
    HttpResponse::Ok().json(4_u32)
}

/// What the handlers do, written once for both libraries.
macro_rules! handlers {
    ($name:ident, $session:ty) => {
        mod $name {
            use super::*;

            async fn read(session: $session) -> HttpResponse {
                HttpResponse::Ok().json(session.get::<u32>("n").unwrap())
            }

            async fn write(session: $session) -> HttpResponse {
                let n = session.get::<u32>("n").unwrap().unwrap_or(0) + 1;
                session.insert("n", n).unwrap();
                HttpResponse::Ok().json(n)
            }

            pub(super) fn routes(config: &mut web::ServiceConfig) {
                config
                    .route("/untouched", web::get().to(untouched))
                    .route("/read", web::get().to(read))
                    .route("/write", web::get().to(write));
            }
        }
    };
}

handlers!(ours, sealed_session::Session);
handlers!(theirs, actix_session::Session);

/// Serves with one worker on a free port, which it prints.
macro_rules! serve {
    ($app:expr) => {{
        let server = HttpServer::new($app).workers(1).bind(("127.0.0.1", 0))?;
        println!("listening on http://{}", server.addrs()[0]);
        server.run().await
    }};
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let which = std::env::args().nth(1).unwrap_or_default();
    let keys = sealed_session::KeyRing::new(sealed_session::Key::generate());
    let sessions = sealed_session::Sessions::builder(keys).__rust_crypto();
    let sessions = match which.as_str() {
        "plain" => sessions.cookie_name("id").cache_headers(false).persistent(false),
        _ => sessions,
    };
    let middleware = sealed_session::SessionMiddleware::new(sessions.build().unwrap());
    let key = actix_web::cookie::Key::generate();
    match which.as_str() {
        "bare" => serve!(|| {
            App::new()
                .route("/untouched", web::get().to(untouched))
                .route("/read", web::get().to(bare_read))
                .route("/write", web::get().to(bare_write))
        }),
        "ours" | "plain" => serve!(move || App::new().wrap(middleware.clone()).configure(ours::routes)),
        "actix-session" => serve!(move || {
            let store = CookieSessionStore::default();
            App::new()
                .wrap(actix_session::SessionMiddleware::new(store, key.clone()))
                .configure(theirs::routes)
        }),
        _ => Err(std::io::Error::other("which one: bare, ours, plain or actix-session?")),
    }
}
