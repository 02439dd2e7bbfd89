//! Where requests end: `commit` turns the session into the response's cookie, the store first.

mod confirm;
mod issue;
mod late;
mod revoke;
mod saving;
mod sealing;

use std::sync::Arc;

use tracing::Instrument as _;

use self::confirm::Confirmed;
pub use self::issue::Outcome;
use crate::clock::Millis;
use crate::entries::Entries;
use crate::error::{CommitError, Rejection};
use crate::event::Event;
use crate::record::{Place, SessionId};
use crate::rows::LiveRow;
use crate::session::Session;
use crate::sessions::{CommitContext, Inner, Sessions};
use crate::state::{Loaded, Reissue, Renewal, Stage, State};
use crate::stored::{Dealings, Fate};

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
        if let Some(outcome) = self.try_commit(session, context) {
            return outcome;
        }
        let _turn = session.turn().await;
        let (action, waits) = self.plan(session, &context);
        if waits {
            self.inner.settle(session, context, action).await
        } else {
            Ok(self.inner.close(session, context, action))
        }
    }

    /// Like [`commit`](Self::commit), if there is nothing to wait for.
    pub(crate) fn try_commit(
        &self,
        session: &Session,
        context: CommitContext,
    ) -> Option<Result<Option<String>, CommitError>> {
        if let Err(foreign) = self.check_home(session) {
            return Some(Err(foreign));
        }
        let _turn = match session.gate() {
            Some(gate) => Some(gate.try_lock().ok()?),
            None => None,
        };
        let (action, waits) = self.plan(session, &context);
        (!waits).then(|| Ok(self.inner.close(session, context, action)))
    }

    fn check_home(&self, session: &Session) -> Result<(), CommitError> {
        let ours = session.limits().home == self.inner.limits.home;
        if ours { Ok(()) } else { Err(CommitError::Foreign) }
    }

    /// What there is to do, and whether that has to wait for the store.
    fn plan(&self, session: &Session, context: &CommitContext) -> (Action, bool) {
        let plan = || {
            session.with(|state| {
                let action = self.inner.plan(state, context);
                (action, self.inner.waits(state, action))
            })
        };
        let ring = self.inner.sealer.ring();
        let before = Arc::clone(&ring.snapshot());
        let planned = plan();
        if planned.0 == Action::Keep {
            return planned;
        }
        // By now the keys may be others, and what there is to do is decided by those that will seal.
        self.now();
        if Arc::ptr_eq(&before, &ring.snapshot()) { planned } else { plan() }
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
        if self.is_disowned(state) {
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
        if stored && state.entries.changed() && state.outdated {
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

    fn waits(&self, state: &State, action: Action) -> bool {
        action.is_for_the_store() || self.has_to_ask(state, action, state.now)
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

    /// Carries out what needs no store.
    fn close(&self, session: &Session, context: CommitContext, action: Action) -> Option<String> {
        // From here on nobody can change the session, so the clock, which may be anything, is asked without the lock.
        let destroyed =
            session.with(|state| std::mem::replace(&mut state.stage, Stage::Committed) == Stage::Destroyed);
        let (line, events) = match action {
            Action::Issue(reissue) => {
                let now = self.now();
                session.with(|state| {
                    if self.may_wait(state, reissue, &context, now) || self.is_disowned(state) {
                        return (None, [None, None]);
                    }
                    if self.is_known_to_be_over(state, now) {
                        let lost = Event::Lost { id: state.header.id, reason: Rejection::Revoked };
                        return (None, [Some(lost), None]);
                    }
                    self.stamp(state, now);
                    let (line, bytes) = self.seal(state, now, context.secure, None);
                    (Some(line), self.issued(state, reissue, bytes, false))
                })
            }
            Action::Remove => {
                let id = session.with(|state| state.loaded.as_ref().map(|loaded| loaded.header.id));
                let line = self.cookie.remove(context.secure);
                (Some(line), [id.map(|id| Event::Ended { id, destroyed }), None])
            }
            _ => return None,
        };
        events.iter().flatten().for_each(|event| self.teller.tell(event));
        line
    }

    /// Carries out what needs the store, and leaves the session as it is there then.
    async fn settle(
        &self,
        session: &Session,
        context: CommitContext,
        action: Action,
    ) -> Result<Option<String>, CommitError> {
        let span = tracing::debug_span!(target: "sealed_session", "session.commit", session = ?session.id());
        self.settle_now(session, context, action).instrument(span).await
    }

    async fn settle_now(
        &self,
        session: &Session,
        context: CommitContext,
        action: Action,
    ) -> Result<Option<String>, CommitError> {
        let Some(rows) = &self.rows else { return Ok(None) };
        let mut work = session.with(|state| {
            let before = state.clone();
            state.stage = Stage::Committed;
            before
        });
        work.entries.forget_idle_changes();
        let now = self.now();
        let dealings = Dealings { rows, limits: &self.limits, now };
        let loaded = work.loaded.as_ref().map(|loaded| loaded.header.id);
        let id = loaded.unwrap_or(work.header.id);
        let mut action = self.in_time(&work, action, &context, now);
        if action != Action::End && self.is_disowned(&work) {
            return Ok(None);
        }
        if matches!(action, Action::Issue(_) | Action::Extend(_)) && self.is_known_to_be_over(&work, now) {
            self.teller.tell(&Event::Lost { id, reason: Rejection::Revoked });
            return Ok(None);
        }
        let mut under = None;
        if let Some(revoking) = self.revoking.as_ref().filter(|_| self.has_to_ask(&work, action, now)) {
            match self.confirm((revoking, rows), &mut work, action, now).await? {
                Confirmed::Yes => {}
                Confirmed::AsItIs(key) => {
                    work.renewal = Renewal::Skip;
                    under = Some(key);
                }
                Confirmed::DataOnly => action = Action::Write(Reissue::No),
                Confirmed::Later => return Ok(None),
                Confirmed::Spilled(row) => match self.follow(&mut work, row, action.reissue()) {
                    Some(follows) => action = follows,
                    None => return Ok(None),
                },
                Confirmed::Lost(reason) => {
                    self.teller.tell(&Event::Lost { id, reason });
                    return if action == Action::Replace { Err(CommitError::Ended) } else { Ok(None) };
                }
            }
        }
        let (fate, reissue) = match action {
            Action::Keep | Action::Remove => return Ok(None),
            Action::Issue(reissue) => {
                self.stamp(&mut work, now);
                (Ok(Fate::Kept), reissue)
            }
            Action::Spill(reissue) => {
                self.stamp(&mut work, now);
                (dealings.spill(&mut work).await, reissue)
            }
            Action::Write(reissue) => {
                if reissue != Reissue::No {
                    self.stamp(&mut work, now);
                }
                (dealings.write(&mut work).await, reissue)
            }
            Action::Extend(reissue) => {
                self.stamp(&mut work, now);
                (dealings.extend(&work).await, reissue)
            }
            Action::Replace => {
                self.stamp(&mut work, now);
                let place = |state: &State| (!self.is_over(state)).then(|| self.place(state, &context));
                (dealings.replace(&mut work, place).await, Reissue::Wanted)
            }
            Action::End => {
                let set_cookie = Some(self.cookie.remove(context.secure));
                return match dealings.end(&work).await {
                    Ok(()) => {
                        self.forget(loaded, now);
                        self.tell_all(loaded.map(|id| Event::Ended { id, destroyed: true }));
                        Ok(set_cookie)
                    }
                    Err(source) => Err(CommitError::NotEnded { set_cookie, source }),
                };
            }
        };
        match fate {
            Ok(Fate::Kept) if action == Action::Replace => self.forget(loaded, now),
            Ok(Fate::Kept) if work.header.place == Place::Store => {
                self.revoking.iter().for_each(|revoking| revoking.spilled(work.header.id));
            }
            Ok(Fate::Kept) => {}
            Ok(Fate::Lost(reason)) => {
                if reason == Rejection::Revoked {
                    self.forget(loaded, now);
                }
                self.teller.tell(&Event::Lost { id, reason });
                return Ok(None);
            }
            Err(error) => {
                if matches!(error, CommitError::Ended) {
                    self.forget(loaded, now);
                }
                self.tell_failure(id, &error);
                // Nothing was changed but the time that is left, and the next request makes up for that.
                let mere = reissue == Reissue::Mere && !work.entries.changed();
                return if mere { Ok(None) } else { Err(error) };
            }
        }
        if self.is_disowned(&work) {
            return Ok(None);
        }
        let line = if self.is_over(&work) {
            self.tell_all(loaded.map(|id| Event::Ended { id, destroyed: false }));
            Some(self.cookie.remove(context.secure))
        } else {
            self.tell_stored(&work, action);
            (reissue != Reissue::No).then(|| {
                let (line, bytes) = self.seal(&work, now, context.secure, under);
                self.tell_all(self.issued(&work, reissue, bytes, under.is_some()));
                if matches!(action, Action::Replace) && work.header.place == Place::Cookie {
                    self.teller.tell(&Event::Returned { id: work.header.id, bytes });
                }
                if let (Place::Store, Some((head, budget))) =
                    (work.header.place, self.head_overrun(bytes, &context))
                {
                    self.teller.tell(&Event::HeadOverBudget { id: work.header.id, bytes: head, budget });
                }
                line
            })
        };
        self.leave(session, work);
        Ok(line)
    }

    /// From now on this process knows that the session is over.
    fn forget(&self, ended: Option<SessionId>, now: Millis) {
        if let (Some(revoking), Some(id)) = (&self.revoking, ended) {
            revoking.ended(id, now);
        }
    }

    /// The session as it is after the commit: what a `reload` in a stream goes on from.
    fn leave(&self, session: &Session, mut work: State) {
        let key_id = self.sealer.ring().primary();
        work.loaded = Some(Loaded { header: work.header.clone(), due: None, key_id, current: true });
        work.stage = Stage::Committed;
        session.with(|state| *state = work);
    }

    /// What to do with a session that a parallel request has moved into this row.
    fn follow(&self, work: &mut State, row: LiveRow, reissue: Reissue) -> Option<Action> {
        let issued = work.loaded.as_ref().map_or(0, |loaded| loaded.header.counter);
        if work.entries.changed() || issued > row.counter {
            return Some(Action::Spill(reissue));
        }
        work.row = Some(row.seen());
        work.entries = Entries::new(row.entries);
        work.header.place = Place::Store;
        // If it is empty, another request may be filling it.
        (!self.is_over(work)).then_some(Action::Extend(reissue))
    }

    /// Gives the session the times and the counter that are about to be sealed.
    fn stamp(&self, state: &mut State, now: Millis) {
        state.header.times = state.sealed_times(&self.limits, now);
        state.header.counter = state.header.counter.saturating_add(1);
    }

    /// The store's own failures were told where they happened.
    fn tell_failure(&self, id: SessionId, error: &CommitError) {
        match error {
            CommitError::Conflict => self.teller.tell(&Event::Conflicted { id }),
            CommitError::Ended => self.teller.tell(&Event::Lost { id, reason: Rejection::Revoked }),
            CommitError::Store(_) | CommitError::NotEnded { .. } | CommitError::Foreign => {}
        }
    }
}
