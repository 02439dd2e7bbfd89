//! Through a real server and a real connection.

use std::net::SocketAddr;

use sealed_session::{KeyRing, Secure, Sessions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::framework::serve;
use crate::support::key;

/// With `Secure::Auto`.
fn sessions() -> Sessions {
    Sessions::builder(KeyRing::new(key(1))).cookie_name("s").secure(Secure::Auto).build().unwrap()
}

/// One request with these raw header lines; the whole response.
async fn ask(address: SocketAddr, headers: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".to_vec();
    for header in headers {
        request.extend_from_slice(header);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    response
}

fn cookie_of(response: &str) -> String {
    let line = response.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    line.split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn a_session_lives_across_connections_and_foreign_bytes_do_not_hide_it() {
    serve(sessions(), async |address| {
        let first = ask(address, &[]).await;
        assert!(first.ends_with("1 New"));
        let cookie = cookie_of(&first);
        let second = ask(address, &[format!("Cookie: {cookie}").as_bytes()]).await;
        assert!(second.ends_with("2 Resumed"));
        let cookie = cookie_of(&second);
        let foreign = [b"Cookie: x=\xff\xfe; ", cookie.as_bytes(), b"; y=\x80"].concat();
        assert!(ask(address, &[&foreign]).await.ends_with("3 Resumed"));
        let several = [b"Cookie: a=1".to_vec(), format!("cookie: {cookie}").into_bytes()];
        assert!(ask(address, &[&several[0], &several[1]]).await.ends_with("3 Resumed"));
        assert!(ask(address, &[b"Cookie: s=\xff\xff"]).await.ends_with("1 Rejected(Malformed)"));
    })
    .await;
}

#[actix_web::test]
async fn the_secure_attribute_follows_the_scheme_that_the_proxy_tells() {
    serve(sessions(), async |address| {
        assert!(!ask(address, &[]).await.contains("; Secure"));
        for told in [
            &b"X-Forwarded-Proto: https"[..],
            b"X-Forwarded-Proto: https, http",
            b"Forwarded: for=192.0.2.1; proto=https",
            b"Forwarded: for=192.0.2.1, for=192.0.2.2;proto=\"https\"",
        ] {
            assert!(ask(address, &[told]).await.contains("; Secure"), "{told:?}");
        }
        for told in [&b"X-Forwarded-Proto: http, https"[..], b"Forwarded: for=192.0.2.1"] {
            assert!(!ask(address, &[told]).await.contains("; Secure"), "{told:?}");
        }
        let both = [&b"Forwarded: proto=http"[..], b"X-Forwarded-Proto: https"];
        assert!(!ask(address, &both).await.contains("; Secure"), "the standard's header says more");
    })
    .await;
}
