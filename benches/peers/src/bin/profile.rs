//! One kind of request, over and over, in process: for a profiler that counts instructions.
//! `profile bare|untouched|read|write|count|peek [CALLS]`, with the cart, with a counter for `count`, without a session for
//! `peek`; `profile stored-read|stored-write [CALLS]` with the cart in a store that is in memory, so that all but what a server and
//! its driver do is counted. All that counts happens in `measured`; docs/performance.md has the command around it.

#[path = "../payload.rs"]
mod payload;

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use actix_http::Request;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::COOKIE;
use actix_web::{App, Error, HttpResponse, test, web};
use sealed_session::store::MemoryStore;
use sealed_session::{Key, KeyRing, Placement, Session, SessionMiddleware, Sessions};

use payload::{Account, account};

async fn untouched() -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn read(session: Session) -> HttpResponse {
    assert_eq!(session.get::<Account>("account").unwrap().unwrap().id, 4_711);
    HttpResponse::Ok().finish()
}

async fn write(session: Session) -> HttpResponse {
    let mut account = session.get::<Account>("account").unwrap().unwrap();
    // Another one each time, also where it is written to a row.
    account.cart[0].quantity = account.cart[0].quantity % 9 + 1;
    session.insert("account", &account).unwrap();
    HttpResponse::Ok().finish()
}

async fn count(session: Session) -> HttpResponse {
    let n = session.get::<u32>("n").unwrap().unwrap_or(0);
    session.insert("n", n + 1).unwrap();
    HttpResponse::Ok().finish()
}

async fn peek(session: Session) -> HttpResponse {
    assert_eq!(session.get::<u32>("n").unwrap(), None);
    HttpResponse::Ok().finish()
}

#[inline(never)]
fn measured<S, B>(app: &S, request: Request) -> ServiceResponse<B>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    match pin!(app.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(response) => response.unwrap(),
        Poll::Pending => panic!("without a server nothing waits"),
    }
}

#[actix_web::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().unwrap_or_else(|| "write".into());
    let calls = arguments.next().map_or(2_000, |calls| calls.parse().unwrap());
    let mut builder = Sessions::builder(KeyRing::new(Key::generate())).__rust_crypto();
    let (is_stored, path) = match case.strip_prefix("stored-") {
        Some(path) => (true, path),
        None => (false, &*case),
    };
    if is_stored {
        builder = builder.store(MemoryStore::new()).spill_above(0);
    }
    let sessions = builder.build().unwrap();
    let counts = case == "count";
    let fill = |session: &Session| {
        if counts { session.insert("n", 1_u32) } else { session.insert("account", account()) }
    };
    let mut cookie = sessions.issue(fill).await.unwrap();
    if case == "peek" {
        cookie = "other=1".into();
    }
    let session = sessions.load([&cookie]).await.unwrap();
    assert_eq!(matches!(session.placement(), Placement::Store { .. }), is_stored);
    let routes = |config: &mut web::ServiceConfig| {
        config
            .route("/bare", web::get().to(untouched))
            .route("/untouched", web::get().to(untouched))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write))
            .route("/count", web::get().to(count))
            .route("/peek", web::get().to(peek));
    };
    let bare = test::init_service(App::new().configure(routes)).await;
    let ours = test::init_service(App::new().wrap(SessionMiddleware::new(sessions)).configure(routes)).await;
    for _ in 0..calls {
        let request = test::TestRequest::with_uri(&format!("/{path}"));
        let request = request.insert_header((COOKIE, cookie.as_str())).to_request();
        let status = match case.as_str() {
            "bare" => black_box(measured(&bare, request)).status(),
            _ => black_box(measured(&ours, request)).status(),
        };
        assert!(status.is_success(), "there is no case {case:?}");
        // Or tokio has the task wait after some hundred of its locks.
        tokio::task::yield_now().await;
    }
}
