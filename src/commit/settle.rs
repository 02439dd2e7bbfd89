//! What a commit does in the store, before the cookie that leads there is issued.

use std::sync::Arc;

use tracing::Instrument as _;

use super::Action;
use super::carried::carried;
use super::confirm::Confirmed;
use crate::clock::Millis;
use crate::cookie::SetCookie;
use crate::entries::Entries;
use crate::error::{CommitError, Rejection, StoreError};
use crate::event::Event;
use crate::key::KeyId;
use crate::record::{Place, SessionId};
use crate::rows::LiveRow;
use crate::session::Session;
use crate::sessions::{CommitContext, Inner};
use crate::state::{Loaded, Reissue, Renewal, Stage, State};
use crate::stored::{NotDone, RowProtocol};

impl Inner {
    /// Carries out what needs the store, and leaves the session as it is there then. `None`: it needs none any more.
    pub(super) async fn settle(
        self: &Arc<Self>,
        session: &Session,
        context: &CommitContext,
        plan: impl Fn(&State) -> Action,
    ) -> Option<Result<Option<SetCookie>, CommitError>> {
        self.rows.as_ref()?;
        let now = self.now();
        let primary = self.sealer.ring().primary();
        let (work, action) = session.with(|state| {
            self.leave_behind(state);
            let action = plan(state);
            self.waits(state, action, now, primary).then(|| {
                state.identify();
                let before = state.clone();
                state.stage = Stage::Committed;
                (before, action)
            })
        })?;
        let span =
            tracing::debug_span!(target: "sealed_session", "session.commit", session = ?work.header.id);
        let moment = (now, primary);
        if !action.ends() {
            return Some(self.settle_now(session, work, action, *context, moment).instrument(span).await);
        }
        let (inner, session, context) = (Arc::clone(self), session.clone(), *context);
        let end = async move { inner.settle_now(&session, work, action, context, moment).await };
        Some(carried(end.instrument(span)).await)
    }

    async fn settle_now(
        &self,
        session: &Session,
        mut work: State,
        action: Action,
        context: CommitContext,
        (now, primary): (Millis, KeyId),
    ) -> Result<Option<SetCookie>, CommitError> {
        let (Some(rows), context) = (&self.rows, &context) else { return Ok(None) };
        work.entries.forget_idle_changes();
        let row = RowProtocol { rows, limits: &self.limits, now };
        let loaded = work.loaded.as_ref().map(|loaded| loaded.header.id);
        let id = loaded.unwrap_or(work.header.id);
        let mut action = self.in_time(&work, action, context, now);
        if matches!(action, Action::Issue(_) | Action::Extend(_)) && self.is_known_to_be_over(&work, now) {
            self.teller.tell(&Event::Lost { id, reason: Rejection::Revoked });
            return Ok(None);
        }
        let was_stored = work.row.is_some();
        let mut key = primary;
        let mut asked = false;
        if let Some(revoking) =
            self.revoking.as_ref().filter(|_| self.has_to_ask(&work, action, now, primary))
        {
            asked = work.header.subject.is_some();
            match self.confirm((revoking, rows), &mut work, action, (now, primary)).await? {
                Confirmed::Yes => {}
                Confirmed::Under(opener) => key = opener,
                Confirmed::AsItIs(opener) => {
                    work.renewal = Renewal::Skip;
                    key = opener;
                }
                Confirmed::DataOnly => action = Action::Write(Reissue::No),
                Confirmed::Later => return Ok(None),
                Confirmed::Spilled(row, reissue, under) => match self.follow(&mut work, row, reissue) {
                    Some(follows) => (action, key) = (follows, under),
                    None => return Ok(None),
                },
                Confirmed::Lost(reason) => {
                    self.teller.tell(&Event::Lost { id, reason });
                    return if action == Action::Replace { Err(CommitError::Ended) } else { Ok(None) };
                }
            }
        }
        let (done, reissue) = match action {
            Action::Keep | Action::Remove => return Ok(None),
            Action::Issue(reissue) => {
                self.stamp(&mut work, now);
                (Ok(()), reissue)
            }
            Action::Spill(reissue) => {
                self.stamp(&mut work, now);
                (row.spill(&mut work).await, reissue)
            }
            Action::Write(reissue) => {
                if reissue != Reissue::No {
                    self.stamp(&mut work, now);
                }
                (row.write(&mut work).await, reissue)
            }
            Action::Extend(reissue) => {
                self.stamp(&mut work, now);
                (row.extend(&work).await, reissue)
            }
            Action::Replace => {
                self.stamp(&mut work, now);
                let place = |state: &State| (!self.is_over(state)).then(|| self.place(state, context));
                (row.replace(&mut work, place).await, Reissue::Wanted)
            }
            Action::End => {
                let set_cookie = self.cookie.remove(context.secure);
                return match row.end(&work).await {
                    Ok(()) => {
                        self.forget(loaded, now);
                        self.tell_all(loaded.map(|id| Event::Ended { id, destroyed: true }));
                        Ok(Some(set_cookie))
                    }
                    Err(source) => {
                        Err(CommitError::NotEnded { set_cookie: Some(set_cookie.into_text()), source })
                    }
                };
            }
        };
        match done {
            Ok(()) if action == Action::Replace => self.forget(loaded, now),
            Ok(()) if work.header.place == Place::Store => {
                self.revoking.iter().for_each(|revoking| revoking.spilled(work.header.id));
            }
            Ok(()) => {}
            Err(NotDone::Lost(reason)) => {
                if reason == Rejection::Revoked {
                    self.forget(loaded, now);
                }
                self.teller.tell(&Event::Lost { id, reason });
                return Ok(None);
            }
            Err(NotDone::Failed(error)) => {
                if matches!(error, CommitError::Ended) {
                    self.forget(loaded, now);
                }
                self.tell_failure(id, &error);
                // Nothing was changed but the time that is left, and the next request makes up for that.
                let mere = reissue == Reissue::Mere && !work.differs_from_row();
                return if mere { Ok(None) } else { Err(error) };
            }
        }
        if self.is_disowned(&work) && !(work.authenticated && work.entries.are_over_nothing()) {
            // A login is not dropped in silence.
            return if work.authenticated { Err(CommitError::Ended) } else { Ok(None) };
        }
        if !self.sealer.ring().opens(key) {
            // What was asked for was this key. If it is gone by now, the next request prolongs the session under another.
            match reissue {
                Reissue::Mere => return Ok(None),
                Reissue::Wanted if asked => {
                    return Err(StoreError::Timeout("the keys have changed meanwhile".into()).into());
                }
                Reissue::Wanted | Reissue::No => {}
            }
        }
        let line = if self.is_over(&work) {
            self.tell_all(loaded.map(|id| Event::Ended { id, destroyed: false }));
            Some(self.cookie.remove(context.secure))
        } else {
            self.tell_stored(&work, action);
            (reissue != Reissue::No).then(|| {
                let (line, bytes) = self.seal(&work, (now, self.clock.now()), context.secure, key);
                self.tell_all(self.issued(&work, reissue, bytes, key));
                if action == Action::Replace && was_stored && work.header.place == Place::Cookie {
                    self.teller.tell(&Event::Returned { id: work.header.id, bytes });
                }
                if let (Place::Store, Some((head, budget))) =
                    (work.header.place, self.head_overrun(bytes, context))
                {
                    self.teller.tell(&Event::HeadOverBudget { id: work.header.id, bytes: head, budget });
                }
                line
            })
        };
        self.leave(session, work, key);
        Ok(line)
    }

    /// From now on this process knows that the session is over.
    fn forget(&self, ended: Option<SessionId>, now: Millis) {
        if let (Some(revoking), Some(id)) = (&self.revoking, ended) {
            revoking.ended(id, now);
        }
    }

    /// The session as it is after the commit: what a `reload` in a stream goes on from.
    fn leave(&self, session: &Session, mut work: State, key_id: KeyId) {
        work.loaded = Some(Loaded { header: work.header.clone(), due: None, key_id, current: true });
        work.stage = Stage::Committed;
        session.with(|state| *state = work);
    }

    /// What to do with a session that a parallel request has moved into this row.
    fn follow(&self, work: &mut State, row: LiveRow, reissue: Reissue) -> Option<Action> {
        if work.entries.changed() || work.issued() > row.counter {
            return Some(Action::Spill(reissue));
        }
        work.row = Some(row.seen());
        work.entries = Entries::new(row.entries);
        work.header.place = Place::Store;
        // If it is empty, another request may be filling it.
        (!self.is_over(work)).then_some(Action::Extend(reissue))
    }

    /// The store's own failures were told where they happened.
    pub(super) fn tell_failure(&self, id: SessionId, error: &CommitError) {
        match error {
            CommitError::Conflict => self.teller.tell(&Event::Conflicted { id }),
            CommitError::Ended => self.teller.tell(&Event::Lost { id, reason: Rejection::Revoked }),
            CommitError::Store(_) | CommitError::NotEnded { .. } | CommitError::Foreign => {}
        }
    }
}
