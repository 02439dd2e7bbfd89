//! The session of the request that a thread is working on, so that the log of an error can name it.

use std::cell::Cell;

use crate::core::record::{LogId, SessionId};
use crate::core::session::Session;

thread_local! {
    static CURRENT: Cell<SessionId> = const { Cell::new(SessionId::NONE) };
}

/// One turn of a request's work. When it is over, the thread goes on with another request.
pub(crate) struct Turn(());

/// Begins a turn of a request, whose session may have been loaded before.
pub(crate) fn turn(loaded: Option<&Session>) -> Turn {
    loaded.into_iter().for_each(note);
    Turn(())
}

/// Notes the session of the request whose turn it is.
pub(crate) fn note(session: &Session) {
    CURRENT.set(session.with(|state| state.header.id));
}

/// What the log calls the session, if there is one that has an id already.
pub(crate) fn log_id() -> Option<LogId> {
    let id = CURRENT.get();
    (id != SessionId::NONE).then(|| id.log_id())
}

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(SessionId::NONE);
    }
}
