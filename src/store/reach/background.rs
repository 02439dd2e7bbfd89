//! A runtime of the stores' own, in one thread. What a driver does for all runtimes of the process is done here: theirs may
//! end while others go on, and a handler that blocks one of them would hold up all.

use std::future::pending;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::{io, process, thread};

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

/// With the process that has the thread: one that was forked has a copy of this, and no thread.
static RUNTIME: Mutex<Option<(u32, Handle)>> = Mutex::new(None);

fn runtime() -> io::Result<Handle> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if let Some((_, handle)) = runtime.as_ref().filter(|(of, _)| *of == process) {
        return Ok(handle.clone());
    }
    let handle = begin()?;
    *runtime = Some((process, handle.clone()));
    Ok(handle)
}

fn begin() -> io::Result<Handle> {
    let (tell, told) = sync_channel(1);
    // The runtime is made and dropped in its thread: within another runtime it could not be dropped.
    thread::Builder::new().name("sealed-session".into()).spawn(
        move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = tell.send(Ok(runtime.handle().clone()));
                runtime.block_on(pending::<()>());
            }
            Err(error) => drop(tell.send(Err(error))),
        },
    )?;
    told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
}

/// Begins a task there; where no thread can be had, in the runtime of the caller.
pub(in crate::store) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    match runtime() {
        Ok(runtime) => runtime.spawn(task),
        Err(error) => {
            tracing::warn!(target: "sealed_session", %error, "no thread for the stores, so a driver lives in the runtime that used it first");
            tokio::spawn(task)
        }
    }
}
