//! Where requests end: `commit` turns the session into the response's cookie, the store first.

mod confirm;
mod issue;
mod late;
mod revoke;
mod saving;
mod sealing;
mod settle;

pub use self::issue::Outcome;
use crate::clock::Millis;
use crate::cookie::SetCookie;
use crate::error::{CommitError, Rejection};
use crate::event::Event;
use crate::key::KeyId;
use crate::record::Place;
use crate::session::Session;
use crate::sessions::{CommitContext, Inner, Sessions};
use crate::state::{Reissue, Stage, State};

/// What stands in the response head around the value of `Set-Cookie`, and the lines that forbid caching it.
const SET_COOKIE_LINE: usize = "set-cookie: \r\n".len();
const CACHE_LINES: usize = "vary: Cookie\r\ncache-control: no-store\r\n".len();

/// What a response does about the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Leaves everything as it is.
    Keep,
    /// Seals the session into its cookie, for this reason.
    Issue(Reissue),
    /// Makes the browser forget the cookie.
    Remove,
    /// Moves the session into a row, then issues a reference.
    Spill(Reissue),
    /// Writes the row, then issues the reference if there is a reason to.
    Write(Reissue),
    /// Makes the row live longer, then issues the reference.
    Extend(Reissue),
    /// Ends the row of the former id, after the session was put where it belongs under its new one.
    Replace,
    /// Ends the row, and makes the browser forget the cookie.
    End,
}

impl Action {
    fn reissue(self) -> Reissue {
        match self {
            Self::Issue(reissue) | Self::Spill(reissue) | Self::Write(reissue) | Self::Extend(reissue) => {
                reissue
            }
            Self::Keep | Self::Remove | Self::Replace | Self::End => Reissue::Wanted,
        }
    }

    fn is_for_the_store(self) -> bool {
        match self {
            Self::Keep | Self::Issue(_) | Self::Remove => false,
            Self::Spill(_) | Self::Write(_) | Self::Extend(_) | Self::Replace | Self::End => true,
        }
    }
}

impl Sessions {
    /// Ends the session's part in the request. Returns the value of the `Set-Cookie` header to send, if any. The
    /// session can be read afterwards, but not changed; a second commit does nothing.
    ///
    /// What goes into the store is there when this returns, and the cookie that leads to it only after that.
    ///
    /// With a `Set-Cookie` the response needs `Cache-Control: no-store`, and `Vary: Cookie` whenever the session was
    /// loaded; the actix-web middleware sees to both.
    ///
    /// # Errors
    /// [`CommitError`]: the response has to be a failure then, 503 for all but [`CommitError::Foreign`].
    pub async fn commit(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<Option<String>, CommitError> {
        Ok(self.conclude(session, context).await?.map(SetCookie::into_text))
    }

    /// [`commit`](Self::commit), with what it returns as the middleware takes it.
    pub(crate) async fn conclude(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<Option<SetCookie>, CommitError> {
        self.check_home(session)?;
        let _turn = session.turn().await;
        self.inner.carry_out(session, &context, |state| self.inner.plan(state, &context)).await
    }

    /// Like [`conclude`](Self::conclude), if there is nothing to wait for.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn try_conclude(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Option<Result<Option<SetCookie>, CommitError>> {
        if let Err(foreign) = self.check_home(session) {
            return Some(Err(foreign));
        }
        let _turn = match session.gate() {
            Some(gate) => Some(gate.try_lock().ok()?),
            None => None,
        };
        self.inner.close(session, &context, |state| self.inner.plan(state, &context)).map(Ok)
    }

    fn check_home(&self, session: &Session) -> Result<(), CommitError> {
        let ours = session.limits().home == self.inner.limits.home;
        if ours { Ok(()) } else { Err(CommitError::Foreign) }
    }
}

impl Inner {
    /// What the response has to do. The one place where that is decided.
    fn plan(&self, state: &State, context: &CommitContext) -> Action {
        let stored = state.row.is_some();
        // While revocation is on, a row tells that a session is over also where none told that it lived.
        let has_end = stored || (self.revoking.is_some() && state.loaded.is_some());
        match state.stage {
            Stage::Committed | Stage::Detached => return Action::Keep,
            Stage::Destroyed if has_end => return Action::End,
            Stage::Destroyed if state.cookies > 0 => return Action::Remove,
            Stage::Destroyed => return Action::Keep,
            Stage::Open => {}
        }
        // Who has authenticated gets a session of nothing that was loaded.
        if self.is_disowned(state) && !state.authenticated {
            return Action::Keep;
        }
        if has_end && state.is_renewed() {
            return Action::Replace;
        }
        if self.is_over(state) {
            let removes = state.loaded.is_some() || state.remove_refused;
            return match removes {
                true if stored && state.entries.changed() => Action::Write(Reissue::No),
                // It was empty before, and by now another request may have filled it again.
                true if stored => Action::Keep,
                true => Action::Remove,
                false => Action::Keep,
            };
        }
        let mut reissue = state.reissue(&self.limits);
        if stored && state.outdated && (state.entries.changed() || state.saved) {
            reissue = Reissue::Wanted;
        }
        if stored && (state.entries.changed() || !state.is_current()) {
            return Action::Write(reissue);
        }
        match reissue {
            Reissue::No => Action::Keep,
            reissue if stored => Action::Extend(reissue),
            reissue => self.placed(state, reissue, context),
        }
    }

    fn waits(&self, state: &State, action: Action, now: Millis, primary: KeyId) -> bool {
        action.is_for_the_store() || self.has_to_ask(state, action, now, primary)
    }

    /// Into the cookie, or out of it.
    fn placed(&self, state: &State, reissue: Reissue, context: &CommitContext) -> Action {
        let spills = self.place(state, context) == Place::Store;
        if spills { Action::Spill(reissue) } else { Action::Issue(reissue) }
    }

    /// Where a session belongs that is not in the store yet.
    fn place(&self, state: &State, context: &CommitContext) -> Place {
        let whole = self.limits.name_value(state.whole_len());
        let fits = !state.outgrows_cookie(&self.limits) && self.head_overrun(whole, context).is_none();
        if fits { Place::Cookie } else { Place::Store }
    }

    /// The size of the response head with a cookie of this name + value, if that is over the budget.
    fn head_overrun(&self, name_value: usize, context: &CommitContext) -> Option<(usize, usize)> {
        let budget = self.limits.stored?.head_budget;
        let line = SET_COOKIE_LINE + self.cookie.line_len(context.secure, name_value);
        let bytes = context.response_head_bytes + line + if self.cache_headers { CACHE_LINES } else { 0 };
        (bytes > budget).then_some((bytes, budget))
    }

    /// Whether there is nothing that would be worth a cookie.
    fn is_over(&self, state: &State) -> bool {
        state.is_empty() && !self.issue_empty
    }

    /// Carries out the plan. Until then a clone of the session may have changed what that is, so both parts ask for it.
    async fn carry_out(
        &self,
        session: &Session,
        context: &CommitContext,
        plan: impl Fn(&State) -> Action,
    ) -> Result<Option<SetCookie>, CommitError> {
        loop {
            if let Some(line) = self.close(session, context, &plan) {
                return Ok(line);
            }
            if let Some(outcome) = self.settle(session, context, &plan).await {
                return outcome;
            }
        }
    }

    /// Carries out what needs no store; `None`: it needs one.
    fn close(
        &self,
        session: &Session,
        context: &CommitContext,
        plan: impl Fn(&State) -> Action,
    ) -> Option<Option<SetCookie>> {
        // Where something was written there will be something to do, and the plan below says what.
        let keeps = session.with(|state| {
            self.leave_behind(state);
            let keeps = !state.entries.touched() && plan(state) == Action::Keep;
            if keeps {
                state.stage = Stage::Committed;
            }
            keeps
        });
        if keeps {
            return Some(None);
        }
        // The clock may be anything, so it is asked without the lock; and the keys with it, which decide again.
        let now = self.now();
        let primary = self.sealer.ring().primary();
        let (line, events) = session.with(|state| {
            self.leave_behind(state);
            let action = plan(state);
            if self.waits(state, action, now, primary) {
                return None;
            }
            let destroyed = std::mem::replace(&mut state.stage, Stage::Committed) == Stage::Destroyed;
            Some(match action {
                Action::Issue(reissue) if self.may_wait(state, reissue, context, now) => (None, [None, None]),
                Action::Issue(_) if self.is_known_to_be_over(state, now) => {
                    let lost = Event::Lost { id: state.header.id, reason: Rejection::Revoked };
                    (None, [Some(lost), None])
                }
                Action::Issue(reissue) => {
                    self.stamp(state, now);
                    let (line, bytes) = self.seal(state, (now, now), context.secure, primary);
                    (Some(line), self.issued(state, reissue, bytes, primary))
                }
                Action::Remove => {
                    let id = state.loaded.as_ref().map(|loaded| loaded.header.id);
                    let ended = id.map(|id| Event::Ended { id, destroyed });
                    (Some(self.cookie.remove(context.secure)), [ended, None])
                }
                _ => (None, [None, None]),
            })
        })?;
        events.iter().flatten().for_each(|event| self.teller.tell(event));
        Some(line)
    }

    /// Gives the session the times and the counter that are about to be sealed.
    fn stamp(&self, state: &mut State, now: Millis) {
        state.identify();
        state.header.times = state.sealed_times(&self.limits, now);
        state.header.counter = state.header.counter.saturating_add(1);
    }
}
