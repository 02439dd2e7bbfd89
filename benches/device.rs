//! What a session costs that is bound to a device: `cargo bench --features device-binding --bench device`. One with a proof beside one
//! without binding and one that nobody has bound, in turns; fails if it costs more than it should.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use actix_http::Request;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{COOKIE, HeaderName, SET_COOKIE};
use actix_web::{App, Error, test, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use sealed_session::{DeviceBinding, DeviceState, Key, KeyRing, Session, SessionMiddleware, Sessions};

const ROUNDS: usize = 60;
const CALLS: usize = 1_000;
/// The most that a proof may cost a request, in nanoseconds.
const PROOF: f64 = 1_300.0;
/// The most that binding may cost a session which is not bound, in nanoseconds: what two runs differ by.
const NOTHING: f64 = 60.0;

async fn login(session: Session) -> &'static str {
    session.authenticate("ada").unwrap();
    session.insert("cart", "x".repeat(300)).unwrap();
    "ok"
}

async fn read(session: Session) -> &'static str {
    assert_eq!(session.get::<String>("cart").unwrap().unwrap().len(), 300);
    "ok"
}

async fn bound(session: Session) -> &'static str {
    if session.device() == DeviceState::Bound { "bound" } else { "free" }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/login", web::get().to(login))
        .route("/read", web::get().to(read))
        .route("/bound", web::get().to(bound));
}

fn quoted(line: &str, name: &str) -> String {
    line.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap().to_owned()
}

/// The name and value of a response's cookie.
fn cookie<B>(response: &ServiceResponse<B>) -> String {
    let line = response.headers().get(SET_COOKIE).unwrap().to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

/// The cookies of a session that has logged in, and what binds it.
async fn log_in<S, B>(app: &S, bind: bool) -> String
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let get = |path, cookies: &str| {
        test::TestRequest::with_uri(path).insert_header((COOKIE, cookies.to_owned())).to_request()
    };
    let reply = app.call(get("/login", "a=1")).await.unwrap();
    let session = cookie(&reply);
    if !bind {
        return session;
    }
    let offer = reply.headers().get(HeaderName::from_static("secure-session-registration")).unwrap();
    let offer = offer.to_str().unwrap();
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    let [x, y] = [1..33, 33..65].map(|part| URL_SAFE_NO_PAD.encode(&point.as_bytes()[part]));
    let head = format!(
        r#"{{"alg":"ES256","typ":"dbsc+jwt","jwk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#
    );
    let payload = format!(r#"{{"jti":"{}"}}"#, quoted(offer, "challenge"));
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(payload));
    let signature: Signature = key.sign(text.as_bytes());
    let jws = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    let request = test::TestRequest::post()
        .uri(&quoted(offer, "path"))
        .insert_header((COOKIE, session.clone()))
        .insert_header(("secure-session-response", jws));
    let proof = cookie(&app.call(request.to_request()).await.unwrap());
    let both = format!("{session}; {proof}");
    format!("{}; {proof}", cookie(&app.call(get("/bound", &both)).await.unwrap()))
}

/// Nanoseconds of one round. The requests are built before.
async fn round<S, B>(app: &S, cookies: &str) -> f64
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    let build = || test::TestRequest::with_uri("/read").insert_header((COOKIE, cookies)).to_request();
    let requests: Vec<Request> = (0..CALLS).map(|_| build()).collect();
    let start = Instant::now();
    for request in requests {
        black_box(app.call(request).await.unwrap());
    }
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

#[actix_web::main]
async fn main() {
    let builder = || Sessions::builder(KeyRing::new(Key::generate()));
    let off = builder().build().unwrap();
    let on = builder().device_binding(DeviceBinding::WhereOffered).build().unwrap();
    let app = |sessions: Sessions| App::new().wrap(SessionMiddleware::new(sessions)).configure(routes);
    let (off, on) = (test::init_service(app(off)).await, test::init_service(app(on)).await);
    let (without, free, bound) =
        (log_in(&off, false).await, log_in(&on, false).await, log_in(&on, true).await);
    let mut best = [f64::MAX; 3];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(round(&off, &without).await);
        best[1] = best[1].min(round(&on, &free).await);
        best[2] = best[2].min(round(&on, &bound).await);
    }
    let [without, free, bound] = best;
    println!("a request that reads its session, ns");
    println!("  without binding           {without:>6.0}");
    println!("  that is not bound         {free:>6.0}  {:+.0}", free - without);
    println!("  bound, with its proof     {bound:>6.0}  {:+.0}", bound - free);
    assert!(bound - free <= PROOF, "a proof costs {:.0} ns, and may cost {PROOF}", bound - free);
    assert!(free - without <= NOTHING, "binding costs a session that is not bound {:.0} ns", free - without);
}
