//! actix-session's Redis store, measured as benches/store.rs measures ours: the same payload, service, proxy and server.

#[path = "../../../timing/requests.rs"]
mod requests;
#[path = "../../../timing/turns.rs"]
mod turns;

use actix_session::config::{PersistentSession, TtlExtensionPolicy};
use actix_session::storage::RedisSessionStore;
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::{Key, time::Duration};
use actix_web::{App, HttpResponse, test, web};

use requests::{Row, measure};
use turns::Turns;

async fn fill(session: Session) -> HttpResponse {
    session.insert("n", 1).unwrap();
    session.insert("count", 0).unwrap();
    session.insert("filler", "x".repeat(6_000)).unwrap();
    HttpResponse::Ok().finish()
}

async fn read(session: Session) -> HttpResponse {
    assert_eq!(session.get::<u32>("n").unwrap(), Some(1));
    HttpResponse::Ok().finish()
}

async fn write(session: Session) -> HttpResponse {
    let count: u64 = session.get("count").unwrap().unwrap_or(0);
    session.insert("count", count + 1).unwrap();
    HttpResponse::Ok().finish()
}

async fn three(url: &str, turns: Option<&Turns>) -> [Row; 3] {
    let key = Key::generate();
    let store = RedisSessionStore::new(url).await.unwrap();
    let mut rows = Vec::new();
    let policies = [TtlExtensionPolicy::OnStateChanges, TtlExtensionPolicy::OnEveryRequest];
    for (path, policy) in [("/read", &policies[0]), ("/write", &policies[0]), ("/read", &policies[1])] {
        let lifecycle = PersistentSession::default()
            .session_ttl(Duration::days(1))
            .session_ttl_extension_policy(policy.clone());
        let app = App::new()
            .wrap(SessionMiddleware::builder(store.clone(), key.clone()).session_lifecycle(lifecycle).build())
            .route("/fill", web::get().to(fill))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write));
        let app = test::init_service(app).await;
        let filled = test::call_service(&app, test::TestRequest::get().uri("/fill").to_request()).await;
        let cookie = filled.response().cookies().next().unwrap().stripped().to_string();
        rows.push(measure(&app, path, &cookie, turns).await);
    }
    rows.try_into().ok().unwrap()
}

#[actix_web::main]
async fn main() {
    let url = std::env::var("TEST_REDIS").expect("tests/servers.py sets the address of Redis");
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let turns = Turns::before(port);
    let counted = three(&format!("redis://127.0.0.1:{}/", turns.port), Some(&turns)).await;
    requests::print("actix-session 0.11 Redis", Some(counted), three(&url, None).await);
}
