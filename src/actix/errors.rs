//! What errors become on the wire: a status and an empty body. What went wrong is told in the log alone.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER, SET_COOKIE};
use actix_web::{HttpResponse, ResponseError};

use crate::error::{CommitError, InsertError, RevokeError, StoreError, ValueError};

/// A handler asks for a session that no middleware provides.
#[derive(Debug, thiserror::Error)]
#[error(
    "a handler asks for the session of scope `{scope}`, but no `SessionMiddleware` provides it; \
     add `.wrap(SessionMiddleware::new(sessions))`, or `SessionMiddleware::scoped` for `Scoped`, to the `App`"
)]
pub(super) struct NotWrapped {
    pub(super) scope: &'static str,
}

impl ResponseError for NotWrapped {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl ResponseError for StoreError {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl ResponseError for CommitError {
    fn error_response(&self) -> HttpResponse {
        let status = match self {
            Self::Store(_) | Self::NotEnded { .. } | Self::Conflict | Self::Ended => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Foreign => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = failure(self, status);
        // An application may have made this error itself, with a line that is none.
        if let Self::NotEnded { set_cookie: Some(line), .. } = self
            && let Ok(line) = HeaderValue::try_from(line)
        {
            response.headers_mut().append(SET_COOKIE, line);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}

impl ResponseError for RevokeError {
    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Off => failure(self, StatusCode::INTERNAL_SERVER_ERROR),
            Self::Store(_) => failure(self, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl ResponseError for InsertError {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl ResponseError for ValueError {
    fn error_response(&self) -> HttpResponse {
        failure(self, StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// An answer with an empty body: what went wrong is told in the log alone.
fn failure(error: &dyn std::error::Error, status: StatusCode) -> HttpResponse {
    let source = error.source().map(tracing::field::display);
    tracing::error!(target: "sealed_session", %error, source, "session failure answered with {}", status.as_u16());
    let mut response = HttpResponse::new(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
