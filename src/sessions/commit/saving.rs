//! What a session asks of its `Sessions`: `save` and `reload`, which access its row outside of the response, for streams
//! and websockets; and what needs the keys.

use std::sync::Arc;

use async_trait::async_trait;

use super::completion::run_to_completion;
use crate::core::clock::Millis;
use crate::core::csrf::{self, Binding};
use crate::core::error::{CommitError, CsrfError, End, Rejection};
use crate::core::event::Event;
use crate::core::key::KeyId;
use crate::core::lifetime::{self, Verdict};
use crate::core::record::{SessionId, Times};
use crate::core::session::{Backend, Session};
use crate::core::state::{Limits, Loaded, Stage, State};
use crate::sessions::Core;
use crate::store::roster::handles;
use crate::store::rows::{Living, Visit};
use crate::store::stored::NotDone;

#[async_trait]
impl Backend for Core {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn csrf_token(&self, of: &Binding) -> String {
        csrf::token(self.sealer.ring(), self.cookie.name(), of)
    }

    fn verify_csrf(&self, of: &[Binding], token: &str) -> Result<(), CsrfError> {
        let (ring, name) = (self.sealer.ring(), self.cookie.name());
        let verify = || {
            let mut outcome = Err(CsrfError::OtherSession);
            for of in of {
                outcome = csrf::verify(ring, name, of, token);
                if outcome != Err(CsrfError::OtherSession) {
                    break;
                }
            }
            outcome
        };
        match verify() {
            // Another node may have made it under a new key.
            Err(CsrfError::UnknownKey(_)) => {
                self.sink.looked(ring, ring.look_for_unknown(Some(self.clock.now())));
                verify()
            }
            outcome => outcome,
        }
    }

    async fn save(self: Arc<Self>, session: &Session) -> Result<(), CommitError> {
        if self.rows.is_none() {
            return Ok(());
        }
        // A write that was begun may be carried out whoever waits for it, so somebody has to learn of it, or increments would
        // be made twice.
        let session = session.clone();
        run_to_completion(async move { self.save_now(&session).await }).await
    }

    fn handle(&self, subject: &str, id: SessionId) -> Option<String> {
        self.roster.as_ref().zip(self.rows.as_ref()).and_then(|(_, rows)| handles(rows, subject, id).next())
    }

    fn own_generation(&self, subject: &str, since: Millis, of: u64, opener: Option<KeyId>) -> Option<u64> {
        let (sealer, revoking) = (&self.rows.as_ref()?.sealer, self.revoking.as_ref()?);
        let place = |key| sealer.subject_row(key, subject);
        // What a former revocation has left under that key a later one need not have: the key may be younger.
        let place = opener.and_then(place).or_else(|| place(self.sealer.ring().primary()))?;
        let own = revoking.own_generation(&place, since, of)?;
        // Under the key by which the session is judged from now on somebody else's revocation may have been first.
        let sealing = sealer.subject_row(self.sealer.ring().primary(), subject)?;
        revoking.has_replaced_nothing_but(&sealing, own, of).then_some(own)
    }

    async fn reload(&self, session: &Session) -> Result<(), CommitError> {
        let Some(rows) = &self.rows else { return Ok(()) };
        let _access = self.lock_store_access(session).await?;
        let reads = |state: &State| state.stage != Stage::Destroyed && is_in_row(state);
        let (known, in_row) = session.with(|state| {
            let lives = state.stage != Stage::Destroyed && (reads(state) || state.row.is_none());
            (lives.then(|| state.in_browser()).flatten(), reads(state))
        });
        let visit = rows.visit(&self.limits, self.now());
        let has_changes =
            session.with(|state| in_row && state.stage != Stage::Committed && state.differs_from_row());
        if let Some(known) = known {
            // What is in its cookie cannot be changed any more, so nothing is lost.
            self.over(known.header.id, self.may_go_on(&visit, &known, in_row).await, has_changes)?;
        }
        let work = session.with(|state| {
            if reads(state) && state.stage == Stage::Committed {
                // Its changes are in the row.
                state.entries = state.entries.settled();
            }
            reads(state).then(|| checkpoint(state))
        });
        let Some(mut work) = work else { return Ok(()) };
        work.entries.forget_idle_changes();
        let id = work.header.id;
        let taken = Taken::by(session, &work);
        self.over(id, visit.anew().reload(&mut work).await, has_changes)?;
        let merged = taken.became(work, |state| {
            if state.stage == Stage::Committed {
                state.stage = Stage::Detached;
            }
        });
        merged.inspect_err(|error| self.tell_failure(id, error))
    }
}

/// Whether the session's data is in the row that it was loaded from or last written to.
fn is_in_row(state: &State) -> bool {
    state.row.is_some() && !state.is_renewed()
}

/// Copies the state, so that changes from now on can be told apart.
fn checkpoint(state: &mut State) -> State {
    let before = state.clone();
    state.entries = before.entries.settled();
    before
}

/// Applies what was changed since the [`checkpoint`] to what became of the state. If the session is another subject's
/// since, nothing of that state belongs to it. What was counted since and cannot be any more is a conflict.
fn merge_since(state: &mut State, became: State) -> Result<(), CommitError> {
    let mut outcome = Ok(());
    if !state.entries.are_over_nothing() {
        let since = std::mem::replace(&mut state.entries, became.entries);
        outcome = state.entries.replay(&since);
    }
    state.row = became.row;
    outcome.map_err(|_| CommitError::Conflict)
}

/// What a [`checkpoint`] has taken along. It is put back unless the store has answered: also where nobody waits for that any
/// more, and the future is dropped.
struct Taken<'s> {
    session: &'s Session,
    before: Option<State>,
}

impl<'s> Taken<'s> {
    fn by(session: &'s Session, work: &State) -> Self {
        Self { session, before: Some(work.clone()) }
    }

    /// What was counted meanwhile and cannot be any more is dropped, and told.
    fn became(mut self, state: State, and: impl FnOnce(&mut State)) -> Result<(), CommitError> {
        self.before = None;
        self.session.with(|now| {
            let merged = merge_since(now, state);
            and(now);
            merged
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // Over what was there before all of it can be made again.
            let _ = self.session.with(|state| merge_since(state, before));
        }
    }
}

impl Core {
    async fn save_now(&self, session: &Session) -> Result<(), CommitError> {
        let Some(rows) = &self.rows else { return Ok(()) };
        let _access = self.lock_store_access(session).await?;
        let writes = |state: &State| {
            let open = matches!(state.stage, Stage::Open | Stage::Detached);
            open && state.differs_from_row() && is_in_row(state)
        };
        let Some(known) = session.with(|state| writes(state).then(|| state.in_browser())) else {
            return Ok(());
        };
        let visit = rows.visit(&self.limits, self.now());
        if let Some(known) = known {
            self.over(known.header.id, self.may_go_on(&visit, &known, true).await, true)?;
        }
        let Some(mut work) = session.with(|state| writes(state).then(|| checkpoint(state))) else {
            return Ok(());
        };
        let id = work.header.id;
        let taken = Taken::by(session, &work);
        self.over(id, visit.anew().write(&mut work).await.map(drop), true)?;
        let bytes = work.row_len();
        work.entries = work.entries.settled();
        let merged = taken.became(work, |state| state.saved = true);
        self.sink.tell(&Event::Written { id, bytes });
        merged.inspect_err(|error| self.tell_failure(id, error))
    }

    /// Whether a session is still what the browser has of it. A stream has no other request that would be told that it is
    /// over, or its user revoked, or the key.
    async fn may_go_on(
        &self,
        visit: &Visit<'_>,
        Loaded { header, key_id, .. }: &Loaded,
        in_row: bool,
    ) -> Result<(), NotDone> {
        let (ring, id) = (self.sealer.ring(), header.id);
        if ring.has_revoked(*key_id) {
            return Err(NotDone::Lost(Rejection::RevokedKey(*key_id)));
        }
        let (times, terms) = (&header.times, &self.limits.terms);
        let longest = Times { duration: terms.max_duration, own: true, ..*times };
        match lifetime::judge(times, terms, visit.now) {
            // What is in a row lasts as long as that, since others may have prolonged it.
            Verdict::Over { end, .. } if !in_row => return Err(NotDone::Lost(Rejection::Expired(end))),
            // But nobody prolongs it beyond this, whatever duration it has been given since.
            _ if lifetime::absolute_end(&longest, terms).is_some_and(|end| visit.now >= end) => {
                return Err(NotDone::Lost(Rejection::Expired(End::Absolute)));
            }
            _ => {}
        }
        let Some(revoking) = &self.revoking else { return Ok(()) };
        // A row that is there is asked anyway.
        if !in_row {
            let asked = revoking.ask_session(visit, header).await;
            let living = self.or_assume(asked, Ok(Living::InCookie(None)), id, revoking)?;
            let living = living.map_err(NotDone::Lost)?;
            if self.limits.is_elsewhere(living.device(), &[&header.device]) {
                return Err(NotDone::Lost(Rejection::Unproven));
            }
        }
        let Some(subject) = header.subject.as_deref() else { return Ok(()) };
        // A stream may outlast the key of its cookie, and revoking a subject reaches every key of the ring.
        let of = |key| visit.rows.sealer.subject_row(key, subject);
        let Some(place) = of(*key_id).or_else(|| of(ring.primary())) else { return Ok(()) };
        let asked = revoking.is_subject_revoked(visit, &place, header).await;
        let is_revoked = self.or_assume(asked, false, id, revoking)?;
        if is_revoked { Err(NotDone::Lost(Rejection::Revoked)) } else { Ok(()) }
    }

    /// Nobody is told of a loss where nothing was to be written.
    fn over(
        &self,
        id: SessionId,
        outcome: Result<(), NotDone>,
        has_changes: bool,
    ) -> Result<(), CommitError> {
        outcome.map_err(|not_done| match not_done {
            NotDone::Lost(reason) => {
                if has_changes {
                    self.sink.tell(&Event::Lost { id, reason });
                }
                CommitError::Ended
            }
            NotDone::Failed(error) => {
                self.tell_failure(id, &error);
                error
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::{Key, KeyRing};
    use crate::sessions::Sessions;

    /// Two scopes share no session, but a forger may choose the id of their own.
    #[test]
    fn a_token_is_of_one_cookie_name() {
        let build = |name| {
            let keys = KeyRing::new(Key::from_bytes([1; 32]));
            Sessions::builder(keys).cookie_name(name).build().unwrap()
        };
        let (site, admin) = (build("__Host-site"), build("__Host-admin"));
        let of = [Binding::Session(SessionId([7; 16]))];
        let token = site.core.csrf_token(&of[0]);
        assert_eq!(site.core.verify_csrf(&of, &token), Ok(()));
        assert_eq!(admin.core.verify_csrf(&of, &token), Err(CsrfError::OtherSession));
    }
}
