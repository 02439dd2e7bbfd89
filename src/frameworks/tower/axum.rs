//! axum: the extractors, and what errors become as responses.

use std::future::Future;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::extract::flash;
use super::{SessionExt, SessionRejection, failure};
use crate::core::error::{
    CommitError, CsrfError, InsertError, IssueError, RevokeError, StoreError, TransientError, ValueError,
};
use crate::core::session::Session;
use crate::core::state::Origin;
use crate::frameworks::extract::{Scoped, Subject};
use crate::frameworks::response::{Failure, failure_of, refuse, remove_cookie};
use crate::sessions::flash::Flash;

type Extracted<T> = Result<T, SessionRejection>;

impl<T: Send + Sync> FromRequestParts<T> for Session {
    type Rejection = SessionRejection;

    fn from_request_parts(parts: &mut Parts, _: &T) -> impl Future<Output = Extracted<Self>> + Send {
        parts.session()
    }
}

/// `Some` for a session that an earlier request began; `None` for a visitor who has none yet, or whose cookie was
/// refused. To start a session, extract [`Session`] itself.
impl<T: Send + Sync> OptionalFromRequestParts<T> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Extracted<Option<Self>> {
        let session = parts.session().await?;
        Ok((session.origin() == Origin::Resumed).then_some(session))
    }
}

impl<S: 'static, T: Send + Sync> FromRequestParts<T> for Scoped<S> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Extracted<Self> {
        Ok(Self::new(parts.scoped_session::<S>().await?))
    }
}

impl<T: Send + Sync> FromRequestParts<T> for Flash {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Extracted<Self> {
        flash(parts).await
    }
}

impl<T: Send + Sync> FromRequestParts<T> for Subject {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Extracted<Self> {
        parts.session().await?.subject().map(Self).ok_or(SessionRejection::NotAuthenticated)
    }
}

/// `None` where nobody has logged in; a store that fails is still an error.
impl<T: Send + Sync> OptionalFromRequestParts<T> for Subject {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Extracted<Option<Self>> {
        Ok(parts.session().await?.subject().map(Self))
    }
}

impl IntoResponse for SessionRejection {
    fn into_response(self) -> Response {
        self.to_response()
    }
}

impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        failure(&self, Failure::Unavailable)
    }
}

impl IntoResponse for CommitError {
    fn into_response(self) -> Response {
        let mut response = failure::<Body>(&self, failure_of(&self));
        remove_cookie(&self, response.headers_mut());
        response
    }
}

impl IntoResponse for RevokeError {
    fn into_response(self) -> Response {
        match self {
            Self::Off | Self::Unlisted => failure(&self, Failure::Internal),
            Self::Store(_) => failure(&self, Failure::Unavailable),
        }
    }
}

impl IntoResponse for IssueError {
    fn into_response(self) -> Response {
        match self {
            Self::Insert(error) => error.into_response(),
            Self::Commit(error) => error.into_response(),
            Self::Destroyed => failure(&self, Failure::Internal),
        }
    }
}

impl IntoResponse for InsertError {
    fn into_response(self) -> Response {
        failure_unless(matches!(self, Self::CrossSite), &self)
    }
}

impl IntoResponse for CsrfError {
    fn into_response(self) -> Response {
        failure_unless(true, &self)
    }
}

impl IntoResponse for TransientError {
    fn into_response(self) -> Response {
        failure_unless(matches!(self, Self::CrossSite), &self)
    }
}

impl IntoResponse for ValueError {
    fn into_response(self) -> Response {
        failure(&self, Failure::Internal)
    }
}

/// The application's mistake, unless a page did something forbidden.
fn failure_unless(forbidden: bool, error: &dyn std::error::Error) -> Response {
    if !forbidden {
        return failure(error, Failure::Internal);
    }
    refuse(error);
    StatusCode::FORBIDDEN.into_response()
}
