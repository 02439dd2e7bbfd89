//! The guard of pages for logged-in users only, as a layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::extract::{Kind, is_rewritten};
use super::{Loading, RequestHead, SessionExt, SessionRejection};
use crate::core::session::Session;
use crate::frameworks::extract::Site;
use crate::frameworks::login_guard::{Gate, LoginGuard};

impl<N, S> Layer<N> for LoginGuard<S> {
    type Service = LoginGuardService<N, S>;

    fn layer(&self, inner: N) -> Self::Service {
        LoginGuardService { inner, guard: self.clone() }
    }
}

/// What the guard wraps a service into. The service has to be `Clone`, because one instance waits with each request whose
/// session needs the store; others need no clone.
pub struct LoginGuardService<N, S = Site> {
    inner: N,
    guard: LoginGuard<S>,
}

impl<N: Clone, S> Clone for LoginGuardService<N, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), guard: self.guard.clone() }
    }
}

impl<N, S> fmt::Debug for LoginGuardService<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoginGuardService").field(&self.guard).finish()
    }
}

impl<N, S, Req, Res> Service<Request<Req>> for LoginGuardService<N, S>
where
    S: 'static,
    N: Service<Request<Req>, Response = Response<Res>> + Clone,
    Res: Default,
{
    type Response = Response<Res>;
    type Error = N::Error;
    type Future = LoginGuardFuture<N, Req>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), N::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let gate = &self.guard.gate;
        let rewritten = is_rewritten::<S>(request.extensions(), request.uri());
        let stage = if !rewritten && gate.is_login(request.uri().path()) {
            Stage::Passed { future: self.inner.call(request) }
        } else {
            match request.scoped_session::<S>().0 {
                Kind::Ready(outcome) => {
                    judge(gate, outcome.into_inner(), &mut self.inner, request, rewritten)
                }
                waiting @ Kind::Stored(_) => {
                    // The clone may not be ready; the instance that is goes with the request.
                    let clone = self.inner.clone();
                    let inner = std::mem::replace(&mut self.inner, clone);
                    let held = Held { gate: Arc::clone(gate), inner, request, rewritten };
                    Stage::Waiting { loading: Loading(waiting), held: Some(Box::new(held)) }
                }
            }
        };
        LoginGuardFuture { stage }
    }
}

/// Passes the request on, or answers it.
fn judge<N, Req, Res>(
    gate: &Gate,
    outcome: Result<Session, SessionRejection>,
    inner: &mut N,
    request: Request<Req>,
    rewritten: bool,
) -> Stage<N, Req>
where
    N: Service<Request<Req>, Response = Response<Res>>,
    Res: Default,
{
    let response = match outcome {
        Ok(session) if gate.admits(&session) => return Stage::Passed { future: inner.call(request) },
        Ok(session) => {
            let (method, uri) = (request.method(), request.uri());
            let head = RequestHead { method, uri, headers: request.headers() };
            let target = uri.path_and_query().filter(|_| !rewritten).map(|target| target.as_str());
            let refusal = gate.refuse(&session, &head, target);
            let mut response = Response::new(Res::default());
            *response.status_mut() =
                refusal.pick(StatusCode::OK, StatusCode::SEE_OTHER, StatusCode::UNAUTHORIZED);
            refusal.attach(response.headers_mut());
            response
        }
        Err(rejection) => rejection.to_response(),
    };
    Stage::Answered { response: Some(response) }
}

pin_project! {
    /// Waits for the session if it needs the store, then for the inner service if the request passes.
    pub struct LoginGuardFuture<N, Req>
    where
        N: Service<Request<Req>>,
    {
        #[pin]
        stage: Stage<N, Req>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<N, Req>
    where
        N: Service<Request<Req>>,
    {
        Waiting { loading: Loading<Session>, held: Option<Box<Held<N, Req>>> },
        Passed { #[pin] future: N::Future },
        Answered { response: Option<N::Response> },
    }
}

/// A request that waits for the store.
struct Held<N, Req> {
    gate: Arc<Gate>,
    inner: N,
    request: Request<Req>,
    rewritten: bool,
}

impl<N, Req> fmt::Debug for LoginGuardFuture<N, Req>
where
    N: Service<Request<Req>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginGuardFuture").finish_non_exhaustive()
    }
}

impl<N, Req, Res> Future for LoginGuardFuture<N, Req>
where
    N: Service<Request<Req>, Response = Response<Res>>,
    Res: Default,
{
    type Output = Result<Response<Res>, N::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        const OVER: &str = "a future is not polled after it was ready";

        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                StageProjection::Waiting { loading, held } => {
                    let outcome = ready!(Pin::new(loading).poll(context));
                    let Held { gate, mut inner, request, rewritten } = *held.take().expect(OVER);
                    judge(&gate, outcome, &mut inner, request, rewritten)
                }
                StageProjection::Passed { future } => return future.poll(context),
                StageProjection::Answered { response } => {
                    return Poll::Ready(Ok(response.take().expect(OVER)));
                }
            };
            stage.set(next);
        }
    }
}
