//! The least that a layer does whose handlers can ask for something and which looks afterwards whether they did: what a
//! session layer costs without a session.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::http::Request;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// What the application has set up, which each request keeps hold of.
type Settings = Arc<()>;

#[derive(Clone, Default)]
pub(crate) struct LeastLayer {
    settings: Settings,
}

#[derive(Clone)]
pub(crate) struct LeastService<N> {
    inner: N,
    settings: Settings,
}

/// What the layer puts into the request, for handlers to find.
#[derive(Clone)]
struct Place {
    _inner: Arc<Inner>,
}

struct Inner {
    asked: OnceLock<()>,
    _settings: Settings,
}

impl<N> Layer<N> for LeastLayer {
    type Service = LeastService<N>;

    fn layer(&self, inner: N) -> Self::Service {
        LeastService { inner, settings: Arc::clone(&self.settings) }
    }
}

impl<N: Service<Request<B>>, B> Service<Request<B>> for LeastService<N> {
    type Response = N::Response;
    type Error = N::Error;
    type Future = LeastFuture<N::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), N::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let place = Arc::new(Inner { asked: OnceLock::new(), _settings: Arc::clone(&self.settings) });
        request.extensions_mut().insert(Place { _inner: Arc::clone(&place) });
        LeastFuture { inner: self.inner.call(request), place }
    }
}

pin_project! {
    pub(crate) struct LeastFuture<F> {
        #[pin]
        inner: F,
        place: Arc<Inner>,
    }
}

impl<F: Future<Output = Result<R, E>>, R, E> Future for LeastFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context))?;
        assert!(this.place.asked.get().is_none(), "no handler here asks");
        Poll::Ready(Ok(response))
    }
}
