//! Sessions outside of a request.

use crate::core::error::{CommitError, InsertError, IssueError};
use crate::core::session::Session;
use crate::core::state::{Origin, Stage, State};
use crate::sessions::{Brought, CommitContext, Sessions};

impl Sessions {
    /// Creates a session outside of a request and returns its cookie as `name=value`, as a browser would send it: for tests of
    /// handlers, and for programs that call your own application. It has no attributes, so it is nothing to send to a browser:
    /// for that use [`load`](Self::load) and [`commit`](Self::commit). The closure may return `()` or a `Result`.
    ///
    /// # Errors
    /// [`IssueError`] if the closure failed or destroyed the session, or if the store failed.
    ///
    /// ```
    /// # use sealed_session::{IssueError, Sessions};
    /// async fn cookie_of_ada(sessions: &Sessions) -> Result<String, IssueError> {
    ///     sessions.issue(|session| session.insert("user", "ada")).await
    /// }
    /// ```
    pub async fn issue<O: Outcome>(&self, fill: impl FnOnce(&Session) -> O) -> Result<String, IssueError> {
        let state = State::new(Origin::New, &self.core.limits.terms, self.now());
        let session = self.session(state, Brought::default());
        fill(&session).into_result()?;
        if session.with(|state| state.stage == Stage::Destroyed) {
            return Err(IssueError::Destroyed);
        }
        // It is worth a cookie, whatever is in it.
        session.with(|state| state.kept = true);
        let context = CommitContext { response_head_bytes: 0, secure: true };
        let line = self.core.carry_out(&session, &context).await?.own;
        let line = line.ok_or(IssueError::Commit(CommitError::Ended))?.into_text();
        let pair = line.split_once(';').map_or(line.as_str(), |(pair, _)| pair);
        Ok(pair.to_owned())
    }
}

/// What the closure of [`Sessions::issue`] may return: `()` or a `Result` of an [`InsertError`].
pub trait Outcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), InsertError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), InsertError> {
        Ok(())
    }
}

impl<T> Outcome for Result<T, InsertError> {
    fn into_result(self) -> Result<(), InsertError> {
        self.map(drop)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<T> Sealed for Result<T, super::InsertError> {}
}
