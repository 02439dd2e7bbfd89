//! One server with one worker, for a load generator: `loopback bare`, `loopback ours` or `loopback actix-session`, with
//! the routes /untouched, /read and /write. Prints its address.

use actix_session::SessionExt as _;
use actix_session::storage::CookieSessionStore;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

async fn untouched() -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn our_read(session: sealed_session::Session) -> HttpResponse {
    HttpResponse::Ok().json(session.get::<u32>("n").unwrap())
}

async fn our_write(session: sealed_session::Session) -> HttpResponse {
    HttpResponse::Ok().json(session.increment("n", 1).unwrap())
}

async fn their_read(request: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().json(request.get_session().get::<u32>("n").unwrap())
}

async fn their_write(request: HttpRequest) -> HttpResponse {
    let session = request.get_session();
    let n = session.get::<u32>("n").unwrap().unwrap_or(0) + 1;
    session.insert("n", n).unwrap();
    HttpResponse::Ok().json(n)
}

/// Serves with one worker on a free port, which it prints.
macro_rules! serve {
    ($server:expr) => {{
        let server = $server.workers(1).bind(("127.0.0.1", 0))?;
        println!("listening on http://{}", server.addrs()[0]);
        server.run().await
    }};
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let which = std::env::args().nth(1).unwrap_or_default();
    let sessions = {
        let keys = sealed_session::KeyRing::new(sealed_session::Key::generate());
        let builder = sealed_session::Sessions::builder(keys).cookie_name("id");
        builder.secure(sealed_session::Secure::Never).build().unwrap()
    };
    let key = actix_web::cookie::Key::generate();
    match which.as_str() {
        "bare" => {
            serve!(HttpServer::new(|| {
                let app = App::new().route("/untouched", web::get().to(untouched));
                app.route("/read", web::get().to(untouched)).route("/write", web::get().to(untouched))
            }))
        }
        "ours" => {
            serve!(HttpServer::new(move || {
                let middleware = sealed_session::SessionMiddleware::new(sessions.clone());
                let app = App::new().wrap(middleware).route("/untouched", web::get().to(untouched));
                app.route("/read", web::get().to(our_read)).route("/write", web::get().to(our_write))
            }))
        }
        _ => {
            serve!(HttpServer::new(move || {
                let store = CookieSessionStore::default();
                let builder = actix_session::SessionMiddleware::builder(store, key.clone());
                let middleware = builder.cookie_secure(false).build();
                let app = App::new().wrap(middleware).route("/untouched", web::get().to(untouched));
                app.route("/read", web::get().to(their_read)).route("/write", web::get().to(their_write))
            }))
        }
    }
}
