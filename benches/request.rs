//! What the middleware adds to an in-process request: `cargo bench --bench request`, and with `--features axum` also what the
//! layer adds to one of axum, in the same run.
//!
//! The session holds one struct of an id, an e-mail address, two roles and six cart lines.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use actix_http::Request;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::COOKIE;
use actix_web::{App, Error, test, web};
use sealed_session::{Key, KeyRing, Session, SessionKey, SessionMiddleware, Sessions};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Account {
    id: u64,
    email: String,
    roles: Vec<String>,
    cart: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
    price: u64,
}

const ACCOUNT: SessionKey<Account> = SessionKey::new("account");

fn account() -> Account {
    let line = |n| Line { sku: format!("SKU-{n:05}"), quantity: n, price: 1_999 + u64::from(n) };
    Account {
        id: 4_711,
        email: "ada@example.com".into(),
        roles: vec!["customer".into(), "editor".into()],
        cart: (1..=6).map(line).collect(),
    }
}

async fn untouched() -> &'static str {
    "ok"
}

async fn read(session: Session) -> &'static str {
    assert_eq!(session.get(ACCOUNT).unwrap().unwrap().id, 4_711);
    "ok"
}

async fn write(session: Session) -> &'static str {
    session.insert("seen", 1_767_225_600).unwrap();
    "ok"
}

async fn change(session: Session) -> &'static str {
    let mut account = session.get(ACCOUNT).unwrap().unwrap();
    account.cart[0].quantity = 9;
    session.insert("account", &account).unwrap();
    "ok"
}

const ROUNDS: usize = 60;
const CALLS: usize = 1_000;

/// Nanoseconds of one round. The requests are built before.
async fn round<S, B>(app: &S, path: &str, cookie: Option<&str>) -> f64
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let build = || {
        let request = test::TestRequest::with_uri(path);
        let request = match cookie {
            Some(cookie) => request.insert_header((COOKIE, cookie)),
            None => request,
        };
        request.to_request()
    };
    let requests: Vec<Request> = (0..CALLS).map(|_| build()).collect();
    let start = Instant::now();
    for request in requests {
        black_box(app.call(request).await.unwrap());
    }
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

#[actix_web::main]
async fn main() {
    let sessions = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
    let cookie = sessions.issue(|session| session.insert(ACCOUNT, account())).await.unwrap();
    let routes = |config: &mut web::ServiceConfig| {
        config
            .route("/untouched", web::get().to(untouched))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write))
            .route("/change", web::get().to(change));
    };
    let bare = test::init_service(App::new().configure(routes)).await;
    let ours = App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes);
    let ours = test::init_service(ours).await;

    let cookie = Some(cookie.as_str());
    let cases = [
        ("untouched, no cookie", "/untouched", None),
        ("untouched, cookie", "/untouched", cookie),
        ("read", "/read", cookie),
        ("write a small value", "/write", cookie),
        ("read, change, write", "/change", cookie),
    ];
    let mut best = [[f64::MAX; 2]; 5];
    for _ in 0..ROUNDS {
        for ((_, path, cookie), best) in cases.iter().zip(&mut best) {
            best[0] = best[0].min(round(&bare, "/untouched", *cookie).await);
            best[1] = best[1].min(round(&ours, path, *cookie).await);
        }
    }
    println!("cookie: {} bytes of name + value", cookie.map_or(0, str::len) - 1);
    print("actix-web", &cases, best);
    #[cfg(feature = "axum")]
    print("axum", &cases, on_axum::measure(sessions, &cases).await);
}

type Case<'a> = (&'a str, &'a str, Option<&'a str>);

fn print(framework: &str, cases: &[Case<'_>], best: [[f64; 2]; 5]) {
    println!("{framework:<22} {:>8} {:>8} {:>9}", "bare ns", "ns", "above ns");
    for ((what, _, _), [bare, ours]) in cases.iter().zip(best) {
        println!("{what:<22} {bare:>8.0} {ours:>8.0} {:>9.0}", ours - bare);
    }
}

#[cfg(feature = "axum")]
mod on_axum {
    use std::hint::black_box;
    use std::time::Instant;

    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::{RouterIntoService, get};
    use sealed_session::{SessionLayer, Sessions};
    use tower::Service;

    use super::{CALLS, Case, ROUNDS, change, read, untouched, write};

    async fn round(app: &mut RouterIntoService<Body>, path: &str, cookie: Option<&str>) -> f64 {
        let build = || {
            let request = Request::get(path);
            let request = match cookie {
                Some(cookie) => request.header("cookie", cookie),
                None => request,
            };
            request.body(Body::empty()).unwrap()
        };
        let requests: Vec<Request<Body>> = (0..CALLS).map(|_| build()).collect();
        let start = Instant::now();
        for request in requests {
            black_box(app.call(request).await.unwrap());
        }
        start.elapsed().as_nanos() as f64 / CALLS as f64
    }

    pub(super) async fn measure(sessions: Sessions, cases: &[Case<'_>; 5]) -> [[f64; 2]; 5] {
        let routes = || {
            Router::new()
                .route("/untouched", get(untouched))
                .route("/read", get(read))
                .route("/write", get(write))
                .route("/change", get(change))
        };
        let mut bare = routes().into_service();
        let mut ours = routes().layer(SessionLayer::new(sessions)).into_service();
        let mut best = [[f64::MAX; 2]; 5];
        for _ in 0..ROUNDS {
            for ((_, path, cookie), best) in cases.iter().zip(&mut best) {
                best[0] = best[0].min(round(&mut bare, "/untouched", *cookie).await);
                best[1] = best[1].min(round(&mut ours, path, *cookie).await);
            }
        }
        best
    }
}
