//! Where requests end: `commit` turns the session into the response's cookie, the store first.

mod completion;
mod confirm;
mod device;
mod enroll;
mod issue;
mod listing;
mod plan;
mod revoke;
mod saving;
mod sealing;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;

use self::completion::run_to_completion;
pub use self::issue::Outcome;
use self::plan::{Moment, Plan, RowStep};
use crate::core::clock::Millis;
use crate::core::cookie::SetCookies;
use crate::core::error::{CommitError, End, Rejection, StoreError};
use crate::core::event::Event;
use crate::core::lifetime;
use crate::core::record::{Device, Times};
use crate::core::session::Session;
use crate::core::state::{CookieStep, Stage, State};
use crate::sessions::{CommitContext, Core, Sessions};

/// So many calls of the store one use of it may take.
const PATIENCE: u32 = 4;

impl Sessions {
    /// Ends the session's part in the request. Returns the values of the `Set-Cookie` headers to send, each in a header
    /// of its own: none or one, and more only where cookies of earlier releases are removed first
    /// ([`formerly`](crate::SessionsBuilder::formerly)). The session can be read afterwards, but not changed; a second
    /// commit does nothing.
    ///
    /// What goes into the store has been written when this returns, before the cookie that leads to it is sent. What ends
    /// a session there (`destroy`, `renew`, `authenticate`) runs to completion once begun, even if this future is
    /// dropped: then in a tokio task.
    ///
    /// With a `Set-Cookie` the response needs `Cache-Control: no-store`, and `Vary: Cookie` whenever the session was
    /// loaded; the actix-web middleware adds both.
    ///
    /// # Errors
    /// [`CommitError`]: the response has to be a failure then, 503 but for [`CommitError::TooManySessions`], a 403, and
    /// [`CommitError::Foreign`], a 500.
    pub async fn commit(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<Vec<String>, CommitError> {
        Ok(self.conclude(session, context).await?.into_texts())
    }

    /// [`commit`](Self::commit), returning what the middleware needs.
    pub(crate) async fn conclude(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<SetCookies, CommitError> {
        self.check_owner(session)?;
        // Also where it has to wait for a `save`: whoever logs out and closes the tab is logged out.
        if self.core.rows.is_some()
            && session.with(|state| state.is_renewed() || state.stage == Stage::Destroyed)
        {
            let (sessions, session) = (self.clone(), session.clone());
            return run_to_completion(async move { sessions.conclude_in_turn(&session, context).await })
                .await;
        }
        self.conclude_in_turn(session, context).await
    }

    async fn conclude_in_turn(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Result<SetCookies, CommitError> {
        let core = &self.core;
        let _access = match core.lock_store_access(session).await {
            Err(CommitError::Conflict) if session.with(|state| state.stage == Stage::Destroyed) => {
                let set_cookies = core.remove(context.secure).into_texts();
                let source =
                    StoreError::Timeout("another use of the store by this session took too long".into());
                return Err(CommitError::NotEnded { set_cookies, source });
            }
            access => access?,
        };
        let outcome = core.carry_out(session, &context).await;
        Ok(core.with_device(session, outcome?))
    }

    /// Like [`conclude`](Self::conclude), if there is nothing to wait for.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn try_conclude(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Option<Result<SetCookies, CommitError>> {
        if let Err(foreign) = self.check_owner(session) {
            return Some(Err(foreign));
        }
        let _access = match session.gate() {
            Some(gate) => Some(gate.try_lock().ok()?),
            None => None,
        };
        let lines = self.core.close(session, &context)?;
        Some(Ok(self.core.with_device(session, lines)))
    }

    fn check_owner(&self, session: &Session) -> Result<(), CommitError> {
        let ours = session.limits().owner == self.core.limits.owner;
        if ours { Ok(()) } else { Err(CommitError::Foreign) }
    }
}

impl Core {
    /// Carries out the plan. A clone of the session may change it until then, so both parts ask for it.
    async fn carry_out(
        self: &Arc<Self>,
        session: &Session,
        context: &CommitContext,
    ) -> Result<SetCookies, CommitError> {
        loop {
            if let Some(lines) = self.close(session, context) {
                return Ok(lines);
            }
            if let Some(outcome) = self.settle(session, context).await {
                return outcome;
            }
        }
    }

    /// Carries out what needs no store; `None`: it needs one.
    fn close(&self, session: &Session, context: &CommitContext) -> Option<SetCookies> {
        let mut events = [None, None, None, None];
        let closed = session.with(|state| {
            self.leave_behind(state);
            // Where something was written there will be something to do, and the plan says what.
            let is_idle = !state.entries.touched() && Plan::of(self, state, context) == Plan::NOTHING;
            if is_idle && !self.is_named(state) {
                state.stage = Stage::Committed;
                return Some(Some(SetCookies::default()));
            }
            Some(self.close_at(&self.moment(self.own_now()?, context), state, &mut events))
        });
        // A clock and a source of keys may be any code, so they are asked without the lock, and then it is decided again.
        let closed = closed.unwrap_or_else(|| {
            let now = self.now();
            session.with(|state| {
                self.leave_behind(state);
                self.close_at(&self.moment(now, context), state, &mut events)
            })
        });
        events.iter().flatten().for_each(|event| self.sink.tell(event));
        closed
    }

    fn close_at(
        &self,
        moment: &Moment,
        state: &mut State,
        events: &mut [Option<Event>; 4],
    ) -> Option<SetCookies> {
        let &Moment { now, primary, ref context } = moment;
        let plan = Plan::of(self, state, context);
        if plan.needs_store(self, state, moment) {
            return None;
        }
        let plan = plan.in_time(self, state, moment);
        let destroyed = std::mem::replace(&mut state.stage, Stage::Committed) == Stage::Destroyed;
        Some(match plan.cookie {
            // Its key was revoked, so what was written is lost.
            CookieStep::Leave if self.is_disowned(state) || state.is_unproven() => SetCookies::lost(),
            CookieStep::Leave => SetCookies::default(),
            // Nothing goes over a newer cookie. But whoever logs out is logged out.
            _ if !destroyed && self.is_known_to_be_over(state) => {
                events[0] = Some(Event::Lost { id: state.header.id, reason: Rejection::Revoked });
                SetCookies::lost()
            }
            step @ (CookieStep::Prolong | CookieStep::Issue) => {
                let times = state.sealed_times(&self.limits, now);
                if let Some(end) = self.would_be_over(state, &times, now) {
                    let lost = Event::Lost { id: state.identify(), reason: Rejection::Expired(end) };
                    events[0] = (step == CookieStep::Issue).then_some(lost);
                    return Some(SetCookies { lost: step == CookieStep::Issue, ..SetCookies::default() });
                }
                self.stamp(state, times);
                state.issued_under = Some(primary);
                let (line, bytes) = self.seal(state, moment, now, primary);
                let [change, resealed, bound] = self.issued(state, step, bytes, primary);
                *events = [change, resealed, bound, Self::authentication(state)];
                self.issue(state, line, context.secure)
            }
            CookieStep::Remove => {
                state.cookie_removed = true;
                let id = state.loaded.as_ref().map(|loaded| loaded.header.id);
                events[0] = id.map(|id| Event::Ended { id, destroyed });
                self.remove(context.secure)
            }
        })
    }

    /// Waits until nothing else that the session does uses the store; or tells that it takes too long.
    async fn lock_store_access<'s>(
        &self,
        session: &'s Session,
    ) -> Result<Option<MutexGuard<'s, ()>>, CommitError> {
        let patience = self.rows.as_ref().map_or(Duration::MAX, |rows| rows.timeout.saturating_mul(PATIENCE));
        let access = session.lock_store_access(patience).await;
        access.inspect_err(|error| self.tell_failure(session.with(State::identify), error))
    }

    /// Drops what a key that is revoked by now had sealed, where a login makes it another session.
    fn leave_behind(&self, state: &mut State) {
        if state.authenticated && self.is_disowned(state) {
            state.start_empty(&self.limits);
        }
    }

    /// By which limit a cookie with these times would be over as it goes out, as is the one that came. An answer that comes so
    /// late would make the browser drop a newer one.
    fn would_be_over(&self, state: &State, times: &Times, now: Millis) -> Option<End> {
        let end = |times: &Times| lifetime::first_end(times, &self.limits.terms, now);
        let ((at, limit), loaded) = (end(times), state.loaded.as_ref()?);
        let came = (now >= at).then(|| end(&loaded.header.times).0)?;
        (now >= came && loaded.header.id == state.header.id).then_some(limit)
    }

    /// Gives the session the times that are about to be sealed, and their counter.
    fn stamp(&self, state: &mut State, times: Times) {
        state.identify();
        if self.marks_offered(state) {
            state.header.device = Device::Offered;
        }
        state.header.times = times;
        state.header.counter = state.header.counter.saturating_add(1);
    }
}
