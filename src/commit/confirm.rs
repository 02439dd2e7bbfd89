//! What is asked of the store before a session is prolonged or moved: whether it may be still. Cached answers do not
//! count here, or a session that was ended elsewhere could get out of the reach of what ended it.

use super::Action;
use crate::clock::Millis;
use crate::error::{CommitError, Rejection, StoreError};
use crate::key::KeyId;
use crate::revocation::{Revoking, Standing};
use crate::rows::{LiveRow, Rows};
use crate::sessions::Inner;
use crate::state::{Loaded, Reissue, Renewal, State};

/// What a commit may do.
pub(super) enum Confirmed {
    Yes,
    /// Another generation of the subject is known under the primary than under the key that opened the cookie: a
    /// revocation may be on its way from the one to the other. Under the opener, where it will meet the session, that goes on.
    Under(KeyId),
    /// The store does not say. The data may be saved where it is, under this key and with the times that it has.
    AsItIs(KeyId),
    /// The store does not say. The data may be written to its row, and the cookie left as it is.
    DataOnly,
    /// The store does not say, and the next request will do for this.
    Later,
    /// A parallel request has moved the session into this row, and the reference to it may be issued so, under this key.
    Spilled(LiveRow, Reissue, KeyId),
    /// The session is over.
    Lost(Rejection),
}

impl Inner {
    /// Whether the commit has to ask before this action.
    pub(super) fn has_to_ask(&self, state: &State, action: Action, now: Millis, primary: KeyId) -> bool {
        if self.revoking.is_none() {
            return false;
        }
        match action {
            Action::Issue(_) => self.moves(state, now, primary),
            Action::Write(Reissue::No) | Action::Keep | Action::Remove | Action::End => false,
            // These meet the session's row anyway.
            Action::Write(_) | Action::Extend(_) => {
                state.header.subject.is_some() && self.moves(state, now, primary)
            }
            Action::Spill(_) | Action::Replace => state.header.subject.is_some(),
        }
    }

    /// Whether the cookie that is about to be issued reaches further than the one that was loaded.
    fn moves(&self, state: &State, now: Millis, primary: KeyId) -> bool {
        let Some(loaded) = &state.loaded else { return state.header.subject.is_some() };
        let (before, after) = (&loaded.header.times, state.sealed_times(&self.limits, now));
        let refreshed = self.limits.terms.idle.is_some() && state.use_prolongs(&self.limits);
        state.renewal == Renewal::Touch
            || loaded.header.id != state.header.id
            || loaded.key_id != primary
            || (before.anchor, before.duration, before.own) != (after.anchor, after.duration, after.own)
            || refreshed
    }

    /// Asks, and gives the session the generation of its subject that it is to be sealed with.
    pub(super) async fn confirm(
        &self,
        (revoking, rows): (&Revoking, &Rows),
        work: &mut State,
        action: Action,
        moment: (Millis, KeyId),
    ) -> Result<Confirmed, CommitError> {
        let mere = action.reissue() == Reissue::Mere;
        let writes = matches!(action, Action::Write(_)) && work.differs_from_row();
        let as_it_is = match (action, &work.loaded) {
            (Action::Issue(_) | Action::Write(_), Some(loaded)) if is_mere_data(work, loaded) => {
                Some(loaded.key_id)
            }
            _ => None,
        };
        let mut spilled = None;
        let question = self.ask((revoking, rows), work, action, moment, &mut spilled);
        let answer = match mere || as_it_is.is_some() {
            true => revoking.unless_down(rows, question).await,
            false => question.await,
        };
        let confirmed = match (answer, spilled, as_it_is) {
            (Ok(confirmed), None, _) => confirmed,
            (Ok(Confirmed::Yes), Some(row), _) => Confirmed::Spilled(row, action.reissue(), moment.1),
            (Ok(Confirmed::Under(key)), Some(row), _) => Confirmed::Spilled(row, action.reissue(), key),
            (Ok(confirmed), Some(_), _) => confirmed,
            _ if mere && writes => Confirmed::DataOnly,
            _ if mere => Confirmed::Later,
            (_, Some(row), Some(key)) => Confirmed::Spilled(row, Reissue::No, key),
            (_, None, Some(key)) => Confirmed::AsItIs(key),
            (Err(error), ..) => return Err(error.into()),
        };
        Ok(match confirmed {
            // What was due was another key alone.
            Confirmed::Under(_) if mere && !work.use_prolongs(&self.limits) && writes => Confirmed::DataOnly,
            Confirmed::Under(_) if mere && !work.use_prolongs(&self.limits) => Confirmed::Later,
            confirmed => confirmed,
        })
    }

    async fn ask(
        &self,
        (revoking, rows): (&Revoking, &Rows),
        work: &mut State,
        action: Action,
        (now, primary): (Millis, KeyId),
        spilled: &mut Option<LiveRow>,
    ) -> Result<Confirmed, StoreError> {
        let deadline = rows.deadline();
        let same_id = work.loaded.as_ref().is_some_and(|loaded| loaded.header.id == work.header.id);
        if same_id && matches!(action, Action::Issue(_)) {
            match revoking.ask_session_now(rows, work.header.id, now, deadline).await? {
                Standing::Fine => {}
                Standing::Ended => return Ok(Confirmed::Lost(Rejection::Revoked)),
                Standing::Unreadable => return Ok(Confirmed::Lost(Rejection::Missing)),
                Standing::Spilled(row) => *spilled = Some(row),
            }
        }
        let generation = async |key: KeyId, subject: &str| match rows.sealer.subject_row(key, subject) {
            Some(place) => revoking.ask_subject_now(rows, &place, now, deadline).await,
            None => Ok(None),
        };
        if let Some((loaded, former)) = former_subject(work) {
            let is_over = match generation(loaded.key_id, former).await {
                Ok(present) => present.is_some_and(|present| present != loaded.header.generation),
                // Nobody can tell, and whoever logs in has proved enough to begin anew.
                Err(StoreError::Corrupt(_)) if work.authenticated => true,
                Err(error) => return Err(error),
            };
            if is_over && !work.authenticated {
                return Ok(Confirmed::Lost(Rejection::Revoked));
            }
            if is_over {
                work.start_empty();
            }
        }
        let Some(subject) = work.header.subject.clone() else { return Ok(Confirmed::Yes) };
        let goes_on =
            |loaded: &&Loaded| !work.authenticated && loaded.header.subject.as_ref() == Some(&subject);
        let loaded = work.loaded.as_ref().filter(goes_on);
        let Some(opener) = loaded.map(|loaded| loaded.key_id) else {
            if rows.sealer.subject_row(primary, &subject).is_none() {
                return Err(StoreError::Timeout("the keys have changed meanwhile".into()));
            }
            work.header.generation = match generation(primary, &subject).await {
                Ok(sealing) => sealing.unwrap_or(0),
                // Nobody can tell which of the subject's sessions are over, so all are but this one.
                Err(StoreError::Corrupt(_)) => {
                    let until = self.last_end_of_any(now);
                    revoking.replace_generation(rows, &subject, (now, until)).await?
                }
                Err(error) => return Err(error),
            };
            return Ok(Confirmed::Yes);
        };
        let sealing = generation(primary, &subject).await?;
        let opening = if opener == primary { sealing } else { generation(opener, &subject).await? };
        if opening.is_some_and(|present| present != work.header.generation) {
            return Ok(Confirmed::Lost(Rejection::Revoked));
        }
        if sealing.is_some() && sealing != opening {
            return Ok(Confirmed::Under(opener));
        }
        Ok(Confirmed::Yes)
    }
}

/// The subject whose session this was before this request, where it is another's by now or begins anew.
fn former_subject(state: &State) -> Option<(&Loaded, &str)> {
    let loaded = state.loaded.as_ref()?;
    let former = loaded.header.subject.as_deref()?;
    let is_over = state.authenticated || state.header.subject.as_deref() != Some(former);
    is_over.then_some((loaded, former))
}

/// Whether nothing was asked for but to save entries, or a wish about persistence.
fn is_mere_data(state: &State, loaded: &Loaded) -> bool {
    state.renewal != Renewal::Touch
        && state.header.id == loaded.header.id
        && state.header.times == loaded.header.times
}
