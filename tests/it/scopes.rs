//! Independent sessions side by side.

use actix_web::http::StatusCode;
use actix_web::http::header::{SET_COOKIE, VARY};
use sealed_session::{Key, KeyRing, Scoped, Session, Sessions, Subject};

use crate::framework::ask;
use crate::support::{Admin, Answer, Wrapped};

#[actix_web::test]
async fn two_scopes_under_different_names_never_see_each_other() {
    let ring = KeyRing::new(Key::generate());
    let site = Sessions::builder(ring.clone()).cookie_name("site").build().unwrap();
    let admin = Sessions::builder(ring).cookie_name("admin").build().unwrap();
    let wrapped = Wrapped::Scoped { site: &site, of_admin: &admin };
    let reply = ask(wrapped, &[], async |request| {
        let (one, two): (Session, Session) = (request.extract().await?, request.extract().await?);
        let (a, b): (Scoped<Admin>, Scoped<Admin>) = (request.extract().await?, request.extract().await?);
        one.insert("n", 1)?;
        assert_eq!(two.get::<u8>("n")?, Some(1), "both are the same session");
        assert!(!a.contains_key("n"));
        a.insert("n", 2)?;
        assert_eq!(b.clone().into_inner().get::<u8>("n")?, Some(2));
        assert_eq!(request.try_session().unwrap().id(), one.id());
        assert_eq!(request.admin_session().await?.id(), a.id());
        Ok(Answer::ok())
    })
    .await;
    let lines = reply.all(SET_COOKIE);
    assert_eq!(lines.len(), 2);
    assert_eq!(reply.all(VARY), ["Cookie"]);
    let pair = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
        line.split(';').next().unwrap().to_owned()
    };
    let (site_pair, admin_pair) = (pair("site="), pair("admin="));

    let ask = async |cookie: String| {
        let seen = std::rc::Rc::new(std::cell::Cell::new(None));
        let out = std::rc::Rc::clone(&seen);
        ask(wrapped, &[cookie.as_bytes()], async move |request| {
            let admin: Scoped<Admin> = request.extract().await?;
            assert!(request.try_session().is_none(), "nobody asked for it yet");
            out.set(Some(format!("{:?} {:?}", admin.origin(), admin.get::<u8>("n")?)));
            Ok(Answer::ok())
        })
        .await;
        seen.take().unwrap()
    };
    assert_eq!(ask(format!("{site_pair}; {admin_pair}")).await, "Resumed Some(2)");
    assert_eq!(ask(site_pair.clone()).await, "New None");
    assert_eq!(ask(site_pair.replacen("site=", "admin=", 1)).await, "Rejected(Tampered) None");
}

/// A customer of the shop would be let in by the guard of its administration.
#[actix_web::test]
async fn two_scopes_of_one_cookie_are_no_session_for_either() {
    let build = |ring: &KeyRing| Sessions::builder(ring.clone()).cookie_name("shop").build().unwrap();
    let other_name = |ring: &KeyRing| Sessions::builder(ring.clone()).cookie_name("admin").build().unwrap();
    let status = async |wrapped: Wrapped<'_>, cookie: &str, scoped: bool| {
        let cookies = [cookie.as_bytes()];
        let reply = ask(wrapped, &cookies, async move |request| {
            if scoped {
                assert_eq!(request.extract::<Scoped<Admin>>().await?.subject(), None);
            } else {
                assert_eq!(&*request.extract::<Subject>().await?, "ada");
            }
            Ok(Answer::ok())
        });
        let reply = reply.await;
        assert_eq!(reply.all(SET_COOKIE), [""; 0]);
        // Who asks for neither is not bothered.
        assert_eq!(ask(wrapped, &cookies, async |_| Ok(Answer::ok())).await.status, StatusCode::OK);
        reply.status
    };
    // Rings of this test alone, because each process remembers what stands for which scope.
    let (ring, other_ring) = (KeyRing::new(Key::generate()), KeyRing::new(Key::generate()));
    let site = build(&ring);
    let cookie = site.issue(|session| session.authenticate("ada")).await.unwrap();
    for of_admin in [other_name(&ring), build(&other_ring)] {
        let wrapped = Wrapped::Scoped { site: &site, of_admin: &of_admin };
        for scoped in [false, true] {
            assert_eq!(status(wrapped, &cookie, scoped).await, StatusCode::OK, "another name, or other keys");
        }
    }
    for same in [build(&ring), site.clone()] {
        // Beside one another, each in its part of the application, is no better than around one another.
        let wrapped = Wrapped::Scoped { site: &site, of_admin: &same };
        for wrapped in [wrapped, Wrapped::Once(&site), Wrapped::Once(&same)] {
            assert_eq!(status(wrapped, &cookie, false).await, StatusCode::INTERNAL_SERVER_ERROR);
        }
        assert_eq!(status(wrapped, &cookie, true).await, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
