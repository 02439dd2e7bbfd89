//! Through a real server and a real connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use actix_web::{App, HttpServer, web};
use sealed_session::{KeyRing, Secure, Session, SessionMiddleware, Sessions};

use crate::support::key;

async fn count(session: Session) -> actix_web::Result<String> {
    Ok(format!("{} {:?}", session.increment("n", 1)?, session.origin()))
}

/// A server with `Secure::Auto`, as long as `client` runs.
async fn serve(client: impl FnOnce(SocketAddr) + Send + 'static) {
    let sessions =
        Sessions::builder(KeyRing::new(key(1))).cookie_name("s").secure(Secure::Auto).build().unwrap();
    let server = HttpServer::new(move || {
        App::new().wrap(SessionMiddleware::new(sessions.clone())).default_service(web::to(count))
    })
    .workers(2)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let client = actix_web::rt::task::spawn_blocking(move || client(address));
    let running = actix_web::rt::spawn(server);
    let outcome = client.await;
    handle.stop(false).await;
    running.await.unwrap().unwrap();
    outcome.unwrap();
}

/// One request with these raw header lines; the whole response.
fn ask(address: SocketAddr, headers: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".to_vec();
    for header in headers {
        request.extend_from_slice(header);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    response
}

fn cookie_of(response: &str) -> String {
    let line = response.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    line.split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn a_session_lives_across_connections_and_foreign_bytes_do_not_hide_it() {
    serve(|address| {
        let first = ask(address, &[]);
        assert!(first.ends_with("1 New"));
        let cookie = cookie_of(&first);
        let second = ask(address, &[format!("Cookie: {cookie}").as_bytes()]);
        assert!(second.ends_with("2 Resumed"));
        let cookie = cookie_of(&second);
        let foreign = [b"Cookie: x=\xff\xfe; ", cookie.as_bytes(), b"; y=\x80"].concat();
        assert!(ask(address, &[&foreign]).ends_with("3 Resumed"));
        let several = [b"Cookie: a=1".to_vec(), format!("cookie: {cookie}").into_bytes()];
        assert!(ask(address, &[&several[0], &several[1]]).ends_with("3 Resumed"));
        assert!(ask(address, &[b"Cookie: s=\xff\xff"]).ends_with("1 Rejected(Malformed)"));
    })
    .await;
}

#[actix_web::test]
async fn the_secure_attribute_follows_the_scheme_that_the_proxy_tells() {
    serve(|address| {
        assert!(!ask(address, &[]).contains("; Secure"));
        assert!(ask(address, &[b"X-Forwarded-Proto: https"]).contains("; Secure"));
    })
    .await;
}
