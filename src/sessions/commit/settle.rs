//! What a commit does in the store, before the cookie that leads there is issued.

use std::sync::Arc;

use tokio::task::yield_now;
use tracing::Instrument as _;

use super::completion::run_to_completion;
use super::enroll::Listed;
use super::plan::{Moment, Plan, RowStep};
use crate::core::cookie::SetCookies;
use crate::core::error::{CommitError, Rejection, StoreError};
use crate::core::event::Event;
use crate::core::record::{InLog, Place, SessionId};
use crate::core::session::Session;
use crate::core::state::{CookieStep, Loaded, Stage, State};
use crate::sessions::{CommitContext, Core};
use crate::store::rows::Visit;
use crate::store::stored::{Ending, Former, NotDone};

/// What is left of a plan when the store has been asked whether the session goes on.
pub(super) struct Confirmed {
    pub(super) plan: Plan,
    /// Whether anything was asked.
    pub(super) asked: bool,
    /// Whether only the device that the session is bound to and the remaining time are to change.
    binds_alone: bool,
}

impl Core {
    /// Carries out what needs the store, and leaves the session as it is there then. `None`: no store is needed any more.
    pub(super) async fn settle(
        self: &Arc<Self>,
        session: &Session,
        context: &CommitContext,
    ) -> Option<Result<SetCookies, CommitError>> {
        self.rows.as_ref()?;
        let moment = self.moment(self.now(), context);
        let (work, plan) = session.with(|state| {
            self.leave_behind(state);
            let plan = Plan::of(self, state, context);
            plan.needs_store(self, state, &moment).then(|| {
                state.identify();
                let before = state.clone();
                state.stage = Stage::Committed;
                state.cookie_removed = plan.row == RowStep::End;
                (before, plan)
            })
        })?;
        let span = tracing::debug_span!(target: "sealed_session", "session.commit", session = %InLog(work.header.id));
        if !plan.ends() {
            return Some(self.settle_now(session, work, plan, &moment).instrument(span).await);
        }
        let (core, session) = (Arc::clone(self), session.clone());
        let end = async move { core.settle_now(&session, work, plan, &moment).await };
        Some(run_to_completion(end.instrument(span)).await)
    }

    async fn settle_now(
        &self,
        session: &Session,
        mut work: State,
        plan: Plan,
        moment: &Moment,
    ) -> Result<SetCookies, CommitError> {
        work.entries.forget_idle_changes();
        let id = work.loaded.as_ref().map_or(work.header.id, |loaded| loaded.header.id);
        let confirmed = match self.prepare(&mut work, plan, moment).await {
            Ok(confirmed) => confirmed,
            Err(NotDone::Failed(error)) => return Err(error),
            Err(NotDone::Lost(reason)) => {
                self.sink.tell(&Event::Lost { id, reason });
                return if plan.ends() { Err(CommitError::Ended) } else { Ok(SetCookies::lost()) };
            }
        };
        let mut listed = self.enroll(&work, &confirmed, moment.now).await?;
        let (authenticated, login) = (work.authenticated, Self::authentication(&work));
        let outcome = match self.perform(session, work, confirmed, &mut listed, moment).await {
            // A login is not dropped silently, listed or not.
            Ok(lines) if authenticated && lines.own.is_none() => Err(CommitError::Ended),
            outcome => outcome,
        };
        let outcome = match listed {
            Some(listed) => self.settle_listing(listed, session, outcome, moment.now).await,
            None => outcome,
        };
        self.tell_all(login.filter(|_| matches!(&outcome, Ok(lines) if lines.own.is_some())));
        outcome
    }

    /// Asks the store whether the session goes on, and gives it the times that its cookie is to have.
    async fn prepare(&self, work: &mut State, plan: Plan, moment: &Moment) -> Result<Confirmed, NotDone> {
        let &Moment { now, ref context, .. } = moment;
        let mut plan = plan.in_time(self, work, moment);
        if matches!(plan.row, RowStep::Leave | RowStep::Extend | RowStep::Bind)
            && self.is_known_to_be_over(work)
        {
            return Err(NotDone::Lost(Rejection::Revoked));
        }
        let asked = plan.has_to_ask(self, work, moment);
        if asked {
            plan = self.confirm(work, plan, moment).await?;
        }
        if plan.row == RowStep::Replace && work.loaded.is_none() {
            plan = Plan::placed(self, work, CookieStep::Issue, context);
        }
        if plan.row == RowStep::Bind {
            plan = self.bind(work, plan, now).await?;
        }
        // So far it is the session that was loaded.
        let binds_alone = work.changes_device_alone();
        if plan.issues() {
            let times = work.sealed_times(&self.limits, now);
            match self.would_be_over(work, &times, now) {
                Some(end) if plan.cookie == CookieStep::Issue && plan.row != RowStep::Write => {
                    return Err(NotDone::Lost(Rejection::Expired(end)));
                }
                Some(_) => plan = plan.without_cookie(work),
                None => self.stamp(work, times),
            }
        }
        Ok(Confirmed { plan, asked, binds_alone })
    }

    /// The plan's step at the row, then the one at the cookie.
    async fn perform(
        &self,
        session: &Session,
        mut work: State,
        Confirmed { plan, asked, binds_alone }: Confirmed,
        listed: &mut Option<Listed>,
        moment: &Moment,
    ) -> Result<SetCookies, CommitError> {
        let &Moment { now, primary, ref context } = moment;
        let Some(visit) = self.visit(now) else { return Ok(SetCookies::default()) };
        let key = plan.former_key.unwrap_or(primary);
        let was_stored = work.row.is_some();
        let (mut former, mut is_awaited) = (None, false);
        let done = match plan.row {
            RowStep::Leave if !plan.issues() => return Ok(SetCookies::default()),
            // Binding is done by now.
            RowStep::Leave | RowStep::Bind => Ok(()),
            RowStep::Create | RowStep::Write => {
                visit.write(&mut work).await.map(|awaited| is_awaited = awaited)
            }
            RowStep::Extend => visit.extend(&work).await,
            RowStep::Replace => {
                let place = |state: &State| (!self.is_worthless(state)).then(|| self.place(state, context));
                visit.replace(&mut work, place).await.map(|became| former = Some(became))
            }
            RowStep::End => {
                let set_cookies = self.remove(context.secure);
                if let Err(source) = self.end_all(&visit, &work).await {
                    return Err(CommitError::NotEnded { set_cookies: set_cookies.into_texts(), source });
                }
                return Ok(set_cookies);
            }
        };
        let loaded = work.loaded.as_ref().map(|loaded| loaded.header.id);
        let id = loaded.unwrap_or(work.header.id);
        let over = self.revoking.as_ref().zip(loaded);
        let hear_of_end = || over.iter().for_each(|(revoking, id)| revoking.heard_of_end(*id, None, now));
        // One that takes no place has begun.
        let step = match former {
            Some(Former::Spared) if work.row.is_some() => RowStep::Create,
            Some(Former::Spared) => RowStep::Leave,
            Some(Former::Over(_)) | None => plan.row,
        };
        if let Some(Former::Spared) = former {
            listed.iter_mut().for_each(Listed::spare_former);
        }
        match done {
            Ok(()) if step == RowStep::Replace => {
                let by = former.and_then(Former::successor);
                over.iter().for_each(|(revoking, id)| revoking.renewed(*id, by, now));
            }
            Ok(()) if work.header.place == Place::Store => {
                self.revoking.iter().for_each(|revoking| revoking.spilled(work.header.id));
            }
            Ok(()) => {}
            Err(NotDone::Lost(reason)) => {
                if reason == Rejection::Revoked {
                    hear_of_end();
                }
                self.sink.tell(&Event::Lost { id, reason });
                return if plan.ends() { Err(CommitError::Ended) } else { Ok(SetCookies::lost()) };
            }
            Err(NotDone::Failed(error)) => {
                if matches!(error, CommitError::Ended) {
                    hear_of_end();
                }
                self.tell_failure(id, &error);
                // Only the remaining time was changed, and the next request makes up for that; or the session was emptied, which
                // is written. But a cookie that still has what was in it has to go.
                let matters = plan.ends()
                    || plan.cookie == CookieStep::Issue
                    || work.differs_from_row()
                    || work.saved && work.from_pre_spill_cookie;
                return if matters && !binds_alone { Err(error) } else { Ok(SetCookies::default()) };
            }
        }
        if is_awaited {
            // The next writer begins before this one goes on, so that its trip does not wait until this one's answer has been made
            // and sent.
            yield_now().await;
            if self.is_known_to_be_over(&work) {
                // That one has ended it, and had what was written here. A newer cookie may be on its way.
                self.tell_stored(&work, step);
                return Ok(SetCookies::default());
            }
        }
        if self.is_disowned(&work) && !(work.authenticated && work.entries.are_over_nothing()) {
            return Ok(SetCookies::lost());
        }
        if plan.issues() && !self.sealer.ring().opens(key) {
            // The store was asked about this key. If that is gone by now, the next request prolongs the session under
            // another.
            if plan.cookie == CookieStep::Prolong {
                return Ok(SetCookies::default());
            }
            if asked && work.header.subject.is_some() {
                return Err(StoreError::Timeout("the keys have changed meanwhile".into()).into());
            }
        }
        let lines = if self.is_worthless(&work) {
            self.tell_all(loaded.map(|id| Event::Ended { id, destroyed: false }));
            work.cookie_removed = true;
            self.remove(context.secure)
        } else {
            self.tell_stored(&work, step);
            let issue = || {
                let (line, bytes) = self.seal(&work, moment, self.clock.now(), key);
                self.tell_all(self.issued(&work, plan.cookie, bytes, key));
                if step == RowStep::Replace && was_stored && work.header.place == Place::Cookie {
                    self.sink.tell(&Event::Returned { id: work.header.id, bytes });
                }
                if let (Place::Store, Some((head, budget))) =
                    (work.header.place, self.head_overrun(&work, bytes, context))
                {
                    self.sink.tell(&Event::HeadOverBudget { id: work.header.id, bytes: head, budget });
                }
                self.issue(&work, line, context.secure)
            };
            if plan.issues() { issue() } else { SetCookies::default() }
        };
        // The session after the commit: what a `reload` in a stream starts from. What its cookie had ahead of the row is
        // in the row by now, and the cookie's next counter does not say otherwise.
        if work.row.as_ref().is_some_and(|row| work.issued() <= row.counter) {
            work.from_pre_spill_cookie = false;
        }
        let header = work.header.clone();
        work.loaded = Some(Box::new(Loaded { header, due: None, key_id: key, retired_key: false }));
        work.stage = Stage::Committed;
        session.with(|state| *state = work);
        Ok(lines)
    }

    /// Ends the session, and all others whose cookies the browser sent along, or it would go on with one of them. All
    /// within one deadline, each whatever becomes of the others.
    async fn end_all(&self, visit: &Visit<'_>, work: &State) -> Result<(), StoreError> {
        let own = work.loaded.as_ref().filter(|_| work.row.is_some() || self.revoking.is_some());
        let own = own.map(|loaded| (&loaded.header, work.row.as_deref(), work.devices(), true));
        let others = work.others().iter().filter(|other| self.can_end(other));
        let others = others.map(|other| (other, None, [&other.device; 2], false));
        let (mut outcome, mut ended) = (Ok(()), Vec::new());
        for (header, row, devices, is_own) in own.into_iter().chain(others) {
            match visit.end(header.id, row, visit.mark_end(header), Some(&devices)).await {
                // Nobody may end a session whose device has not proved itself.
                Ok(Ending::Refused) => {}
                Ok(ending) => {
                    self.revoking.iter().for_each(|revoking| revoking.ended(header.id, visit.now));
                    // A refused cookie's session was over, as after a double click.
                    if is_own || ending == Ending::Done {
                        self.sink.tell(&Event::Ended { id: header.id, destroyed: true });
                        ended.push(header);
                    }
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        self.strike_out(ended, visit.anew()).await;
        outcome
    }

    /// The store's own failures were reported where they happened.
    pub(super) fn tell_failure(&self, id: SessionId, error: &CommitError) {
        match error {
            CommitError::Conflict => self.sink.tell(&Event::Conflicted { id }),
            CommitError::Ended => self.sink.tell(&Event::Lost { id, reason: Rejection::Revoked }),
            CommitError::Store(_)
            | CommitError::NotEnded { .. }
            | CommitError::TooManySessions
            | CommitError::Foreign => {}
        }
    }
}
