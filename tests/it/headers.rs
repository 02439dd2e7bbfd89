//! `Vary` and `Cache-Control`, merged with those of the application and never weakened.

use actix_web::http::header::{CACHE_CONTROL, HeaderName, VARY};

use crate::support::{Answer, Bed, Reply, futures_of};

async fn reply(bed: &Bed, writes: bool, name: HeaderName, values: &'static [&'static str]) -> Reply {
    bed.call(&[], move |request| {
        let session = futures_of(request.session());
        if writes {
            session.insert("n", 1).unwrap();
        }
        Ok(values.iter().fold(Answer::ok(), |answer, value| answer.with(name.clone(), value)))
    })
    .await
}

#[actix_web::test]
async fn reading_varies_by_cookie_beside_what_the_application_varies_by() {
    let bed = Bed::new();
    for (told, expected) in [
        (&[][..], &["Cookie"][..]),
        // In one line: what adds to the first one and drops the others is common.
        (&["Accept-Encoding"], &["Accept-Encoding, Cookie"]),
        (&["Accept, Origin", "X-A"], &["Accept, Origin, X-A, Cookie"]),
        (&["cookie"], &["cookie"]),
        (&["Accept, COOKIE"], &["Accept, COOKIE"]),
        (&["*"], &["*"]),
        (&["Set-Cookie"], &["Set-Cookie, Cookie"]),
        (&[""], &["Cookie"]),
    ] {
        assert_eq!(reply(&bed, false, VARY, told).await.all(VARY), expected);
        assert_eq!(reply(&bed, true, VARY, told).await.all(VARY), expected);
    }
}

#[actix_web::test]
async fn a_response_with_the_cookie_is_never_stored_whatever_the_application_permits() {
    let bed = Bed::new();
    for (told, expected) in [
        (&[][..], &["no-store"][..]),
        (&["public, max-age=60"], &["no-store"]),
        (&["Public", "S-MaxAge = 5, immutable"], &["no-store"]),
        (&["private"], &["private, no-store"]),
        (&["private, max-age=0, must-revalidate"], &["private, must-revalidate, no-store"]),
        (&["no-transform", "no-cache"], &["no-transform, no-cache, no-store"]),
        (&["no-store"], &["no-store"]),
        (&["No-Store, private"], &["No-Store, private"]),
        (&["no-store, must-understand"], &["no-store"]),
        (&["no-store, public, max-age=60"], &["no-store"]),
    ] {
        assert_eq!(reply(&bed, true, CACHE_CONTROL, told).await.all(CACHE_CONTROL), expected, "{told:?}");
        assert_eq!(
            reply(&bed, false, CACHE_CONTROL, told).await.all(CACHE_CONTROL),
            told,
            "without a cookie"
        );
    }
}

/// Caches that know such a header look at nothing else (RFC 9213, section 2.2).
#[actix_web::test]
async fn what_permits_storing_to_some_caches_alone_is_dropped_beside_the_cookie() {
    let bed = Bed::new();
    for name in ["cdn-cache-control", "Cloudflare-CDN-Cache-Control", "surrogate-control", "x-accel-expires"]
    {
        let name: HeaderName = name.parse().unwrap();
        let told = &["max-age=600"];
        let with = reply(&bed, true, name.clone(), told).await;
        assert!(with.set_cookie().is_some());
        assert_eq!((with.all(name.clone()), with.all(CACHE_CONTROL)), (vec![], vec!["no-store"]), "{name}");
        assert_eq!(reply(&bed, false, name.clone(), told).await.all(name), told, "without a cookie");
    }
    let other = "x-cdn-cache".parse::<HeaderName>().unwrap();
    assert_eq!(reply(&bed, true, other.clone(), &["HIT"]).await.all(other), ["HIT"]);
}

#[actix_web::test]
async fn a_removal_is_not_stored_either() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let reply = bed.visit(&mut jar, sealed_session::Session::destroy).await;
    assert!(reply.removes());
    assert_eq!(reply.all(CACHE_CONTROL), ["no-store"]);
    assert_eq!(reply.all(VARY), ["Cookie"]);
}

#[actix_web::test]
async fn cache_headers_can_be_left_to_others() {
    let bed = Bed::with(|builder| builder.cache_headers(false));
    let reply = reply(&bed, true, CACHE_CONTROL, &["public"]).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!((reply.all(CACHE_CONTROL), reply.all(VARY)), (vec!["public"], vec![]));
}
