//! The path at which browsers register devices, answered by the layer in the application's place.

use std::any::Any;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};

use super::extract::BoxFuture;
use crate::frameworks::response::{SECURE_SESSION_CHALLENGE, SECURE_SESSION_ID, SECURE_SESSION_RESPONSE};
use crate::sessions::{DeviceAnswer, DeviceRequest, Sessions};

/// Makes a body of the application's type.
type Make<B> = fn(Vec<u8>) -> B;

/// `Make`, for a type that only the service knows.
#[derive(Clone, Default)]
pub(super) struct Bodies(Option<Arc<dyn Any + Send + Sync>>);

impl Bodies {
    pub(super) fn of<B: 'static>(make: Make<B>) -> Self {
        Self(Some(Arc::new(make)))
    }

    fn make<B: 'static>(&self, bytes: Vec<u8>) -> Option<B> {
        if let Some(make) = self.0.as_ref().and_then(|make| make.downcast_ref::<Make<B>>()) {
            return Some(make(bytes));
        }
        #[cfg(feature = "axum")]
        {
            let mut body: Box<dyn Any> = Box::new(Some(axum_core::body::Body::from(bytes)));
            body.downcast_mut::<Option<B>>().and_then(Option::take)
        }
        #[cfg(not(feature = "axum"))]
        None
    }
}

/// The answer to a request for that path with these headers.
pub(super) fn answer<B: Default + 'static>(
    sessions: &Sessions,
    headers: &HeaderMap,
    bodies: Bodies,
) -> BoxFuture<Response<B>> {
    let values = |name| headers.get_all(HeaderName::from_static(name)).into_iter().map(HeaderValue::as_bytes);
    let asked = DeviceRequest::new(values(SECURE_SESSION_ID), values(SECURE_SESSION_RESPONSE));
    let answer = sessions.answer_device(asked, values(COOKIE.as_str()));
    Box::pin(async move { respond(answer.await, &bodies) })
}

fn respond<B: Default + 'static>(answer: DeviceAnswer, bodies: &Bodies) -> Response<B> {
    let DeviceAnswer { status, proof, challenge, body } = answer;
    let has_body = !body.is_empty();
    let body = if has_body { bodies.make(body.into_bytes()) } else { Some(B::default()) };
    let Some(body) = body else {
        tracing::error!(
            target: "sealed_session",
            "the layer cannot make a body of this service's type to answer a browser about its device; say how with \
             `SessionLayer::device_body`"
        );
        let mut failure = Response::new(B::default());
        *failure.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return failure;
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut put = |name, bytes: Vec<u8>| {
        headers.insert(name, HeaderValue::from_maybe_shared(bytes).expect("it is visible ASCII"));
    };
    put(CACHE_CONTROL, b"no-store".to_vec());
    if let Some(challenge) = challenge {
        put(HeaderName::from_static(SECURE_SESSION_CHALLENGE), challenge);
    }
    if let Some(proof) = proof {
        put(SET_COOKIE, proof.into_bytes());
    }
    if has_body {
        put(CONTENT_TYPE, b"application/json".to_vec());
    }
    response
}
