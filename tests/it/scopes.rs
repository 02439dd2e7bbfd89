//! Independent sessions side by side.

use actix_web::http::StatusCode;
use actix_web::http::header::{SET_COOKIE, VARY};
use sealed_session::{KeyRing, Scoped, Session, Sessions, Subject};

use crate::framework::ask;
use crate::support::{Admin, Answer, Wrapped, key};

#[actix_web::test]
async fn two_scopes_under_different_names_never_see_each_other() {
    let ring = KeyRing::new(key(1));
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
    let ring = KeyRing::new(key(1));
    let build = |name| Sessions::builder(ring.clone()).cookie_name(name).build().unwrap();
    let (site, same, other) = (build("shop"), build("shop"), build("admin"));
    let cookie = site.issue(|session| session.authenticate("ada")).await.unwrap();
    let cookies = [cookie.as_bytes()];
    for (of_admin, status) in [
        (&same, StatusCode::INTERNAL_SERVER_ERROR),
        (&site, StatusCode::INTERNAL_SERVER_ERROR),
        (&other, StatusCode::OK),
    ] {
        let wrapped = Wrapped::Scoped { site: &site, of_admin };
        let of_site =
            ask(wrapped, &cookies, async |request| request.extract::<Subject>().await.map(|_| Answer::ok()));
        let of_scope = ask(wrapped, &cookies, async |request| {
            let admin: Scoped<Admin> = request.extract().await?;
            assert_eq!(admin.subject(), None);
            Ok(Answer::ok())
        });
        let of_extension =
            ask(wrapped, &cookies, async |request| request.admin_session().await.map(|_| Answer::ok()));
        for reply in [of_site.await, of_scope.await, of_extension.await] {
            assert_eq!(reply.status, status);
            assert_eq!(reply.all(SET_COOKIE), [""; 0]);
        }
        // Who asks for neither is not bothered.
        assert_eq!(ask(wrapped, &cookies, async |_| Ok(Answer::ok())).await.status, StatusCode::OK);
    }
}
