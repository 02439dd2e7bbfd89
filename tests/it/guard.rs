//! Pages for users alone: who passes, who is sent to log in, and who is refused.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, LOCATION, RETRY_AFTER, SET_COOKIE, VARY};
use sealed_session::{ConfigError, CrossSite, LoginGuard, Session};

use crate::framework::ask_behind;
use crate::spy::stored;
use crate::support::{Admin, Answer, Bed, Jar, MINUTE, MS, Reply, Sent, Wrapped};

/// What a browser sends with a page that it is about to show.
const PAGE: [(&str, &str); 3] =
    [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-site", "same-origin")];

fn guard() -> LoginGuard {
    LoginGuard::new("/login").unwrap()
}

fn sent<'a>(method: &'a str, jar: &'a Jar, headers: &[(&'a str, &'a str)]) -> Sent<'a> {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    let cookies = jar.0.iter().map(|cookie| ("cookie", cookie.as_bytes()));
    Sent { method, headers: headers.chain(cookies).collect() }
}

/// One request to a handler behind the guard, which says `inside`.
async fn ask(guard: LoginGuard, bed: &Bed, path: &str, sent: &Sent<'_>) -> Reply {
    let inside = async |_| Ok(Answer::ok().body("inside"));
    ask_behind(guard, Wrapped::Once(&bed.sessions), path, sent, inside).await
}

/// A browser that opens this page.
async fn open(bed: &Bed, jar: &Jar, path: &str) -> Reply {
    ask(guard(), bed, path, &sent("GET", jar, &PAGE)).await
}

async fn logged_in(bed: &Bed) -> Jar {
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    jar
}

/// With a row in the store.
async fn stored_and_logged_in(bed: &Bed) -> Jar {
    let mut jar = logged_in(bed).await;
    bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    jar
}

#[track_caller]
fn assert_inside(reply: &Reply) {
    assert_eq!((reply.status, &*reply.body), (StatusCode::OK, b"inside" as &[u8]), "{reply:?}");
}

/// Sent there, by an answer that says no more and is kept by nobody.
#[track_caller]
fn assert_sent_to(reply: &Reply, location: &str) {
    assert_eq!((reply.status, &*reply.body), (StatusCode::SEE_OTHER, b"" as &[u8]), "{reply:?}");
    assert_eq!(reply.all(LOCATION), [location]);
    assert_eq!((reply.all(CACHE_CONTROL), reply.all(VARY)), (vec!["no-store"], vec!["Cookie"]));
    assert!(reply.all(SET_COOKIE).is_empty());
}

#[track_caller]
fn assert_unauthorized(reply: &Reply) {
    assert_eq!((reply.status, &*reply.body), (StatusCode::UNAUTHORIZED, b"" as &[u8]), "{reply:?}");
    assert!(reply.all(LOCATION).is_empty());
    assert_eq!((reply.all(CACHE_CONTROL), reply.all(VARY)), (vec!["no-store"], vec!["Cookie"]));
}

#[actix_web::test]
async fn who_is_not_logged_in_is_sent_to_log_in_with_the_way_back() {
    let bed = Bed::new();
    let visitor = bed.logged_in().await;
    for (path, location) in [
        ("/orders", "/login?next=%2Forders"),
        ("/orders?page=2&q=a+b%20c", "/login?next=%2Forders%3Fpage%3D2%26q%3Da%2Bb%2520c"),
        ("/a?b=https://evil.example//c", "/login?next=%2Fa%3Fb%3Dhttps%3A%2F%2Fevil.example%2F%2Fc"),
        ("/a~b/c-d_e.f", "/login?next=%2Fa~b%2Fc-d_e.f"),
        ("/%C3%A9t%C3%A9", "/login?next=%2F%25C3%25A9t%25C3%25A9"),
        ("/?page=2", "/login?next=%2F%3Fpage%3D2"),
        ("/", "/login"),
        ("https://app.example/orders?page=2", "/login?next=%2Forders%3Fpage%3D2"),
    ] {
        for jar in [&Jar::default(), &visitor] {
            assert_sent_to(&open(&bed, jar, path).await, location);
            assert_sent_to(&ask(guard(), &bed, path, &sent("HEAD", jar, &PAGE)).await, location);
        }
    }
}

#[actix_web::test]
async fn an_address_that_may_lead_elsewhere_is_no_way_back() {
    let bed = Bed::new();
    let long = format!("/{}", "a".repeat(2_050));
    // Each slash becomes three bytes.
    let long_encoded = format!("/{}", "a/".repeat(600));
    for path in [
        "//evil.example/x",
        "///evil.example/x",
        r"/\evil.example",
        r"/a\..\b",
        "/.//evil.example",
        "/..//evil.example",
        "/%2fevil.example",
        "/%2F%2Fevil.example",
        "/%5cevil.example",
        "/%09/evil.example",
        "/%252fevil.example",
        "/a%0d%0ab",
        "/a//b",
        &long,
        &long_encoded,
    ] {
        assert_sent_to(&open(&bed, &Jar::default(), path).await, "/login");
    }
}

#[actix_web::test]
async fn a_form_of_who_is_not_logged_in_leads_to_the_login_without_a_way_back() {
    let bed = Bed::new();
    for method in ["POST", "PUT", "DELETE"] {
        let reply = ask(guard(), &bed, "/orders?page=2", &sent(method, &Jar::default(), &PAGE)).await;
        assert_sent_to(&reply, "/login");
    }
}

#[actix_web::test]
async fn what_is_no_page_gets_401() {
    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let bed = Bed::new();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for headers in [
            &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")] as &[_],
            &[("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "empty")],
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            &[("sec-fetch-mode", "websocket"), ("sec-fetch-dest", "websocket"), ("upgrade", "websocket")],
            &[("sec-fetch-mode", "cors"), HTML],
            &[("sec-fetch-mode", "Navigate"), HTML],
            &[("sec-fetch-mode", ""), HTML],
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-mode", "cors"), HTML],
            // No browser, or an old one.
            &[],
            &[("accept", "*/*")],
            &[("accept", "application/json, text/plain, */*")],
            &[("accept", "text/htmlx, x-text/html, image/*;a=text/html")],
            &[("upgrade", "websocket"), ("connection", "upgrade")],
        ] {
            let reply = ask(guard(), &bed, "/orders", &sent(method, &Jar::default(), headers)).await;
            assert_unauthorized(&reply);
        }
    }
}

#[actix_web::test]
async fn a_page_is_known_by_its_mode_and_without_one_by_what_it_accepts() {
    let bed = Bed::new();
    for headers in [
        &[("sec-fetch-mode", "navigate")] as &[_],
        &[("sec-fetch-mode", "navigate"), ("accept", "*/*")],
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        // A service worker that passes the request on.
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "empty")],
        &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")],
        &[("accept", "image/webp, Text/HTML ;q=0.9")],
        &[("accept", "image/webp"), ("accept", "text/html")],
    ] {
        let reply = ask(guard(), &bed, "/orders", &sent("GET", &Jar::default(), headers)).await;
        assert_sent_to(&reply, "/login?next=%2Forders");
        let reply = ask(guard(), &bed, "/orders", &sent("POST", &Jar::default(), headers)).await;
        assert_sent_to(&reply, "/login");
    }
}

#[actix_web::test]
async fn who_is_logged_in_passes_with_everything() {
    let (bed, spy) = stored(|builder| builder);
    for jar in [logged_in(&bed).await, stored_and_logged_in(&bed).await] {
        for slowly in [false, true] {
            spy.slowly(slowly);
            for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
                for headers in [&PAGE as &[_], &[("sec-fetch-mode", "cors")], &[]] {
                    for path in ["/", "/orders?page=2", "//evil.example/"] {
                        let reply = ask(guard(), &bed, path, &sent(method, &jar, headers)).await;
                        assert_inside(&reply);
                        assert_eq!(reply.all(VARY), ["Cookie"]);
                        assert!(reply.all(CACHE_CONTROL).is_empty());
                    }
                }
            }
        }
    }
}

#[actix_web::test]
async fn the_handler_has_the_session_that_the_guard_has_asked_for() {
    let (bed, spy) = stored(|builder| builder);
    let jar = stored_and_logged_in(&bed).await;
    spy.calls();
    let reply = ask_behind(
        guard(),
        Wrapped::Once(&bed.sessions),
        "/orders",
        &sent("GET", &jar, &PAGE),
        async |request| {
            assert!(request.try_session().is_some());
            assert_eq!(request.extract::<sealed_session::Subject>().await?.0, "ada");
            request.session().await?.insert("n", 1)?;
            Ok(Answer::ok())
        },
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(spy.calls(), ["load", "write"]);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1));
}

#[actix_web::test]
async fn who_has_logged_out_is_sent_to_log_in() {
    let (bed, spy) = stored(|builder| builder);
    let copy = stored_and_logged_in(&bed).await;
    let mut jar = copy.clone();
    bed.visit(&mut jar, Session::destroy).await;
    for slowly in [false, true] {
        spy.slowly(slowly);
        for jar in [&jar, &copy] {
            let reply = open(&bed, jar, "/orders").await;
            assert_eq!(
                (reply.status, reply.all(LOCATION)),
                (StatusCode::SEE_OTHER, vec!["/login?next=%2Forders"])
            );
            assert_unauthorized(&ask(guard(), &bed, "/orders", &sent("GET", jar, &[])).await);
        }
    }
}

#[actix_web::test]
async fn who_logged_in_too_long_ago_is_sent_to_log_in_again_where_that_is_asked_for() {
    let recently = || guard().fresh(5 * MINUTE).unwrap();
    let bed = Bed::new();
    let mut jar = logged_in(&bed).await;
    bed.clock.advance(5 * MINUTE - MS);
    assert_inside(&ask(recently(), &bed, "/email", &sent("GET", &jar, &PAGE)).await);
    bed.clock.advance(MS);
    let page = sent("GET", &jar, &PAGE);
    let reply = ask(recently(), &bed, "/email", &page).await;
    assert_eq!((reply.status, reply.all(LOCATION)), (StatusCode::SEE_OTHER, vec!["/login?next=%2Femail"]));
    let script = sent("POST", &jar, &[("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")]);
    assert_eq!(ask(recently(), &bed, "/email", &script).await.status, StatusCode::UNAUTHORIZED);
    assert_inside(&ask(guard(), &bed, "/email", &page).await);

    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    assert_inside(&ask(recently(), &bed, "/email", &sent("GET", &jar, &PAGE)).await);

    // Never authenticated, however young.
    bed.visit(&mut jar, |session| session.set_subject("bob").unwrap()).await;
    let page = sent("GET", &jar, &PAGE);
    assert_sent_to(&ask(recently(), &bed, "/email", &page).await, "/login?next=%2Femail");
    assert_inside(&ask(guard(), &bed, "/email", &page).await);
}

#[actix_web::test]
async fn the_login_page_always_passes_and_nothing_that_looks_like_it() {
    let (bed, spy) = stored(|builder| builder);
    let jar = stored_and_logged_in(&bed).await;
    spy.go_down(true);
    spy.calls();
    for path in ["/login", "/login?next=%2Forders", "/login?"] {
        for method in ["GET", "HEAD", "POST"] {
            for headers in [&PAGE as &[_], &[], &[("sec-fetch-site", "cross-site")]] {
                for jar in [&jar, &Jar::default()] {
                    let reply = ask(guard(), &bed, path, &sent(method, jar, headers)).await;
                    assert_inside(&reply);
                    assert!(reply.all(VARY).is_empty(), "the session is not asked for");
                }
            }
        }
    }
    assert!(spy.calls().is_empty());
    for path in
        ["/login/", "/Login", "/%6cogin", "//login", "/login/x", "/x/login", "/login;a=b", "/logi", "/loginx"]
    {
        assert_eq!(open(&bed, &Jar::default(), path).await.status, StatusCode::SEE_OTHER, "{path}");
    }
}

#[actix_web::test]
async fn a_store_that_fails_is_503_and_no_login() {
    let (bed, spy) = stored(|builder| builder);
    let jar = stored_and_logged_in(&bed).await;
    spy.go_down(true);
    for slowly in [false, true] {
        spy.slowly(slowly);
        for headers in [&PAGE as &[_], &[]] {
            let reply = ask(guard(), &bed, "/orders", &sent("GET", &jar, headers)).await;
            assert_eq!((reply.status, &*reply.body), (StatusCode::SERVICE_UNAVAILABLE, b"" as &[u8]));
            assert_eq!((reply.all(RETRY_AFTER), reply.all(LOCATION)), (vec!["1"], vec![]));
        }
    }
}

#[actix_web::test]
async fn another_sites_page_is_refused_as_everywhere() {
    let foreign = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "cross-site")];
    let bed = Bed::new();
    let jar = logged_in(&bed).await;
    let reply = ask(guard(), &bed, "/orders", &sent("POST", &jar, &foreign)).await;
    assert_eq!((reply.status, &*reply.body), (StatusCode::FORBIDDEN, b"" as &[u8]));
    assert!(reply.all(LOCATION).is_empty() && reply.all(SET_COOKIE).is_empty());
    let handshake =
        [("upgrade", "websocket"), ("sec-fetch-mode", "websocket"), ("sec-fetch-site", "cross-site")];
    let reply = ask(guard(), &bed, "/orders", &sent("GET", &jar, &handshake)).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    // A link is no attack.
    assert_inside(&ask(guard(), &bed, "/orders", &sent("GET", &jar, &foreign)).await);

    let bed = Bed::with(|builder| builder.cross_site(CrossSite::Anonymous));
    let jar = logged_in(&bed).await;
    assert_sent_to(&ask(guard(), &bed, "/orders", &sent("POST", &jar, &foreign)).await, "/login");
}

#[actix_web::test]
async fn without_a_session_around_it_the_guard_lets_nobody_pass() {
    for headers in [&PAGE as &[_], &[]] {
        let jar = Jar::default();
        let sent = sent("GET", &jar, headers);
        let reply = ask_behind(guard(), Wrapped::Not, "/orders", &sent, async |_| unreachable!()).await;
        assert_eq!((reply.status, &*reply.body), (StatusCode::INTERNAL_SERVER_ERROR, b"" as &[u8]));
    }
}

#[actix_web::test]
async fn each_scope_has_its_guard() {
    let (site, of_admin) = (Bed::new(), Bed::with(|builder| builder.cookie_name("admin")));
    let jar = logged_in(&site).await;
    let wrapped = Wrapped::Scoped { site: &site.sessions, of_admin: &of_admin.sessions };
    let inside = async |_| Ok(Answer::ok().body("inside"));
    let page = sent("GET", &jar, &PAGE);
    assert_inside(&ask_behind(guard(), wrapped, "/keys", &page, inside).await);
    let of_admins = LoginGuard::scoped::<Admin>("/admin/login").unwrap();
    assert_sent_to(
        &ask_behind(of_admins, wrapped, "/keys", &page, inside).await,
        "/admin/login?next=%2Fkeys",
    );
}

#[test]
fn a_login_path_that_is_none_is_told_at_once() {
    for login in [
        "",
        "login",
        "//login",
        "/login?a=b",
        "/login?",
        "/login#top",
        "/log in",
        r"/\login",
        "/a/../login",
        "https://app.example/login",
        "/login\r\n",
    ] {
        let error = LoginGuard::new(login).unwrap_err();
        assert!(matches!(error, ConfigError::LoginPath { value, .. } if value == login));
        assert!(LoginGuard::scoped::<Admin>(login).is_err());
    }
    for login in ["/", "/login", "/login/", "/de/anmelden", "/%C3%A9t%C3%A9"] {
        assert!(LoginGuard::new(login).is_ok(), "{login}");
    }
    for within in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
        assert!(matches!(guard().fresh(within), Err(ConfigError::OutOfRange { setting: "fresh", .. })));
    }
}
