//! sealed-session beside actix-session's cookie store and bare actix-web: the same application, the same payloads, one
//! process, in turns. Prints nanoseconds and allocations per request above bare, and the size of the cookie.
//!
//! "AWS-LC" is sealed-session with its feature `aws-lc-rs`. "Plain" is sealed-session again, sending what actix-session sends
//! by default: the cookie `id` without `Max-Age`, and no headers for caches. "Least" is a middleware that does little more than
//! keep such a cookie (`least.rs`).
//!
//! `--json` prints the same for a script, `--check` fails if a ratio, a count or a size got worse. Run it by
//! `benches/peers/run`, which adds the peers of other frameworks.

#[path = "../least.rs"]
mod least;
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
use actix_web::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use actix_web::{App, Error, HttpRequest, HttpResponse, test, web};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{AesGcm, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::simd::Simd;
use rand::Rng as _;
use serde_json::{Value, json};

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

/// The same routes without any session, so that what routing and the request itself cost is no one's.
mod bare {
    use super::*;

    async fn nothing() -> HttpResponse {
        HttpResponse::Ok().finish()
    }

    async fn asked(request: HttpRequest) -> HttpResponse {
        black_box(request.query_string());
        HttpResponse::Ok().finish()
    }

    pub(super) fn routes(config: &mut web::ServiceConfig) {
        config
            .route("/fill", web::get().to(asked))
            .route("/untouched", web::get().to(nothing))
            .route("/read", web::get().to(asked))
            .route("/write", web::get().to(asked));
    }
}

handlers!(ours, ours_of);
handlers!(theirs, theirs_of);
handlers!(at_least, least::Session::of);

const NAME: &str = "__Host-Http-session";
/// Suite, key id and nonce.
const HEAD_LEN: usize = 29;
const TAG_LEN: usize = 16;
/// Suite and key id.
const AAD_LEN: usize = 5;

/// Length of the padded plaintext in a cookie whose name and value have so many bytes.
fn plaintext_len(name_and_value: usize) -> usize {
    let len = (name_and_value - NAME.len()) * 3 / 4 - HEAD_LEN - TAG_LEN;
    assert!(len.is_multiple_of(32), "{name_and_value} bytes are no cookie of ours");
    len
}

/// What the libraries that do the work cost without anything around them, in nanoseconds. For a request with a cookie of
/// `opened` bytes, whose handler reads: base64, cipher and the value read. For a response that sets one of `sealed`
/// bytes: the value written, nonce, cipher, base64, and the header value, of which the crate `http` looks at each byte.
fn floor(payload: &str, opened: Option<usize>, sealed: Option<usize>) -> f64 {
    if opened.is_none() && sealed.is_none() {
        return 0.0;
    }
    // Under a key that is there, as within an epoch: deriving one comes on top.
    let cipher = AesGcm::<aes::Aes256Enc, U12>::new(&[7; 32].into());
    let engine = Simd::url_safe(NO_PAD);
    let aad = [7; AAD_LEN];
    let received = opened.map(plaintext_len).map(|plaintext| {
        let mut message = vec![0; HEAD_LEN + plaintext];
        let body = InOutBuf::from(&mut message[HEAD_LEN..]);
        let tag = cipher.encrypt_inout_detached(&[0; 12].into(), &aad, body).unwrap();
        message.extend_from_slice(&tag);
        engine.encode(&message)
    });
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
    let mut opening = vec![0; opened.map_or(0, |len| HEAD_LEN + plaintext_len(len) + TAG_LEN)];
    let mut sealing = vec![0; sealed.map_or(0, |len| HEAD_LEN + plaintext_len(len) + TAG_LEN)];
    let mut text = vec![0; sealed.map_or(0, |len| len - NAME.len())];
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            if let Some(received) = &received {
                engine.decode_slice(black_box(received), &mut opening).unwrap();
                let (head, rest) = opening.split_at_mut(HEAD_LEN);
                let (body, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
                let (nonce, tag) =
                    (Nonce::<U12>::try_from(&head[17..]).unwrap(), Tag::try_from(&*tag).unwrap());
                cipher.decrypt_inout_detached(&nonce, &aad, InOutBuf::from(body), &tag).unwrap();
                read_value();
            }
            if sealed.is_some() {
                write_value();
                let mut nonce = [0; 12];
                rand::rng().fill_bytes(&mut nonce);
                let body = HEAD_LEN..sealing.len() - TAG_LEN;
                let tag = cipher
                    .encrypt_inout_detached(&nonce.into(), &aad, InOutBuf::from(&mut sealing[body.clone()]))
                    .unwrap();
                sealing[17..HEAD_LEN].copy_from_slice(&nonce);
                sealing[body.end..].copy_from_slice(&tag);
                engine.encode_slice(black_box(&sealing), &mut text).unwrap();
                drop(black_box(HeaderValue::try_from(text.clone()).unwrap()));
            }
        }
        best = best.min(start.elapsed().as_nanos() as f64 / CALLS as f64);
    }
    best
}

fn path(case: &str) -> &str {
    if case == "read + write" { "write" } else { case }
}

fn request(path: &str, payload: &str, cookie: &str) -> Request {
    let uri = format!("/{path}?{}", payload.replace(' ', "%20"));
    test::TestRequest::with_uri(&uri).insert_header((COOKIE, cookie)).to_request()
}

/// Name and value, with the `=` between them, of the cookie that the response sets.
async fn set_by<S, B>(app: &S, path: &str, payload: &str, cookie: &str) -> Option<String>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let response = app.call(request(path, payload, cookie)).await.unwrap();
    let line = response.headers().get(SET_COOKIE)?.to_str().unwrap();
    Some(line.split(';').next().unwrap().to_owned())
}

const STRANGE: &str = "other=1";
/// Cookies whose lengths are averaged: actix-session escapes what base64 has by chance of `+`, `/` and `=`.
const SAMPLES: usize = 100;

/// The mean length of name and value of the cookies that such responses set.
async fn length<S, B>(app: &S, path: &str, payload: &str, cookie: &str) -> Option<usize>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let mut sum = 0;
    for _ in 0..SAMPLES {
        sum += set_by(app, path, payload, cookie).await?.len() - 1;
    }
    Some((sum + SAMPLES / 2) / SAMPLES)
}

/// The cookie of a session with that payload, and how long it is in the request and in what each case answers.
struct Cookies {
    header: String,
    /// Of an empty session there is none.
    received: Option<usize>,
    set: [Option<usize>; 3],
}

impl Cookies {
    async fn of<S, B>(app: &S, payload: &str) -> Self
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    {
        let header = set_by(app, "fill", payload, STRANGE).await.unwrap_or_else(|| STRANGE.into());
        let received = length(app, "fill", payload, STRANGE).await;
        assert_eq!(received.is_none(), payload == "empty");
        let mut set = [None; 3];
        for (case, set) in CASES.iter().zip(&mut set) {
            *set = length(app, path(case), payload, &header).await;
            assert_eq!(set.is_some(), *case == "read + write", "{payload}, {case}");
        }
        Self { header, received, set }
    }

    /// Of the cookie that the response sets, or else of the one that the request carries.
    fn bytes(&self, case: usize) -> usize {
        self.set[case].or(self.received).unwrap_or(0)
    }
}

/// Nanoseconds and allocations of one request, in the round.
async fn round<S, B>(app: &S, case: &str, payload: &str, cookie: &str) -> (f64, f64)
where
    B: MessageBody,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let requests: Vec<Request> = (0..CALLS).map(|_| request(path(case), payload, cookie)).collect();
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
        ("counter", "read", 1.2),
        ("counter", "read + write", 1.1),
        ("cart", "read", 2.0),
        ("cart", "read + write", 2.2),
        ("2 KiB", "read", 3.0),
        ("2 KiB", "read + write", 3.0),
    ] {
        let row = of(payload, case);
        let ratio = number(row, "actix_session") / number(row, "ours").max(1.0);
        assert!(
            ratio >= least,
            "{payload}, {case}: actix-session costs {ratio:.1} times as much, not {least}"
        );
        println!("{payload}, {case}: actix-session's cookie store costs {ratio:.1} times as much");
    }
    let cart = number(of("cart", "read"), "ours_cookie");
    assert!(cart <= CART_COOKIE, "the cart's cookie has {cart} bytes, not {CART_COOKIE}");
    for (payload, counts) in PAYLOADS.into_iter().zip(ALLOCATIONS_ABOVE_BARE) {
        for (case, most) in CASES.into_iter().zip(counts) {
            let found = number(of(payload, case), "ours_allocations");
            assert!(found < most + 0.5, "{payload}, {case}: {found} allocations instead of {most}");
        }
    }
    println!("the cart's cookie has {cart} bytes, and no case allocates more than it did");
}

/// The smallest of a peer that seals an end in it has 582 bytes.
const CART_COOKIE: f64 = 560.0;
/// By payload and case. They are counted, not timed, so each is what it is.
const ALLOCATIONS_ABOVE_BARE: [[f64; 3]; 4] =
    [[2.0, 3.0, 7.0], [2.0, 7.0, 11.0], [2.0, 18.0, 22.0], [2.0, 8.0, 13.0]];

#[actix_web::main]
async fn main() {
    let keys = sealed_session::KeyRing::new(sealed_session::Key::generate());
    let wrapped = |sessions: sealed_session::SessionsBuilder| {
        let middleware = sealed_session::SessionMiddleware::new(sessions.build().unwrap());
        test::init_service(App::new().wrap(middleware).configure(ours::routes))
    };
    let builder = || sealed_session::Sessions::builder(keys.clone());
    let ours = wrapped(builder().__rust_crypto()).await;
    let aws_lc = wrapped(builder()).await;
    let plain = builder().__rust_crypto().cookie_name("id").cache_headers(false);
    let plain = wrapped(plain.persistent(false)).await;
    let key = actix_web::cookie::Key::generate();
    let middleware = actix_session::SessionMiddleware::new(CookieSessionStore::default(), key);
    let theirs = test::init_service(App::new().wrap(middleware).configure(theirs::routes)).await;
    let least = App::new().wrap(least::Middleware::new()).configure(at_least::routes);
    let least = test::init_service(least).await;
    let bare = test::init_service(App::new().configure(bare::routes)).await;

    let mut rows: Vec<Value> = Vec::new();
    for payload in PAYLOADS {
        let our = Cookies::of(&ours, payload).await;
        let plains = Cookies::of(&plain, payload).await;
        let their = Cookies::of(&theirs, payload).await;
        let leasts = Cookies::of(&least, payload).await;
        // Within a block of padding, or it would not be the same work.
        assert!(leasts.bytes(2).abs_diff(our.bytes(2)) <= 43, "{payload}: {} bytes", leasts.bytes(2));
        for (at, case) in CASES.into_iter().enumerate() {
            let mut best = [f64::MAX; 6];
            let mut allocations = [0.0; 6];
            for _ in 0..ROUNDS {
                let found = [
                    round(&bare, case, payload, &our.header).await,
                    round(&ours, case, payload, &our.header).await,
                    round(&plain, case, payload, &plains.header).await,
                    round(&theirs, case, payload, &their.header).await,
                    round(&aws_lc, case, payload, &our.header).await,
                    round(&least, case, payload, &leasts.header).await,
                ];
                for (n, (nanos, count)) in found.into_iter().enumerate() {
                    best[n] = best[n].min(nanos);
                    allocations[n] = count;
                }
            }
            let [bare, ours, plain, theirs, aws_lc, least] = best;
            let floor = match case {
                "untouched" => 0.0,
                _ => floor(payload, our.received, our.set[at]),
            };
            rows.push(json!({
                "payload": payload, "case": case, "bare": bare, "floor": floor, "least": least - bare,
                "ours": ours - bare, "aws_lc": aws_lc - bare, "plain": plain - bare, "actix_session": theirs - bare,
                "ours_allocations": allocations[1] - allocations[0],
                "plain_allocations": allocations[2] - allocations[0],
                "actix_session_allocations": allocations[3] - allocations[0],
                "ours_cookie": our.bytes(at),
                "plain_cookie": plains.bytes(at),
                "actix_session_cookie": their.bytes(at),
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
        "payload  request        bare    ours  aws-lc   floor   least   plain  actix-s.  ratio aws-lc  allocations      cookie, bytes"
    );
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap();
        println!(
            "{:<8} {:<13} {:>5.0} {:>+7.0} {:>+7.0} {:>7.0} {:>+7.0} {:>+7.0} {:>+9.0} {:>6.1} {:>6.1} {:>4.0} {:>2.0} {:>3.0} {:>8} {:>5} {:>5}",
            row["payload"].as_str().unwrap(),
            row["case"].as_str().unwrap(),
            number("bare"),
            number("ours"),
            number("aws_lc"),
            number("floor"),
            number("least"),
            number("plain"),
            number("actix_session"),
            number("actix_session") / number("ours").max(1.0),
            number("actix_session") / number("aws_lc").max(1.0),
            number("ours_allocations"),
            number("plain_allocations"),
            number("actix_session_allocations"),
            row["ours_cookie"].as_u64().unwrap(),
            row["plain_cookie"].as_u64().unwrap(),
            row["actix_session_cookie"].as_u64().unwrap(),
        );
    }
}
