//! HTTP/2, in clear text.

use axum::body::Bytes;
use sealed_session::{KeyRing, Secure, Sessions};
use tokio::net::TcpStream;

use crate::framework::serve;
use crate::support::key;

/// One request with these `Cookie` headers: its `Set-Cookie`, and its body.
async fn ask(client: &mut h2::client::SendRequest<Bytes>, cookies: &[&str]) -> (Option<String>, String) {
    let mut request = axum::http::Request::get("http://localhost/");
    for cookie in cookies {
        request = request.header("cookie", *cookie);
    }
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), head.version), (200, axum::http::Version::HTTP_2));
    let mut text = Vec::new();
    while let Some(part) = body.data().await {
        text.extend_from_slice(&part.unwrap());
    }
    let line = head.headers.get("set-cookie").map(|line| line.to_str().unwrap().to_owned());
    (line, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_cookie_header_that_is_split_into_several_is_read_as_one() {
    let sessions =
        Sessions::builder(KeyRing::new(key(1))).cookie_name("s").secure(Secure::Auto).build().unwrap();
    serve(sessions, async |address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (line, body) = ask(&mut client, &[]).await;
        assert_eq!(body, "1 New");
        let line = line.unwrap();
        assert!(!line.contains("; Secure"), "the scheme is http: {line}");
        let cookie = line.split(';').next().unwrap();
        // RFC 9113, section 8.2.3: clients may send each pair in a header of its own.
        for crumbs in [&[cookie][..], &["a=1", cookie], &[cookie, "b=2"], &["a=1", cookie, "b=2; c=3"]] {
            assert_eq!(ask(&mut client, crumbs).await.1, "2 Resumed", "{crumbs:?}");
        }
        drop(client);
        driving.abort();
    })
    .await;
}
