//! sealed-session beside actix-session's cookie store and bare actix-web: the same application, the same payloads, one
//! process, in turns. Prints nanoseconds and allocations per request above bare, and the size of the cookie.
//!
//! `--json` prints the same for a script. Run it by `benches/peers/run`, which adds the peers of other frameworks.

#[path = "../payload.rs"]
mod payload;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use actix_http::Request;
use actix_session::SessionExt as _;
use actix_session::storage::CookieSessionStore;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{COOKIE, SET_COOKIE};
use actix_web::{App, Error, HttpRequest, HttpResponse, test, web};
use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::simd::Simd;
use rand::Rng as _;
use serde_json::{Value, json};
use xaes_256_gcm::aead::inout::InOutBuf;
use xaes_256_gcm::aead::{AeadInOut as _, KeyInit as _};
use xaes_256_gcm::{Nonce, Tag, Xaes256Gcm};

use payload::{Account, account};

/// Counts what is allocated, per thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all of it is the system's allocator; a counter beside it changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOADS: [&str; 4] = ["empty", "counter", "cart", "2 KiB"];
const CASES: [&str; 3] = ["untouched", "read", "read + write"];
const ROUNDS: usize = 60;
const CALLS: usize = 400;

/// What the handlers do, written once for both libraries.
macro_rules! handlers {
    ($name:ident, $session:expr) => {
        mod $name {
            use super::*;

            async fn fill(request: HttpRequest) -> HttpResponse {
                let session = $session(&request).await;
                match request.query_string() {
                    "counter" => session.insert("n", 1_u32).unwrap(),
                    "cart" => session.insert("account", account()).unwrap(),
                    "2%20KiB" => session.insert("text", "x".repeat(2_048)).unwrap(),
                    _ => {}
                }
                HttpResponse::Ok().finish()
            }

            async fn untouched() -> HttpResponse {
                HttpResponse::Ok().finish()
            }

            async fn read(request: HttpRequest) -> HttpResponse {
                let session = $session(&request).await;
                match request.query_string() {
                    "counter" => assert_eq!(session.get::<u32>("n").unwrap(), Some(1)),
                    "cart" => assert_eq!(session.get::<Account>("account").unwrap().unwrap().id, 4_711),
                    "2%20KiB" => assert_eq!(session.get::<String>("text").unwrap().unwrap().len(), 2_048),
                    _ => assert_eq!(session.get::<u32>("n").unwrap(), None),
                }
                HttpResponse::Ok().finish()
            }

            async fn write(request: HttpRequest) -> HttpResponse {
                let session = $session(&request).await;
                match request.query_string() {
                    "counter" => {
                        let n = session.get::<u32>("n").unwrap().unwrap();
                        session.insert("n", n + 1).unwrap();
                    }
                    "cart" => {
                        let mut account = session.get::<Account>("account").unwrap().unwrap();
                        account.cart[0].quantity = 9;
                        session.insert("account", &account).unwrap();
                    }
                    "2%20KiB" => {
                        let mut text = session.get::<String>("text").unwrap().unwrap();
                        text.replace_range(..1, "y");
                        session.insert("text", &text).unwrap();
                    }
                    _ => session.insert("n", 1_u32).unwrap(),
                }
                HttpResponse::Ok().finish()
            }

            pub(super) fn routes(config: &mut web::ServiceConfig) {
                config
                    .route("/fill", web::get().to(fill))
                    .route("/untouched", web::get().to(untouched))
                    .route("/read", web::get().to(read))
                    .route("/write", web::get().to(write));
            }
        }
    };
}

async fn ours_of(request: &HttpRequest) -> sealed_session::Session {
    sealed_session::SessionExt::session(request).await.unwrap()
}

async fn theirs_of(request: &HttpRequest) -> actix_session::Session {
    request.get_session()
}

handlers!(ours, ours_of);
handlers!(theirs, theirs_of);

/// What the libraries that do the work cost without anything around them, in nanoseconds: the base64 and the cipher of a
/// cookie of that size, and the value read; and for a write the value written, sealed and encoded again.
fn floor(payload: &str, name_and_value: usize) -> (f64, f64) {
    let cipher = Xaes256Gcm::new(&[7; 32].into());
    let engine = Simd::url_safe(NO_PAD);
    let plaintext = ((name_and_value - "__Host-Http-session".len()) * 3 / 4).saturating_sub(45) / 32 * 32;
    let aad = [7; 70];
    let mut sealed = vec![0; 45 + plaintext];
    let body = &mut sealed[29..29 + plaintext];
    let tag = cipher.encrypt_inout_detached(&[0; 24].into(), &aad, InOutBuf::from(body)).unwrap();
    sealed[29 + plaintext..].copy_from_slice(&tag);
    let text = engine.encode(&sealed);
    let value = match payload {
        "cart" => rmp_serde::to_vec_named(&account()).unwrap(),
        "2 KiB" => rmp_serde::to_vec_named(&"x".repeat(2_048)).unwrap(),
        _ => rmp_serde::to_vec_named(&1_u32).unwrap(),
    };
    let read_value = || match payload {
        "cart" => drop(black_box(rmp_serde::from_slice::<Account>(&value).unwrap())),
        "2 KiB" => drop(black_box(rmp_serde::from_slice::<String>(&value).unwrap())),
        _ => assert!(black_box(rmp_serde::from_slice::<u32>(&value).unwrap()) == 1),
    };
    let (one, long) = (account(), "x".repeat(2_048));
    let write_value = || match payload {
        "cart" => drop(black_box(rmp_serde::to_vec_named(&one).unwrap())),
        "2 KiB" => drop(black_box(rmp_serde::to_vec_named(&long).unwrap())),
        _ => drop(black_box(rmp_serde::to_vec_named(&1_u32).unwrap())),
    };
    let mut out = vec![0; text.len()];
    let mut best = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        for (writes, best) in [false, true].into_iter().zip(&mut best) {
            let mut buffer = vec![0; sealed.len()];
            let start = Instant::now();
            for _ in 0..CALLS {
                engine.decode_slice(black_box(&text), &mut buffer).unwrap();
                let (head, rest) = buffer.split_at_mut(29);
                let (body, tag) = rest.split_at_mut(plaintext);
                let (nonce, tag) = (Nonce::try_from(&head[5..]).unwrap(), Tag::try_from(&*tag).unwrap());
                cipher.decrypt_inout_detached(&nonce, &aad, InOutBuf::from(body), &tag).unwrap();
                read_value();
                if writes {
                    write_value();
                    let mut nonce = [0; 24];
                    rand::rng().fill_bytes(&mut nonce);
                    let body = &mut buffer[29..29 + plaintext];
                    black_box(
                        cipher.encrypt_inout_detached(&nonce.into(), &aad, InOutBuf::from(body)).unwrap(),
                    );
                    engine.encode_slice(&buffer, &mut out).unwrap();
                }
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / CALLS as f64);
        }
    }
    (best[0], best[1])
}

fn request(path: &str, payload: &str, cookie: &str) -> Request {
    let uri = format!("/{path}?{}", payload.replace(' ', "%20"));
    test::TestRequest::with_uri(&uri).insert_header((COOKIE, cookie)).to_request()
}

async fn cookie<S, B>(app: &S, payload: &str) -> String
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let response = app.call(request("fill", payload, "other=1")).await.unwrap();
    let line = response.headers().get(SET_COOKIE).map(|line| line.to_str().unwrap().to_owned());
    line.map_or_else(|| "other=1".into(), |line| line.split(';').next().unwrap().to_owned())
}

/// Nanoseconds and allocations of one request, in the round.
async fn round<S, B>(app: &S, case: &str, payload: &str, cookie: &str) -> (f64, f64)
where
    B: MessageBody,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let path = if case == "read + write" { "write" } else { case };
    let requests: Vec<Request> = (0..CALLS).map(|_| request(path, payload, cookie)).collect();
    let before = ALLOCATIONS.with(Cell::get);
    let start = Instant::now();
    for request in requests {
        let response = black_box(app.call(request).await.unwrap());
        assert!(response.status().is_success());
    }
    let nanos = start.elapsed().as_nanos() as f64 / CALLS as f64;
    (nanos, (ALLOCATIONS.with(Cell::get) - before) as f64 / CALLS as f64)
}

/// What must not be lost again, whatever the machine: far below what is measured in a quiet moment.
fn check(rows: &[Value]) {
    let of = |payload: &str, case: &str| {
        rows.iter().find(|row| row["payload"] == payload && row["case"] == case).unwrap()
    };
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    for (payload, case, least) in [
        ("counter", "untouched", 10.0),
        ("cart", "untouched", 20.0),
        ("cart", "read", 1.5),
        ("cart", "read + write", 1.5),
        ("2 KiB", "read", 2.0),
        ("2 KiB", "read + write", 2.0),
    ] {
        let row = of(payload, case);
        let ratio = number(row, "actix_session") / number(row, "ours").max(1.0);
        assert!(
            ratio >= least,
            "{payload}, {case}: actix-session costs {ratio:.1} times as much, not {least}"
        );
        println!("{payload}, {case}: actix-session's cookie store costs {ratio:.1} times as much");
    }
    let cart = of("cart", "read");
    assert!(number(cart, "ours_cookie") < number(cart, "actix_session_cookie"), "{cart}");
    for (payload, case, most) in
        [("cart", "untouched", 2.0), ("counter", "read", 6.0), ("counter", "read + write", 15.0)]
    {
        let found = number(of(payload, case), "ours_allocations");
        assert!(found <= most + 0.1, "{payload}, {case}: {found} allocations instead of {most}");
    }
}

#[actix_web::main]
async fn main() {
    let keys = sealed_session::KeyRing::new(sealed_session::Key::generate());
    let sessions = sealed_session::Sessions::builder(keys).build().unwrap();
    let middleware = sealed_session::SessionMiddleware::new(sessions);
    let ours = test::init_service(App::new().wrap(middleware).configure(ours::routes)).await;
    let key = actix_web::cookie::Key::generate();
    let middleware = actix_session::SessionMiddleware::new(CookieSessionStore::default(), key);
    let theirs = test::init_service(App::new().wrap(middleware).configure(theirs::routes)).await;
    // Without any session there is but one thing that it can do.
    let bare = test::init_service(App::new().configure(ours::routes)).await;

    let mut rows: Vec<Value> = Vec::new();
    for payload in PAYLOADS {
        let (our_cookie, their_cookie) = (cookie(&ours, payload).await, cookie(&theirs, payload).await);
        for case in CASES {
            let mut best = [f64::MAX; 3];
            let mut allocations = [0.0; 3];
            for _ in 0..ROUNDS {
                let found = [
                    round(&bare, "untouched", payload, &our_cookie).await,
                    round(&ours, case, payload, &our_cookie).await,
                    round(&theirs, case, payload, &their_cookie).await,
                ];
                for (n, (nanos, count)) in found.into_iter().enumerate() {
                    best[n] = best[n].min(nanos);
                    allocations[n] = count;
                }
            }
            let [bare, ours, theirs] = best;
            let (reads, writes) = floor(payload, our_cookie.len().max(166) - 1);
            let floor = match case {
                "read" if payload != "empty" => reads,
                "read + write" => writes,
                _ => 0.0,
            };
            rows.push(json!({
                "payload": payload, "case": case, "bare": bare, "ours": ours - bare, "actix_session": theirs - bare,
                "floor": floor,
                "ours_allocations": allocations[1] - allocations[0],
                "actix_session_allocations": allocations[2] - allocations[0],
                "ours_cookie": if payload == "empty" { 0 } else { our_cookie.len() - 1 },
                "actix_session_cookie": if payload == "empty" { 0 } else { their_cookie.len() - 1 },
            }));
        }
    }
    if std::env::args().any(|argument| argument == "--check") {
        check(&rows);
        return;
    }
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", json!(rows));
        return;
    }
    println!(
        "{:<8} {:<13} {:>8} {:>10} {:>8} {:>14} {:>6} {:>12} {:>14}",
        "payload",
        "request",
        "bare ns",
        "ours +ns",
        "floor",
        "actix-s. +ns",
        "ratio",
        "ours allocs",
        "actix-s. allocs"
    );
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap();
        println!(
            "{:<8} {:<13} {:>8.0} {:>10.0} {:>8.0} {:>14.0} {:>6.1} {:>12.1} {:>14.1}   {} B / {} B",
            row["payload"].as_str().unwrap(),
            row["case"].as_str().unwrap(),
            number("bare"),
            number("ours"),
            number("floor"),
            number("actix_session"),
            number("actix_session") / number("ours").max(1.0),
            number("ours_allocations"),
            number("actix_session_allocations"),
            row["ours_cookie"],
            row["actix_session_cookie"],
        );
    }
}
