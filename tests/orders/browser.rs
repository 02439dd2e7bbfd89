//! A browser whose user has logged in, and that has registered its device: all through the layer, as no request of an order is,
//! since only a framework can offer that.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use sealed_session::tower::SessionExt as _;
use sealed_session::{SessionLayer, Sessions};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::device_key::{Device, quoted};

const PATH: &str = "/device-binding/s";

pub(crate) struct Browser {
    /// As `name=value`, like the proof.
    pub(crate) cookie: String,
    pub(crate) proof: String,
}

impl Browser {
    pub(crate) async fn registered(node: &Sessions, user: &'static str) -> Self {
        let ask = async |request: Request<Body>| -> HeaderMap {
            let handler = service_fn(move |request: Request<Body>| async move {
                let session = request.into_parts().0.session().await.unwrap();
                session.authenticate(user).unwrap();
                Ok::<_, Infallible>(Response::new(Body::empty()))
            });
            let layered = SessionLayer::new(node.clone()).device_body(Body::from).layer(handler);
            layered.oneshot(request).await.unwrap().into_parts().0.headers
        };
        let cookie = |headers: &HeaderMap| {
            let line = headers[SET_COOKIE].to_str().unwrap();
            line.split(';').next().unwrap().to_owned()
        };
        let login = ask(Request::new(Body::empty())).await;
        let offer = login["secure-session-registration"].to_str().unwrap();
        let response = Device::new(1).registration(quoted(offer, "challenge="));
        let mut registration = Request::post(PATH).body(Body::empty()).unwrap();
        let headers = registration.headers_mut();
        headers.insert("secure-session-response", HeaderValue::try_from(response).unwrap());
        headers.insert(COOKIE, HeaderValue::try_from(cookie(&login)).unwrap());
        Self { cookie: cookie(&login), proof: cookie(&ask(registration).await) }
    }
}
