//! The session of the request that a thread is working on, so that the log of an error can name it.

use std::cell::Cell;

use crate::core::record::{LogId, SessionId};
use crate::core::session::Session;

/// Whose errors are answered. Where it cannot be told, the log names no session rather than another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    /// No request is being worked on.
    None,
    Nobody,
    One(SessionId),
    /// Of two scopes, or of a request within a request.
    Several,
}

thread_local! {
    static CURRENT: Cell<Current> = const { Cell::new(Current::None) };
}

impl Current {
    fn and(self, id: SessionId) -> Self {
        match (self, id) {
            (_, SessionId::NONE) => self,
            (Self::None | Self::Nobody, id) => Self::One(id),
            (Self::One(known), id) if known == id => self,
            (Self::One(_) | Self::Several, _) => Self::Several,
        }
    }
}

/// One turn of a request's work. When it is over, the thread goes on with what it did before.
pub(crate) struct Turn(Current);

/// Begins a turn of a request, whose session may have been loaded before.
pub(crate) fn turn(loaded: Option<&Session>) -> Turn {
    let before = CURRENT.get();
    let around = if before == Current::None { Current::Nobody } else { before };
    CURRENT.set(loaded.map_or(around, |session| around.and(present_id(session))));
    Turn(before)
}

fn present_id(session: &Session) -> SessionId {
    session.with(|state| state.header.id)
}

/// Notes a session that was loaded by the request whose turn it is. Outside of a turn, as in a task, it is nobody's.
pub(crate) fn note(session: &Session) {
    let current = CURRENT.get();
    if current != Current::None {
        CURRENT.set(current.and(session.first_id()));
    }
}

/// What is answered next is this session's failure, whatever else the request has. After a login it has another id than
/// before: the one that the events of its commit have.
pub(crate) fn fails(session: &Session) {
    CURRENT.set(Current::Nobody.and(present_id(session)));
}

/// What the log calls the session, if there is one that has an id already.
pub(crate) fn log_id() -> Option<LogId> {
    match CURRENT.get() {
        Current::One(id) => Some(id.log_id()),
        _ => None,
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
