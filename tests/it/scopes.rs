//! Independent sessions side by side.

use actix_web::http::header::{COOKIE, SET_COOKIE, VARY};
use actix_web::{App, HttpRequest, HttpResponse, test, web};
use sealed_session::{KeyRing, Scoped, Session, SessionExt as _, SessionMiddleware, Sessions};

use crate::support::key;

struct Admin;

#[actix_web::test]
async fn two_scopes_under_different_names_never_see_each_other() {
    let ring = KeyRing::new(key(1));
    let site = Sessions::builder(ring.clone()).cookie_name("site").build().unwrap();
    let admin = Sessions::builder(ring).cookie_name("admin").build().unwrap();
    let app = App::new()
        .wrap(SessionMiddleware::new(site.clone()))
        .wrap(SessionMiddleware::scoped::<Admin>(admin.clone()))
        .route(
            "/write",
            web::to(
                async |one: Session,
                       two: Session,
                       a: Scoped<Admin>,
                       b: Scoped<Admin>,
                       request: HttpRequest| {
                    one.insert("n", 1).unwrap();
                    assert_eq!(two.get::<u8>("n").unwrap(), Some(1), "both are the same session");
                    assert!(!a.contains_key("n"));
                    a.insert("n", 2).unwrap();
                    assert_eq!(b.clone().into_inner().get::<u8>("n").unwrap(), Some(2));
                    assert_eq!(request.try_session().unwrap().id(), one.id());
                    assert_eq!(request.scoped_session::<Admin>().await.unwrap().id(), a.id());
                    HttpResponse::Ok().finish()
                },
            ),
        )
        .route(
            "/admin",
            web::to(async |admin: Scoped<Admin>, request: HttpRequest| {
                assert!(request.try_session().is_none(), "nobody asked for it yet");
                format!("{:?} {:?}", admin.origin(), admin.get::<u8>("n").unwrap())
            }),
        );
    let app = test::init_service(app).await;
    let response = test::call_service(&app, test::TestRequest::with_uri("/write").to_request()).await;
    let lines: Vec<&str> =
        response.headers().get_all(SET_COOKIE).map(|line| line.to_str().unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(response.headers().get_all(VARY).count(), 1);
    let pair = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
        line.split(';').next().unwrap().to_owned()
    };
    let (site, admin) = (pair("site="), pair("admin="));

    let ask = async |cookie: String| {
        let request = test::TestRequest::with_uri("/admin").insert_header((COOKIE, cookie)).to_request();
        String::from_utf8(test::call_and_read_body(&app, request).await.to_vec()).unwrap()
    };
    assert_eq!(ask(format!("{site}; {admin}")).await, "Resumed Some(2)");
    assert_eq!(ask(site.clone()).await, "New None");
    assert_eq!(ask(site.replacen("site=", "admin=", 1)).await, "Rejected(Tampered) None");
}
