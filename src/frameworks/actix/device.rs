//! The path at which browsers register devices, answered by the middleware in the application's place.

use actix_web::body::EitherBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, SET_COOKIE};
use actix_web::{Error, HttpResponse};

use super::extract::LocalBox;
use crate::frameworks::response::{SECURE_SESSION_CHALLENGE, SECURE_SESSION_ID, SECURE_SESSION_RESPONSE};
use crate::sessions::{DeviceRequest, Sessions};

/// The answer to a request for that path.
pub(super) fn answer<B: 'static>(
    sessions: &Sessions,
    request: ServiceRequest,
) -> LocalBox<Result<ServiceResponse<EitherBody<B>>, Error>> {
    let headers = request.headers();
    let values = |name| headers.get_all(HeaderName::from_static(name)).map(HeaderValue::as_bytes);
    let asked = DeviceRequest::new(values(SECURE_SESSION_ID), values(SECURE_SESSION_RESPONSE));
    let answer = sessions.answer_device(asked, headers.get_all(COOKIE).map(HeaderValue::as_bytes));
    Box::pin(async move {
        let answer = answer.await;
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        response.insert_header((CACHE_CONTROL, "no-store"));
        if let Some(challenge) = answer.challenge {
            response.insert_header((SECURE_SESSION_CHALLENGE, challenge));
        }
        if let Some(proof) = answer.proof {
            response.insert_header((SET_COOKIE, proof.into_bytes()));
        }
        if !answer.body.is_empty() {
            response.insert_header((CONTENT_TYPE, "application/json"));
        }
        Ok(request.into_response(response.body(answer.body)).map_into_right_body())
    })
}
