//! What runs to completion once begun, even if nobody waits for it any more: the end of a session, and a `save`.
//!
//! Frameworks drop the future of a request whose client has gone. A session that was half-way to its end by then would
//! go on, although its owner has logged out.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that goes on in a task of its own if it is dropped before its end. Without a tokio runtime it is dropped like
/// any other, and also when the runtime shuts down.
pub(super) struct Completion<T: 'static> {
    /// `None`: completed, or panicked.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    runtime: Option<Handle>,
}

pub(super) fn run_to_completion<T: 'static>(work: impl Future<Output = T> + Send + 'static) -> Completion<T> {
    Completion { work: Some(Box::pin(work)), runtime: Handle::try_current().ok() }
}

impl<T: 'static> Future for Completion<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut work = self.work.take().expect("a future is not polled after it was ready");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: 'static> Drop for Completion<T> {
    fn drop(&mut self) {
        if let (Some(work), Some(runtime)) = (self.work.take(), &self.runtime) {
            runtime.spawn(async move { drop(work.await) });
        }
    }
}
