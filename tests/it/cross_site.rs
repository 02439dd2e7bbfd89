//! What a page of another site can make the session do: nothing.

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use sealed_session::{CrossSite, CrossSiteReason, Event, InsertError, Origin, SameSite, Session, Subject};

use crate::framework::ask_with;
use crate::support::{Answer, Bed, Failure, Jar, Reply, Request, Sent, Wrapped, now};

const FOREIGN: [(&str, &str); 2] = [("sec-fetch-site", "cross-site"), ("origin", "https://evil.net")];

/// One `POST` of a browser that has this cookie, with these headers besides.
async fn post<F>(bed: &Bed, jar: &Jar, headers: &[(&str, &str)], handler: F) -> Reply
where
    F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
{
    let mut sent = Sent { method: "POST", headers: vec![("host", b"example.com")] };
    sent.headers.extend(jar.0.iter().map(|cookie| ("cookie", cookie.as_bytes())));
    sent.headers.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
    ask_with(Wrapped::Once(&bed.sessions), &sent, handler).await
}

async fn logged_in(bed: &Bed) -> Jar {
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| {
        session.authenticate("ada").unwrap();
        session.insert("n", 1).unwrap();
        session.insert("much", "x".repeat(200)).unwrap();
    })
    .await;
    bed.events();
    jar
}

/// The configurations that sessions live under: in their cookies, and in a store.
fn beds(policy: CrossSite) -> [Bed; 3] {
    [
        Bed::with(|builder| builder.cross_site(policy)),
        Bed::stored(|builder| builder.cross_site(policy)),
        Bed::stored(|builder| builder.cross_site(policy).spill_above(220)),
    ]
}

type Change = fn(&Session) -> Result<(), InsertError>;

/// Everything that a handler may try to change.
const CHANGES: [Change; 8] = [
    |session| session.insert("n", 2),
    |session| session.increment("n", 1).map(drop),
    |session| session.update::<i32>("n", |n| n.unwrap_or(0) + 1).map(drop),
    |session| session.take::<i32>("n").map(drop),
    |session| session.authenticate("mallory"),
    |session| session.set_subject("mallory"),
    |session| session.set_persistent(false),
    |session| session.set_duration(std::time::Duration::from_secs(60)),
];

#[actix_web::test]
async fn a_page_of_another_site_gets_403_and_nothing_of_the_session() {
    for policy in [CrossSite::Refuse, CrossSite::AllowSameSite] {
        for bed in beds(policy) {
            let jar = logged_in(&bed).await;
            let id = bed.see(&jar, Session::id).await;
            bed.events();

            let through_extension = post(&bed, &jar, &FOREIGN, async |request| {
                request.session().await?.destroy();
                Ok(Answer::ok())
            });
            let through_extractor = post(&bed, &jar, &FOREIGN, async |request| {
                request.extract::<Session>().await?.clear();
                Ok(Answer::ok())
            });
            let for_users = post(&bed, &jar, &FOREIGN, async |request| {
                request.extract::<Subject>().await.map(|_| Answer::ok())
            });
            for reply in [through_extension.await, through_extractor.await, for_users.await] {
                assert_eq!((reply.status, &*reply.body), (StatusCode::FORBIDDEN, b"" as &[u8]), "{policy:?}");
                assert!(reply.all(SET_COOKIE).is_empty());
            }
            let events = bed.events();
            assert_eq!(events.len(), 3);
            for event in events {
                let Event::CrossSite { id: named, refused, reason, origin, host } = event else {
                    panic!("told otherwise: {event:?}")
                };
                assert_eq!((named, refused, reason), (Some(id), true, CrossSiteReason::OtherSite));
                assert_eq!(origin.as_deref(), Some("https://evil.net"));
                assert_eq!(host.as_deref(), Some("example.com"));
            }

            // A handler that does not ask for it is not judged.
            assert_eq!(post(&bed, &jar, &FOREIGN, async |_| Ok(Answer::ok())).await.status, StatusCode::OK);
            // And its own pages go on with it.
            let own = [("sec-fetch-site", "same-origin"), ("origin", "https://example.com")];
            let reply = post(&bed, &jar, &own, async move |request| {
                let session = request.session().await?;
                assert_eq!((session.subject().as_deref(), session.id()), (Some("ada"), id));
                session.increment("n", 1)?;
                Ok(Answer::ok())
            });
            assert_eq!(reply.await.status, StatusCode::OK);
        }
    }
}

/// A session that is over is none, also where another took its place.
#[cfg(feature = "memory")]
#[actix_web::test]
async fn a_foreign_request_with_the_cookie_of_a_session_that_is_over_is_none_of_its_business() {
    for replaced in [false, true] {
        let bed = crate::spy::guarded(|builder| builder).0;
        let jar = logged_in(&bed).await;
        let reply = post(&bed, &jar, &[], async move |request| {
            let session = now(request.session())?;
            if replaced {
                session.authenticate("ada").unwrap()
            } else {
                session.destroy()
            }
            Ok(Answer::ok())
        });
        assert_eq!(reply.await.status, StatusCode::OK);
        let reply = post(&bed, &jar, &FOREIGN, async |request| {
            assert!(now(request.session())?.is_empty());
            Ok(Answer::ok())
        });
        assert_eq!(reply.await.status, StatusCode::OK, "{replaced}");
    }
}

#[actix_web::test]
async fn the_session_is_as_it_was_after_a_foreign_request() {
    for bed in beds(CrossSite::Refuse) {
        let jar = logged_in(&bed).await;
        post(&bed, &jar, &FOREIGN, async |request| {
            request.session().await?.destroy();
            Ok(Answer::ok())
        })
        .await;
        let seen =
            bed.see(&jar, |session| (session.subject(), session.get::<i32>("n").unwrap(), session.origin()));
        assert_eq!(seen.await, (Some("ada".into()), Some(1), Origin::Resumed));
    }
}

/// A foreign form that logs the visitor in to an account of its own.
#[actix_web::test]
async fn a_page_of_another_site_begins_no_session() {
    for policy in [CrossSite::Refuse, CrossSite::AllowSameSite, CrossSite::Anonymous] {
        for bed in beds(policy) {
            let mut ended = logged_in(&bed).await;
            bed.visit(&mut ended.clone(), Session::destroy).await;
            ended.0.as_mut().unwrap().push('A');
            for jar in [Jar::default(), ended] {
                for change in CHANGES {
                    let reply = post(&bed, &jar, &FOREIGN, async move |request| {
                        let session = request.session().await?;
                        assert!(session.subject().is_none() && session.is_empty());
                        assert_eq!(session.origin(), Origin::CrossSite);
                        assert!(matches!(change(&session), Err(InsertError::CrossSite)));
                        change(&session)?;
                        Ok(Answer::ok())
                    });
                    let reply = reply.await;
                    assert_eq!((reply.status, &*reply.body), (StatusCode::FORBIDDEN, b"" as &[u8]));
                    assert!(reply.all(SET_COOKIE).is_empty(), "{policy:?}: {reply:?}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn what_has_no_error_to_give_does_nothing_to_a_foreign_session() {
    for policy in [CrossSite::Refuse, CrossSite::Anonymous] {
        let bed = Bed::stored(|builder| {
            builder.cross_site(policy).issue_empty(true).rolling(true).spill_above(220)
        });
        let jars = if policy == CrossSite::Anonymous {
            vec![Jar::default(), logged_in(&bed).await]
        } else {
            vec![Jar::default()]
        };
        for jar in jars {
            for work in [
                Session::destroy as fn(&Session),
                Session::renew,
                Session::touch,
                Session::skip_renewal,
                Session::reset_duration,
                Session::clear,
                |session| session.retain(|_| false),
                |session| assert!(!session.remove("n")),
                |session| now(session.save()).unwrap(),
                |session| now(session.reload()).unwrap(),
                |_| {},
            ] {
                let reply = post(&bed, &jar, &FOREIGN, async move |request| {
                    work(&request.session().await?);
                    Ok(Answer::ok())
                });
                let reply = reply.await;
                assert_eq!(reply.status, StatusCode::OK);
                assert!(reply.all(SET_COOKIE).is_empty(), "{policy:?}: {reply:?}");
            }
        }
    }
}

#[actix_web::test]
async fn anonymous_sees_nobody() {
    for bed in beds(CrossSite::Anonymous) {
        let jar = logged_in(&bed).await;
        let reply = post(&bed, &jar, &FOREIGN, async |request| {
            let session = request.session().await?;
            assert_eq!((session.subject(), session.len(), session.origin()), (None, 0, Origin::CrossSite));
            assert!(request.extract_option::<Subject>().await?.is_none());
            assert!(request.extract::<Subject>().await.is_err());
            Ok(Answer::ok())
        });
        let reply = reply.await;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.all(SET_COOKIE).is_empty());
        assert!(matches!(bed.events()[..], [Event::CrossSite { id: Some(_), refused: false, .. }]));
    }
}

#[actix_web::test]
async fn allow_lets_every_page_do_everything() {
    for bed in beds(CrossSite::Allow) {
        let jar = logged_in(&bed).await;
        let reply = post(&bed, &jar, &FOREIGN, async |request| {
            request.session().await?.destroy();
            Ok(Answer::ok())
        });
        assert!(reply.await.removes());
    }
}

#[actix_web::test]
async fn a_trusted_page_is_as_good_as_ones_own() {
    let bed = Bed::with(|builder| builder.trusted_origin("https://appleid.apple.com"));
    let jar = logged_in(&bed).await;
    let from = |origin| [("sec-fetch-site", "cross-site"), ("origin", origin)];
    for (origin, status) in
        [("https://appleid.apple.com", StatusCode::OK), ("https://apple.com", StatusCode::FORBIDDEN)]
    {
        let headers = from(origin);
        let reply = post(&bed, &jar, &headers, async |request| {
            request.session().await?.authenticate("ada")?;
            Ok(Answer::ok())
        });
        assert_eq!(reply.await.status, status, "{origin}");
    }
}

/// Webhooks and command lines: no browser, and so neither header.
#[actix_web::test]
async fn what_is_no_browser_is_not_judged_unless_the_cookie_is_for_every_site() {
    let bed = Bed::new();
    let jar = logged_in(&bed).await;
    for jar in [jar, Jar::default()] {
        let reply = post(&bed, &jar, &[], async |request| {
            request.session().await?.increment("n", 1)?;
            Ok(Answer::ok())
        });
        assert!(reply.await.set_cookie().is_some());
    }
    let bed = Bed::with(|builder| builder.same_site(SameSite::None));
    let jar = logged_in(&bed).await;
    let reply = post(&bed, &jar, &[], async |request| request.session().await.map(|_| Answer::ok()));
    assert_eq!(reply.await.status, StatusCode::FORBIDDEN);
}

#[actix_web::test]
async fn a_handshake_of_a_websocket_is_judged_and_a_link_is_not() {
    let bed = Bed::new();
    let jar = logged_in(&bed).await;
    for (upgrade, status) in [(None, StatusCode::OK), (Some("websocket"), StatusCode::FORBIDDEN)] {
        let mut sent = Sent::get(&[jar.0.as_ref().unwrap().as_bytes()]);
        sent.headers.extend(FOREIGN.map(|(name, value)| (name, value.as_bytes())));
        sent.headers.extend(upgrade.map(|value: &str| ("upgrade", value.as_bytes())));
        let ask = ask_with(Wrapped::Once(&bed.sessions), &sent, async |request| {
            request.session().await.map(|_| Answer::ok())
        });
        assert_eq!(ask.await.status, status);
    }
}

/// Where there is no `Sec-Fetch-Site`: websockets, plain HTTP and old browsers.
#[actix_web::test]
async fn an_origin_is_held_against_the_host_that_was_addressed() {
    let bed = Bed::new();
    let proxied = Bed::with(|builder| builder.forwarded_host(true));
    let of_domain = Bed::with(|builder| builder.domain("example.com"));
    for (bed, headers, status) in [
        (&bed, &[("origin", "https://example.com")] as &[_], StatusCode::OK),
        (&bed, &[("origin", "https://example.com:8443")], StatusCode::FORBIDDEN),
        (&bed, &[("origin", "https://www.example.com")], StatusCode::FORBIDDEN),
        (&bed, &[("origin", "null")], StatusCode::FORBIDDEN),
        (&bed, &[("origin", "https://b.net"), ("x-forwarded-host", "b.net")], StatusCode::FORBIDDEN),
        (&bed, &[("origin", "https://b.net"), ("forwarded", "host=b.net")], StatusCode::FORBIDDEN),
        (&proxied, &[("origin", "https://b.net"), ("x-forwarded-host", "b.net")], StatusCode::OK),
        (&proxied, &[("origin", "https://b.net"), ("forwarded", "host=b.net")], StatusCode::OK),
        (&proxied, &[("origin", "https://example.com"), ("forwarded", "host=b.net")], StatusCode::FORBIDDEN),
        (&of_domain, &[("origin", "https://www.example.com")], StatusCode::OK),
        (&of_domain, &[("sec-fetch-site", "same-site")], StatusCode::OK),
        (&of_domain, &[("origin", "https://evil.net")], StatusCode::FORBIDDEN),
    ] {
        let jar = logged_in(bed).await;
        let reply = post(bed, &jar, headers, async |request| request.session().await.map(|_| Answer::ok()));
        assert_eq!(reply.await.status, status, "{headers:?}");
    }
}

#[actix_web::test]
async fn who_asks_twice_is_told_of_once() {
    for jar in [true, false] {
        let bed = Bed::new();
        let jar = if jar { logged_in(&bed).await } else { Jar::default() };
        let refused = jar.0.is_some();
        let reply = post(&bed, &jar, &FOREIGN, async move |request| {
            assert_eq!(request.session().await.is_err(), refused);
            assert_eq!(request.extract::<Session>().await.is_err(), refused);
            Ok(Answer::ok())
        });
        assert_eq!(reply.await.status, StatusCode::OK);
        let [Event::CrossSite { id, refused: told, .. }] = bed.events()[..] else { panic!("told otherwise") };
        assert_eq!((id.is_some(), told), (refused, refused));
    }
}

/// It is over, so there is nothing to keep from anybody.
#[actix_web::test]
async fn a_session_that_is_over_is_no_reason_for_a_403() {
    for policy in [CrossSite::Refuse, CrossSite::Anonymous] {
        for bed in beds(policy).into_iter().skip(1) {
            let jar = logged_in(&bed).await;
            bed.visit(&mut jar.clone(), Session::destroy).await;
            let reply = post(&bed, &jar, &FOREIGN, async |request| {
                assert_eq!(request.session().await?.origin(), Origin::CrossSite);
                Ok(Answer::ok())
            });
            assert_eq!(reply.await.status, StatusCode::OK);
        }
    }
}

#[actix_web::test]
async fn scopes_are_judged_each_by_its_own_policy() {
    let site = Bed::with(|builder| builder.cross_site(CrossSite::Allow));
    let admin = Bed::with(|builder| builder.cookie_name("admin"));
    let site_cookie = logged_in(&site).await.0.unwrap();
    let mut of_admin = None;
    let reply = admin.call(&[], |request| {
        now(request.session())?.insert("n", 1)?;
        Ok(Answer::ok())
    });
    for line in reply.await.all(SET_COOKIE) {
        of_admin = Some(line.split(';').next().unwrap().to_owned());
    }
    let cookies = format!("{site_cookie}; {}", of_admin.unwrap());
    let mut sent = Sent { method: "POST", headers: vec![("cookie", cookies.as_bytes())] };
    sent.headers.extend(FOREIGN.map(|(name, value)| (name, value.as_bytes())));
    let wrapped = Wrapped::Scoped { site: &site.sessions, of_admin: &admin.sessions };
    let reply = ask_with(wrapped, &sent, async |request| {
        request.session().await?.increment("n", 1)?;
        assert!(request.admin_session().await.is_err());
        Ok(Answer::ok())
    });
    let reply = reply.await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.all(SET_COOKIE).len(), 1);
}
