//! actix-session's cookie store behind two routes: `PUT /entries/{key}` and `GET /entries/{key}`, like the example
//! `api` has them.

use actix_session::Session;
use actix_session::SessionMiddleware;
use actix_session::storage::CookieSessionStore;
use actix_web::cookie::Key;
use actix_web::web::{self, Json, Path};
use actix_web::{App, HttpResponse, HttpServer};
use serde_json::Value;

async fn put(session: Session, key: Path<String>, value: Json<Value>) -> actix_web::Result<HttpResponse> {
    session.insert(key.into_inner(), value.into_inner())?;
    Ok(HttpResponse::NoContent().finish())
}

async fn get(session: Session, key: Path<String>) -> actix_web::Result<HttpResponse> {
    Ok(match session.get::<Value>(&key)? {
        Some(value) => HttpResponse::Ok().json(value),
        None => HttpResponse::NotFound().finish(),
    })
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let key = Key::generate();
    let app = move || {
        App::new()
            .app_data(
                web::JsonConfig::default().limit(2 << 20).content_type_required(false).content_type(|_| true),
            )
            .wrap(
                SessionMiddleware::builder(CookieSessionStore::default(), key.clone())
                    .cookie_secure(false)
                    .build(),
            )
            .service(web::resource("/entries/{key}").get(get).put(put))
    };
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0))?;
    println!("listening on http://{}/", server.addrs()[0]);
    server.run().await
}
