//! The guard of pages for logged-in users only, as a middleware.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready as poll_ready};

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::{Error, HttpResponse};
use pin_project_lite::pin_project;

use super::RequestHead;
use super::extract::{Kind, Loading, load};
use crate::core::session::Session;
use crate::frameworks::login_guard::{Gate, LoginGuard};

impl<S, N, B> Transform<N, ServiceRequest> for LoginGuard<S>
where
    S: 'static,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = LoginGuardService<N, S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: N) -> Self::Future {
        ready(Ok(LoginGuardService { inner: Rc::new(inner), guard: self.clone() }))
    }
}

/// What the guard wraps a service into.
pub struct LoginGuardService<N, S> {
    inner: Rc<N>,
    guard: LoginGuard<S>,
}

impl<N, S> fmt::Debug for LoginGuardService<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoginGuardService").field(&self.guard).finish()
    }
}

impl<N, S, B> Service<ServiceRequest> for LoginGuardService<N, S>
where
    S: 'static,
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = LoginGuardFuture<N>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let gate = &self.guard.gate;
        let stage = if gate.is_login(request.uri().path()) {
            Stage::Passed { future: self.inner.call(request) }
        } else {
            match load::<S>(request.request()) {
                Loading(Kind::Ready(outcome)) => judge(gate, outcome.into_inner(), &*self.inner, request),
                loading @ Loading(Kind::Stored(_)) => {
                    let held = Held { gate: Arc::clone(gate), inner: Rc::clone(&self.inner), request };
                    Stage::Waiting { loading, held: Some(Box::new(held)) }
                }
            }
        };
        LoginGuardFuture { stage }
    }
}

/// Passes the request on, or answers it: with a response, not an error, so that middleware around this one treats it as
/// such.
fn judge<N: Service<ServiceRequest>>(
    gate: &Gate,
    outcome: Result<Session, Error>,
    inner: &N,
    request: ServiceRequest,
) -> Stage<N> {
    let response = match outcome {
        Ok(session) if gate.admits(&session) => return Stage::Passed { future: inner.call(request) },
        Ok(session) => {
            let (method, uri) = (request.method(), request.uri());
            let head = RequestHead { method, uri, headers: request.headers() };
            let refusal = gate.refuse(&session, &head, uri.path_and_query().map(|target| target.as_str()));
            let status = refusal.pick(StatusCode::OK, StatusCode::SEE_OTHER, StatusCode::UNAUTHORIZED);
            let mut response = HttpResponse::new(status);
            refusal.attach(response.headers_mut());
            request.into_response(response)
        }
        Err(error) => request.error_response(error),
    };
    Stage::Answered { response: Some(response) }
}

pin_project! {
    /// Waits for the session if it needs the store, then for the inner service if the request passes.
    pub struct LoginGuardFuture<N>
    where
        N: Service<ServiceRequest>,
    {
        #[pin]
        stage: Stage<N>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<N>
    where
        N: Service<ServiceRequest>,
    {
        Waiting { loading: Loading<Session>, held: Option<Box<Held<N>>> },
        Passed { #[pin] future: N::Future },
        Answered { response: Option<ServiceResponse<BoxBody>> },
    }
}

/// A request that waits for the store.
struct Held<N> {
    gate: Arc<Gate>,
    inner: Rc<N>,
    request: ServiceRequest,
}

impl<N: Service<ServiceRequest>> fmt::Debug for LoginGuardFuture<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginGuardFuture").finish_non_exhaustive()
    }
}

impl<N, B> Future for LoginGuardFuture<N>
where
    N: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        const OVER: &str = "a future is not polled after it was ready";

        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                StageProjection::Waiting { loading, held } => {
                    let outcome = poll_ready!(Pin::new(loading).poll(context));
                    let Held { gate, inner, request } = *held.take().expect(OVER);
                    judge(&gate, outcome, &*inner, request)
                }
                StageProjection::Passed { future } => {
                    return future.poll(context).map_ok(ServiceResponse::map_into_left_body);
                }
                StageProjection::Answered { response } => {
                    return Poll::Ready(Ok(response.take().expect(OVER).map_into_right_body()));
                }
            };
            stage.set(next);
        }
    }
}
