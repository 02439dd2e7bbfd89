//! What is possible with actix-web alone.

use actix_web::dev::{Service as _, ServiceResponse};
use actix_web::error::ErrorImATeapot;
use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpResponse, test, web};
use sealed_session::actix::SessionExt as _;
use sealed_session::{CommitContext, Session, SessionMiddleware};

use crate::support::{Bed, now};

#[actix_web::test]
async fn the_session_is_committed_when_an_inner_middleware_returns_an_error() {
    let bed = Bed::new();
    let app = App::new()
        .wrap_fn(|request, _| {
            now(request.session()).unwrap().insert("n", 1).unwrap();
            async { Err::<ServiceResponse, _>(ErrorImATeapot("short and stout")) }
        })
        .wrap(SessionMiddleware::new(bed.sessions.clone()))
        .default_service(web::to(HttpResponse::Ok));
    let app = test::init_service(app).await;
    let error = test::try_call_service(&app, test::TestRequest::get().to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers().get_all(SET_COOKIE).count(), 1);
    assert_eq!(response.headers().get("vary").unwrap(), "Cookie");
    assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
}

/// Its response, and so the size of its head, is made only later: 512 bytes are left to it.
#[actix_web::test]
async fn a_session_beside_an_error_leaves_room_for_the_head_that_the_error_will_have() {
    let (bed, _) = crate::spy::stored(|builder| builder.response_head_budget(2_000));
    let error = async |len: usize| {
        let app = App::new()
            .wrap_fn(move |request, _| {
                now(request.session()).unwrap().insert("text", "x".repeat(len)).unwrap();
                async { Err::<ServiceResponse, _>(ErrorImATeapot("")) }
            })
            .wrap(SessionMiddleware::new(bed.sessions.clone()))
            .default_service(web::to(HttpResponse::Ok));
        let app = test::init_service(app).await;
        let error = test::try_call_service(&app, test::TestRequest::get().to_request()).await.unwrap_err();
        error.error_response().headers().get(SET_COOKIE).unwrap().to_str().unwrap().to_owned()
    };
    let response = async |len: usize| {
        let session = bed.sessions.load(["a=1"]).await.unwrap();
        session.insert("text", "x".repeat(len)).unwrap();
        let context = CommitContext { response_head_bytes: 512, secure: true };
        bed.sessions.commit(&session, context).await.unwrap().pop().unwrap()
    };
    let (mut stays, mut spills) = (0, 2_000);
    while stays + 1 < spills {
        let len = (stays + spills) / 2;
        if error(len).await.len() < 400 { spills = len } else { stays = len }
    }
    assert!(stays > 500, "{stays}");
    assert!(response(stays).await.len() > 400, "a response of that size has the same room");
    assert!(response(spills).await.len() < 400);
}

/// As `actix-cors` does it: headers for a response, and none for an error.
#[actix_web::test]
async fn middleware_around_this_one_sees_a_response_where_the_session_could_not_be_saved() {
    let (bed, spy) = crate::spy::stored(|builder| builder);
    spy.go_down(true);
    let app = App::new()
        .wrap(SessionMiddleware::new(bed.sessions.clone()))
        .wrap(DefaultHeaders::new().add(("access-control-allow-origin", "https://shop.example")))
        .default_service(web::to(async |session: Session| {
            session.insert("large", "x".repeat(5_000)).map(|()| HttpResponse::Created().body("all is well"))
        }));
    let app = test::init_service(app).await;
    let response = test::call_service(&app, test::TestRequest::get().to_request()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), "https://shop.example");
    assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    assert!(response.response().error().is_some(), "loggers may ask what went wrong");
    assert!(test::read_body(response).await.is_empty());
}

/// Middleware around the route asks the request that it is given, not the one that handlers get.
#[actix_web::test]
async fn a_service_request_knows_its_session_once_it_is_loaded() {
    let bed = Bed::new();
    let app = App::new()
        .wrap_fn(|request, service| {
            assert!(request.try_session().is_none(), "nobody has asked for it");
            let session = now(request.session()).unwrap();
            assert_eq!(request.try_session().unwrap().id(), session.id());
            session.insert("n", 1).unwrap();
            assert!(request.try_session().unwrap().contains_key("n"), "it is the same one");
            service.call(request)
        })
        .wrap(SessionMiddleware::new(bed.sessions.clone()))
        .default_service(web::to(HttpResponse::Ok));
    let app = test::init_service(app).await;
    assert_eq!(test::call_service(&app, test::TestRequest::get().to_request()).await.status(), 200);
}

/// What an inner scope has done is done, and its browser has to know.
#[actix_web::test]
async fn the_cookie_of_an_inner_scope_outlives_an_error_beside_which_the_outer_one_fails() {
    enum Admin {}
    let inner = Bed::new();
    let (outer, spy) = crate::spy::stored(|builder| builder.cookie_name("admin"));
    let app = App::new()
        .wrap_fn(|request, _| {
            now(request.session()).unwrap().authenticate("ada").unwrap();
            let admin = now(request.scoped_session::<Admin>()).unwrap();
            admin.insert("large", "x".repeat(5_000)).unwrap();
            async { Err::<ServiceResponse, _>(ErrorImATeapot("")) }
        })
        .wrap(SessionMiddleware::new(inner.sessions.clone()))
        .wrap(SessionMiddleware::scoped::<Admin>(outer.sessions.clone()))
        .default_service(web::to(HttpResponse::Ok));
    let app = test::init_service(app).await;
    spy.go_down(true);
    let error = test::try_call_service(&app, test::TestRequest::get().to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).collect();
    assert_eq!(cookies.len(), 1);
    assert!(cookies[0].to_str().unwrap().starts_with("s="));
}

/// Loggers and other middleware ask an error for its status, not for its response.
#[std::prelude::v1::test]
fn an_error_has_the_status_of_its_response() {
    use actix_web::ResponseError;
    use sealed_session::{
        CommitError, CsrfError, InsertError, IssueError, RevokeError, StoreError, TransientError,
    };

    let store = || StoreError::Unavailable("connection refused".into());
    let session = now(Bed::new().sessions.load([""; 0])).unwrap();
    session.insert("name", "ada").unwrap();
    let another = session.get::<u32>("name").unwrap_err();
    let suffix = "a b".to_owned();
    let errors: [(Box<dyn ResponseError>, StatusCode); 14] = [
        (Box::new(CsrfError::NoSession), StatusCode::FORBIDDEN),
        (Box::new(TransientError::CrossSite), StatusCode::FORBIDDEN),
        (Box::new(TransientError::Suffix { suffix }), StatusCode::INTERNAL_SERVER_ERROR),
        (Box::new(another), StatusCode::INTERNAL_SERVER_ERROR),
        (Box::new(InsertError::CrossSite), StatusCode::FORBIDDEN),
        (Box::new(InsertError::Destroyed), StatusCode::INTERNAL_SERVER_ERROR),
        (Box::new(store()), StatusCode::SERVICE_UNAVAILABLE),
        (Box::new(CommitError::Conflict), StatusCode::SERVICE_UNAVAILABLE),
        (Box::new(CommitError::Foreign), StatusCode::INTERNAL_SERVER_ERROR),
        (Box::new(RevokeError::Off), StatusCode::INTERNAL_SERVER_ERROR),
        (Box::new(IssueError::Insert(InsertError::CrossSite)), StatusCode::FORBIDDEN),
        (Box::new(IssueError::Commit(store().into())), StatusCode::SERVICE_UNAVAILABLE),
        (Box::new(IssueError::Destroyed), StatusCode::INTERNAL_SERVER_ERROR),
        (Box::new(RevokeError::Store(store())), StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (error, status) in errors {
        assert_eq!((error.status_code(), error.error_response().status()), (status, status), "{error}");
    }
}

/// Around a scope, a resource and a whole application; with middleware around it that changes responses.
#[actix_web::test]
async fn the_guard_of_a_scope_knows_the_whole_path() {
    use actix_web::http::header::LOCATION;
    use sealed_session::LoginGuard;

    let bed = Bed::new();
    let guard = LoginGuard::new("/login").unwrap();
    let page = || web::get().to(async || "a page");
    let scope = web::scope("/account")
        .wrap(guard.clone())
        .wrap(DefaultHeaders::new().add(("x-frame-options", "DENY")))
        .route("/orders", page())
        .route("/login", page())
        .service(web::scope("/inner").route("/a", page()));
    let app = App::new()
        .service(scope)
        .service(web::resource("/alone").wrap(guard).route(page()))
        .route("/login", page())
        .wrap(SessionMiddleware::new(bed.sessions.clone()));
    let app = test::init_service(app).await;
    for (path, location) in [
        ("/account/orders?page=2", Some("/login?next=%2Faccount%2Forders%3Fpage%3D2")),
        ("/account/login", Some("/login?next=%2Faccount%2Flogin")),
        ("/account/inner/a", Some("/login?next=%2Faccount%2Finner%2Fa")),
        ("/account/nowhere", Some("/login?next=%2Faccount%2Fnowhere")),
        ("/alone", Some("/login?next=%2Falone")),
        ("/login", None),
    ] {
        let request = test::TestRequest::with_uri(path).insert_header(("sec-fetch-mode", "navigate"));
        let response = test::call_service(&app, request.to_request()).await;
        let status = if location.is_some() { StatusCode::SEE_OTHER } else { StatusCode::OK };
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers().get(LOCATION).map(|value| value.to_str().unwrap()), location);
        assert_eq!(response.headers().contains_key("x-frame-options"), path.starts_with("/account"));
    }
}
