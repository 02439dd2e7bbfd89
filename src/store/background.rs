//! A runtime of the stores' own, in one thread. What a driver does for all runtimes of the process is done here: theirs may
//! end while others go on, and a handler that blocks one of them would hold up all.

use std::future::pending;
use std::io;
use std::sync::LazyLock;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

static RUNTIME: LazyLock<Option<Handle>> = LazyLock::new(|| {
    let begun = begin();
    if let Err(error) = &begun {
        tracing::warn!(target: "sealed_session", %error, "no thread for the stores; they live in the runtime that uses them first");
    }
    begun.ok()
});

fn begin() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("sealed-session".into()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}

/// Begins a task there.
pub(super) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    match &*RUNTIME {
        Some(runtime) => runtime.spawn(task),
        None => tokio::spawn(task),
    }
}
