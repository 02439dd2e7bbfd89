//! The cookie's attributes, and which of several cookies counts.

use std::time::Duration;

use sealed_session::{
    ConfigError, Event, Key, KeyRing, Lifetime, Origin, SameSite, Secure, Session, Sessions, SessionsBuilder,
};

use crate::support::{Bed, DAY, Jar, MINUTE, key};

fn write(session: &Session) {
    session.increment("n", 1).unwrap();
}

#[actix_web::test]
async fn the_removal_cookie_carries_the_attributes_of_the_cookie_that_it_removes() {
    type Configure = fn(SessionsBuilder) -> SessionsBuilder;
    let configurations: [Configure; 5] = [
        |builder| builder,
        |builder| builder.secure(Secure::Never).http_only(false),
        |builder| builder.domain("example.com").path("/app").same_site(SameSite::Strict),
        |builder| builder.same_site(SameSite::None).partitioned(true),
        |builder| builder.persistent(false),
    ];
    for configure in configurations {
        let bed = Bed::with(configure);
        let mut jar = Jar::default();
        let attributes = |reply: &crate::support::Reply| {
            let line = reply.set_cookie().unwrap();
            let parts = line.split("; ").skip(1);
            let parts = parts.filter(|part| !part.starts_with("Max-Age") && !part.starts_with("Expires"));
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        let issued = attributes(&bed.visit(&mut jar, write).await);
        let removal = bed.visit(&mut jar, Session::destroy).await;
        assert!(removal.removes());
        assert_eq!(attributes(&removal), issued);
    }
}

#[actix_web::test]
async fn a_host_prefixed_cookie_is_removed_with_secure_or_browsers_would_keep_it() {
    let bed = Bed::with(|builder| builder.cookie_name("__Host-Http-session"));
    let good = bed.sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    let reply = bed.raw(&[good.as_bytes()], Session::destroy).await;
    let line = reply.all(actix_web::http::header::SET_COOKIE).join("");
    assert!(
        line.starts_with("__Host-Http-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0;"),
        "{line}"
    );
}

#[actix_web::test]
async fn a_changed_configuration_reaches_a_live_session_at_its_next_issue() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let ring = KeyRing::new(key(1));
    let strict = Bed::on(ring, bed.clock.clone(), |builder| {
        builder.same_site(SameSite::Strict).path("/app").persistent(false)
    });
    assert_eq!(strict.visit(&mut jar, |_| {}).await.set_cookie(), None);
    let reply = strict.visit(&mut jar, write).await;
    assert_eq!(reply.attribute("SameSite"), Some("Strict"));
    assert_eq!(reply.attribute("Path"), Some("/app"));
    assert_eq!(reply.attribute("Max-Age"), None);
}

/// As some clients in Java and .NET send it, which know RFC 6265's grammar better than browsers do.
#[actix_web::test]
async fn a_cookie_that_comes_back_in_quotes_is_the_session_also_beside_its_own_copy() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    for n in 1..4 {
        let (plain, quoted) = (format!("s={}", jar.value()), format!("s=\"{}\"", jar.value()));
        for headers in [
            vec![quoted.clone()],
            vec![format!("a=\"b\"; {quoted}; c=\"d\"")],
            vec![format!("{quoted}; {plain}")],
            vec![format!("{plain}; {quoted}")],
            vec![quoted.clone(), plain],
        ] {
            let headers: Vec<&[u8]> = headers.iter().map(String::as_bytes).collect();
            let look = move |session: &Session| assert_eq!(session.get::<i64>("n").unwrap(), Some(n));
            assert_eq!(bed.raw(&headers, look).await.set_cookie(), None, "it is neither changed nor removed");
            let events = bed.events();
            assert!(matches!(events[..], [Event::Resumed { .. }]), "{events:?}");
        }
        assert_eq!(bed.sessions.inspect(&quoted[2..]), bed.sessions.inspect(jar.value()));
        // What is issued upon it carries no quotes, and goes on.
        let reply = bed.raw(&[quoted.as_bytes()], write).await;
        jar.keep(&reply);
        assert!(!reply.set_cookie().unwrap().contains('"'));
        bed.events();
    }
    let quoted = format!("s=\"{}\"", jar.value());
    assert!(bed.raw(&[quoted.as_bytes()], Session::destroy).await.removes());

    let value = jar.value();
    for broken in [
        format!("\"{value}"),
        format!("{value}\""),
        format!("\"\"{value}\"\""),
        format!("\" {value}\""),
        format!("'{value}'"),
        "\"\"".to_owned(),
        "\"".to_owned(),
    ] {
        let refused = Origin::Rejected(sealed_session::Rejection::Malformed);
        let look = move |session: &Session| assert_eq!(session.origin(), refused);
        assert!(bed.raw(&[format!("s={broken}").as_bytes()], look).await.removes(), "{broken}");
        assert_eq!(bed.sessions.inspect(&broken).unwrap_err(), sealed_session::Rejection::Malformed);
    }
}

#[actix_web::test]
async fn a_cookie_moved_to_another_name_under_the_same_ring_is_refused() {
    let ring = KeyRing::new(Key::generate());
    let one = Sessions::builder(ring.clone()).cookie_name("one").build().unwrap();
    let two = Sessions::builder(ring).cookie_name("two").build().unwrap();
    let cookie = one.issue(|session| session.insert("n", 1)).await.unwrap();
    let moved = cookie.replacen("one=", "two=", 1);
    assert_eq!(one.load([&cookie]).await.unwrap().origin(), Origin::Resumed);
    let session = two.load([&moved]).await.unwrap();
    assert_eq!(session.origin(), Origin::Rejected(sealed_session::Rejection::Tampered));
    assert!(session.is_empty());
}

#[actix_web::test]
async fn ours_is_found_behind_garbage_of_our_name_and_beside_foreign_bytes() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let good = jar.0.unwrap();
    for header in [
        format!("s=garbage; {good}").into_bytes(),
        format!("{good}; s=garbage").into_bytes(),
        [b"foreign=\xff\xfe\x80; ", good.as_bytes()].concat(),
        [good.as_bytes(), b"; \xff\xff; =; ;;"].concat(),
    ] {
        let reply = bed.raw(&[&header], |session| assert_eq!(session.origin(), Origin::Resumed)).await;
        assert_eq!(reply.set_cookie(), None);
    }
    bed.raw(&[b"a=1", b"s=garbage", good.as_bytes()], |session| assert_eq!(session.len(), 1)).await;
    let near = [good.replacen("s=", "s2=", 1), good.replacen("s=", "xs=", 1), good.replacen("s=", "S=", 1)];
    bed.raw(&[near.join("; ").as_bytes()], |session| assert_eq!(session.origin(), Origin::New)).await;
}

#[actix_web::test]
async fn of_several_cookies_of_one_session_the_latest_issue_counts() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let mut issues = vec![jar.0.clone().unwrap()];
    for _ in 0..2 {
        bed.visit(&mut jar, write).await;
        issues.push(jar.0.clone().unwrap());
    }
    bed.events();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let header = order.map(|n| issues[n].as_str()).join("; ");
        bed.raw(&[header.as_bytes()], |session| assert_eq!(session.get::<u8>("n").unwrap(), Some(3))).await;
        assert!(matches!(bed.events()[..], [Event::Resumed { .. }]));
    }
}

#[actix_web::test]
async fn of_several_live_sessions_the_one_sealed_last_counts_and_an_event_tells() {
    let bed = Bed::new();
    let planted = bed.logged_in().await.0.unwrap();
    bed.clock.advance(MINUTE);
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.insert("mine", true).unwrap()).await;
    let mine = jar.0.clone().unwrap();
    bed.events();
    for header in [format!("{planted}; {mine}"), format!("{mine}; {planted}")] {
        bed.raw(&[header.as_bytes()], |session| assert!(session.contains_key("mine"))).await;
        assert!(matches!(bed.events()[..], [Event::Resumed { .. }, Event::Ambiguous { live: 2, .. }]));
    }
}

#[actix_web::test]
async fn at_most_eight_cookies_of_a_request_are_opened() {
    let bed = Bed::new();
    let good = bed.logged_in().await.0.unwrap();
    // The last character but some belongs to the tag, so these pass every check before the cipher.
    let at = good.len() - 10;
    let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{other}{}", &good[..at], &good[at + 1..]);
    let behind = |forgeries: usize| {
        let mut all = vec![forged.clone(); forgeries];
        all.push(good.clone());
        all.join("; ")
    };
    let origin = |header: String| {
        let bed = &bed;
        async move { bed.sessions.load([header]).await.unwrap().origin() }
    };
    assert_eq!(origin(behind(7)).await, Origin::Resumed);
    assert_eq!(origin(behind(8)).await, Origin::Rejected(sealed_session::Rejection::Tampered));
    let garbage = vec!["s=garbage"; 200].join("; ");
    assert_eq!(origin(format!("{garbage}; {}", behind(7))).await, Origin::Resumed, "garbage does not count");
}

#[actix_web::test]
async fn contradictions_are_errors_of_build_that_name_what_would_be_right() {
    let refused = |configure: &dyn Fn(SessionsBuilder) -> SessionsBuilder, word: &str| {
        let error: ConfigError = configure(Sessions::builder(KeyRing::new(key(1)))).build().expect_err(word);
        assert!(error.to_string().contains(word), "{error}");
    };
    let day = || Lifetime::new(DAY);
    refused(
        &|b| b.cookie_name("s").same_site(SameSite::None).secure(Secure::Never),
        "SameSite=None needs secure",
    );
    refused(&|b| b.cookie_name("s").partitioned(true).secure(Secure::Auto), "Partitioned needs secure");
    refused(&|b| b.domain("example.com"), "no domain is set");
    refused(&|b| b.path("/app"), "the path is `/`");
    refused(&|b| b.http_only(false), "http_only(true)");
    refused(&|b| b.secure(Secure::Never), "secure(Secure::Always)");
    refused(&|b| b.secure(Secure::Auto), "secure(Secure::Always)");
    refused(&|b| b.cookie_name("a b"), "only letters");
    refused(&|b| b.lifetime(Lifetime::new(Duration::ZERO)), "duration is 0 ms");
    refused(&|b| b.lifetime(Lifetime::new(Duration::MAX)), "duration is");
    refused(&|b| b.lifetime(day().active(Duration::ZERO)), "active is 0 ms");
    refused(&|b| b.lifetime(day().active(Duration::ZERO)), "that use never prolongs call `fixed()`");
    refused(&|b| b.lifetime(day().active(2 * DAY)), "active (2 days) must not be longer than duration");
    refused(&|b| b.lifetime(day().absolute(Duration::ZERO)), "absolute is 0 ms");
    refused(&|b| b.lifetime(day().idle(Duration::MAX)), "idle is");
    refused(&|b| b.max_duration(Duration::ZERO), "max_duration is 0 ms");
    refused(&|b| b.max_duration(MINUTE), "duration (24 h) must not be longer than max_duration");
}
