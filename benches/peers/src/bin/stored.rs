//! One server with two workers, whose sessions are in Redis: `stored ours URL` or `stored actix-session URL`, with the
//! routes /fill/{bytes}, /read and /write. Prints its address.

use actix_session::storage::RedisSessionStore;
use actix_web::cookie::Key;
use actix_web::{App, HttpResponse, HttpServer, web};
use sealed_session::store::RedisStore;
use sealed_session::{KeyRing, Sessions};

/// Whatever has data is in the store then.
const SPILL_ABOVE: usize = 300;

/// What the handlers do, but for `$count`, which each library does in its own way.
macro_rules! handlers {
    ($name:ident, $session:ty, $count:expr) => {
        mod $name {
            use super::*;

            async fn fill(session: $session, bytes: web::Path<usize>) -> HttpResponse {
                session.insert("n", 0).unwrap();
                session.insert("filler", "x".repeat(*bytes)).unwrap();
                HttpResponse::Ok().finish()
            }

            async fn read(session: $session) -> HttpResponse {
                HttpResponse::Ok().json(session.get::<i64>("n").unwrap())
            }

            async fn write(session: $session) -> HttpResponse {
                HttpResponse::Ok().json($count(&session))
            }

            pub(super) fn routes(config: &mut web::ServiceConfig) {
                config
                    .route("/fill/{bytes}", web::get().to(fill))
                    .route("/read", web::get().to(read))
                    .route("/write", web::get().to(write));
            }
        }
    };
}

handlers!(ours, sealed_session::Session, |session: &sealed_session::Session| session
    .increment("n", 1)
    .unwrap());
handlers!(theirs, actix_session::Session, |session: &actix_session::Session| {
    let n = session.get::<i64>("n").unwrap().unwrap_or(0) + 1;
    session.insert("n", n).unwrap();
    n
});

macro_rules! serve {
    ($app:expr) => {{
        let server = HttpServer::new($app).workers(2).bind(("127.0.0.1", 0))?;
        println!("listening on http://{}", server.addrs()[0]);
        server.run().await
    }};
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (which, url) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    match which.as_str() {
        "ours" => {
            let keys = KeyRing::new(sealed_session::Key::generate());
            let store = RedisStore::connect(&url).await.map_err(std::io::Error::other)?;
            let sessions = Sessions::builder(keys).__rust_crypto().store(store).spill_above(SPILL_ABOVE);
            let middleware = sealed_session::SessionMiddleware::new(sessions.build().unwrap());
            serve!(move || App::new().wrap(middleware.clone()).configure(ours::routes))
        }
        "actix-session" => {
            let store = RedisSessionStore::new(url).await.map_err(std::io::Error::other)?;
            let key = Key::generate();
            serve!(move || {
                App::new()
                    .wrap(actix_session::SessionMiddleware::new(store.clone(), key.clone()))
                    .configure(theirs::routes)
            })
        }
        _ => Err(std::io::Error::other("which one: ours or actix-session, and the address of Redis?")),
    }
}
