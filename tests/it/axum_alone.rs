//! What is possible with tower and axum alone.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{COOKIE, SET_COOKIE, VARY};
use axum::response::{IntoResponse as _, Response};
use sealed_session::tower::{SessionExt as _, SessionRejection};
use sealed_session::{
    CommitError, InsertError, IssueError, Origin, RevokeError, Session, SessionLayer, StoreError, ValueError,
};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::spy::stored;
use crate::support::{Bed, Jar, now};

fn visit(jar: &Jar) -> Request {
    let mut request = Request::new(Body::empty());
    if let Some(cookie) = &jar.0 {
        request.headers_mut().append(COOKIE, cookie.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn an_error_of_the_service_passes_through_and_the_session_stays_as_it_was() {
    let (bed, _) = stored(|builder| builder);
    let jar = bed.logged_in().await;
    bed.events();
    let failing = service_fn(|request: Request| async move {
        request.session().await.unwrap().insert("large", "x".repeat(5_000)).unwrap();
        Err::<Response, _>("the connection is gone")
    });
    let outcome = SessionLayer::new(bed.sessions.clone()).layer(failing).oneshot(visit(&jar)).await;
    assert_eq!(outcome.unwrap_err(), "the connection is gone");
    assert_eq!(bed.events().len(), 1, "it was resumed, and nothing else");
    assert_eq!(bed.see(&jar, Session::keys).await, ["n"]);
}

#[tokio::test]
async fn an_optional_session_is_there_only_for_whom_a_former_request_began_one() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let look = service_fn(|request: Request| async move {
        let (mut parts, _) = request.into_parts();
        let session =
            <Option<Session> as axum::extract::FromRequestParts<()>>::from_request_parts(&mut parts, &());
        Ok::<_, Infallible>(match session.await {
            Ok(session) => Response::new(Body::from(session.map_or("none", |session| {
                assert_eq!(session.origin(), Origin::Resumed);
                "one"
            }))),
            Err(rejection) => rejection.into_response(),
        })
    });
    let layered = SessionLayer::new(bed.sessions.clone()).layer(look);
    for (jar, expected) in
        [(&jar, "one"), (&Jar::default(), "none"), (&Jar(Some("s=garbage".into())), "none")]
    {
        let response = layered.clone().oneshot(visit(jar)).await.unwrap();
        assert_eq!(response.headers()[VARY], "Cookie");
        let body = axum::body::to_bytes(response.into_body(), 10).await.unwrap();
        assert_eq!(body, expected);
    }
    let forgotten = look.oneshot(visit(&jar)).await.unwrap();
    assert_eq!(forgotten.status(), StatusCode::INTERNAL_SERVER_ERROR, "also where it is optional");
}

#[tokio::test]
async fn a_store_that_fails_is_503_also_for_who_asks_for_an_optional_subject() {
    let (bed, spy) = stored(|builder| builder);
    let jar = crate::stored::spilled(&bed).await;
    spy.go_down(true);
    let reply = crate::framework::ask(
        crate::support::Wrapped::Once(&bed.sessions),
        &[jar.0.as_ref().unwrap().as_bytes()],
        async |request| {
            let _: Option<sealed_session::Subject> = request.extract_option().await?;
            unreachable!()
        },
    )
    .await;
    assert_eq!(reply.status, 503);
}

/// Bodies of a service that is not axum's.
#[cfg(feature = "device-binding")]
#[derive(Default)]
struct Text(Option<axum::body::Bytes>);

#[cfg(feature = "device-binding")]
impl http_body::Body for Text {
    type Data = axum::body::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// What a browser is told of its device is a body that only the service can make.
#[cfg(feature = "device-binding")]
#[tokio::test]
async fn a_service_with_bodies_of_its_own_says_how_to_make_one_for_a_device() {
    use crate::device_binding::{Browser, Device, REGISTRATION, quoted};
    use sealed_session::DeviceBinding;

    let bed = Bed::with(|builder| builder.device_binding(DeviceBinding::WhereOffered));
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let proof = Device::new(1).registration(quoted(reply.all(REGISTRATION)[0], "challenge="));
    let ask = async |layer: SessionLayer| {
        let nothing =
            service_fn(async |_: Request| Ok::<_, Infallible>(http::Response::new(Text::default())));
        let mut request = visit(&browser.session);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = "/device-binding/s".parse().unwrap();
        request.headers_mut().insert("secure-session-response", proof.parse().unwrap());
        layer.layer(nothing).oneshot(request).await.unwrap()
    };
    let layer = SessionLayer::new(bed.sessions.clone());
    let untold = ask(layer.clone()).await;
    assert_eq!((untold.status(), untold.body().0.is_none()), (StatusCode::INTERNAL_SERVER_ERROR, true));
    let told = ask(layer.device_body(|json| Text(Some(json.into())))).await;
    assert_eq!(
        (told.status(), &told.headers()["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let json: serde_json::Value = serde_json::from_slice(told.body().0.as_ref().unwrap()).unwrap();
    assert_eq!(json["refresh_url"], "/device-binding/s");
}

#[test]
fn errors_are_responses_with_an_empty_body() {
    let store = || StoreError::Unavailable("refused".into());
    let removal = || vec!["s=; Max-Age=0".to_owned()];
    let wrong = || -> ValueError {
        let session = now(Bed::new().sessions.load(["a=1"])).unwrap();
        session.insert("n", "one").unwrap();
        session.get::<u8>("n").unwrap_err()
    };
    for (response, status) in [
        (SessionRejection::NotLayered.into_response(), 500),
        (SessionRejection::from(store()).into_response(), 503),
        (SessionRejection::NotAuthenticated.into_response(), 401),
        (store().into_response(), 503),
        (CommitError::Conflict.into_response(), 503),
        (CommitError::NotEnded { set_cookies: removal(), source: store() }.into_response(), 503),
        (CommitError::Foreign.into_response(), 500),
        (RevokeError::Off.into_response(), 500),
        (IssueError::Insert(InsertError::CrossSite).into_response(), 403),
        (IssueError::Commit(store().into()).into_response(), 503),
        (IssueError::Destroyed.into_response(), 500),
        (RevokeError::Store(store()).into_response(), 503),
        (wrong().into_response(), 500),
        (sealed_session::InsertError::from(wrong()).into_response(), 500),
    ] {
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        assert_eq!(http_body_len(&response), Some(0));
    }
    let ended = CommitError::NotEnded { set_cookies: removal(), source: store() }.into_response();
    assert_eq!(ended.headers()[SET_COOKIE], "s=; Max-Age=0");
    assert_eq!(ended.headers()["cache-control"], "no-store");
}

/// Server functions of leptos and dioxus extract without a state, and show or send the rejection.
#[test]
fn server_functions_that_have_no_state_extract_what_handlers_do() {
    fn extracted<T>()
    where
        T: axum::extract::FromRequestParts<()> + Send + 'static,
        T::Rejection: axum::response::IntoResponse + std::error::Error + Send + Sync + 'static,
    {
    }
    extracted::<Session>();
    extracted::<sealed_session::Scoped<crate::support::Admin>>();
    extracted::<sealed_session::Subject>();
}

fn http_body_len(response: &Response) -> Option<u64> {
    axum::body::HttpBody::size_hint(response.body()).exact()
}
