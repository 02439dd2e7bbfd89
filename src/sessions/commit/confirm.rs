//! What is asked of the store before a session is prolonged or moved: whether it still may be. Cached answers do not
//! count here, or a session that was ended elsewhere could escape what ended it.

use super::plan::{Moment, Plan, RowStep};
use crate::core::entries::Entries;
use crate::core::error::{Rejection, StoreError};
use crate::core::key::KeyId;
use crate::core::record::{Device, Place, SessionId};
use crate::core::state::{CookieStep, Loaded, Renewal, State};
use crate::sessions::Core;
use crate::store::revocation::{Need, Revoking};
use crate::store::rows::{LiveRow, Living, Visit};
use crate::store::stored::NotDone;

impl Core {
    /// Asks, and gives the session the generation of its subject that it is to be sealed with. If the store does not
    /// answer, only the part of the plan that needs no answer remains.
    pub(super) async fn confirm(
        &self,
        work: &mut State,
        plan: Plan,
        moment: &Moment,
    ) -> Result<Plan, NotDone> {
        let Some((revoking, visit)) = self.revoking_at(moment.now) else { return Ok(plan) };
        let mere = plan.cookie == CookieStep::Prolong;
        let moves_nothing = matches!(plan.row, RowStep::Leave | RowStep::Write | RowStep::Bind);
        let opener = work.loaded.as_ref().filter(|loaded| moves_nothing && is_mere_data(work, loaded));
        let opener = opener.map(|loaded| loaded.key_id);
        let need = if mere || opener.is_some() { Need::Optional } else { Need::Vital };
        let questions = Questions { revoking, visit, need };
        let mut found = None;
        let answer = async {
            found = self.ask_session(&questions, work, plan).await?;
            self.ask_subject(&questions, work, moment.primary).await
        };
        let plan = match (answer.await, opener) {
            (Err(over @ NotDone::Lost(_)), _) => return Err(over),
            // Another key may have been all that was due.
            (Ok(Some(_)), _) if mere && !work.use_prolongs(&self.limits) => {
                return Ok(plan.without_cookie(work));
            }
            (Ok(former_key), _) => Plan { former_key, ..plan },
            (Err(_), _) if mere => return Ok(plan.without_cookie(work)),
            // The data may be saved where it is, under the key and with the times that it has.
            (Err(_), Some(_)) if matches!(found, Some(Living::InRow(_))) => {
                Plan { cookie: CookieStep::Leave, former_key: opener, ..plan }
            }
            (Err(_), Some(opener)) if plan.row == RowStep::Bind => return Ok(self.unbound(work, opener)),
            (Err(_), Some(_)) => {
                work.renewal = Renewal::Skip;
                Plan { former_key: opener, ..plan }
            }
            (Err(error), None) => return Err(error),
        };
        Ok(match found {
            Some(Living::InRow(row)) => self.moved(work, row, plan),
            // The row has to last as long as its session, whatever becomes of that key.
            Some(Living::InCookie(Some(row))) if row.retired_key && plan.cookie != CookieStep::Leave => {
                Plan { row: RowStep::Bind, ..plan }
            }
            Some(Living::InCookie(_)) | None => plan,
        })
    }

    /// What to do with a session that a parallel request has moved into this row.
    fn moved(&self, work: &mut State, row: LiveRow, plan: Plan) -> Plan {
        if work.entries.changed() || work.issued() > row.seen.counter {
            return Plan { row: RowStep::Create, ..plan };
        }
        work.row = Some(Box::new(row.seen));
        work.entries = Entries::new(row.entries);
        work.header.place = Place::Store;
        // If it is empty, another request may be filling it.
        if self.is_worthless(work) { Plan::NOTHING } else { Plan { row: RowStep::Extend, ..plan } }
    }

    /// The session that this request would give another id, if it may have been bound to a device meanwhile.
    fn may_be_elsewhere(&self, work: &State) -> Option<SessionId> {
        let loaded = &work.loaded.as_ref()?.header;
        let is_known = work.row.is_some() || loaded.device != Device::Offered;
        (self.device.is_some() && !is_known).then_some(loaded.id)
    }

    /// Where the session is that is to be prolonged, or why it is over; `None`: its row is met anyway. Of one that was bound to another
    /// device meanwhile, a login gets nothing.
    async fn ask_session(
        &self,
        questions: &Questions<'_>,
        work: &mut State,
        plan: Plan,
    ) -> Result<Option<Living>, NotDone> {
        let same_id = work.loaded.as_ref().is_some_and(|loaded| loaded.header.id == work.header.id);
        if same_id && plan.row == RowStep::Leave {
            let living = questions.session(work.header.id).await?.map_err(NotDone::Lost)?;
            if self.limits.is_elsewhere(living.device(), &work.devices()) {
                return Err(NotDone::Lost(Rejection::Unproven));
            }
            return Ok(Some(living));
        }
        if let (RowStep::Replace, Some(id)) = (plan.row, self.may_be_elsewhere(work))
            && let Ok(living) = questions.session(id).await?
            && self.limits.is_elsewhere(living.device(), &work.devices())
        {
            if !work.authenticated {
                return Err(NotDone::Lost(Rejection::Unproven));
            }
            work.start_empty(&self.limits);
            // The session ends if it is theirs.
            let is_theirs = |loaded: &mut Loaded| loaded.header.subject == work.header.subject;
            work.loaded.take_if(|loaded| !is_theirs(loaded));
        }
        Ok(None)
    }

    /// Gives the session its subject's generation. Returns the key that it came under, if it is to stay under that.
    async fn ask_subject(
        &self,
        questions: &Questions<'_>,
        work: &mut State,
        primary: KeyId,
    ) -> Result<Option<KeyId>, NotDone> {
        if let Some((loaded, former)) = former_subject(work) {
            let is_over = match questions.generation(loaded.key_id, former).await {
                Ok(present) => present.is_some_and(|present| present != loaded.header.generation),
                // This is unknown, and a user who logs in has proved enough to begin anew.
                Err(StoreError::Corrupt(_)) if work.authenticated => true,
                Err(error) => return Err(error.into()),
            };
            if is_over && !work.authenticated {
                return Err(NotDone::Lost(Rejection::Revoked));
            }
            if is_over {
                work.start_empty(&self.limits);
            }
        }
        let Some(subject) = work.header.subject.clone() else { return Ok(None) };
        let goes_on =
            |loaded: &&Loaded| !work.authenticated && loaded.header.subject.as_ref() == Some(&subject);
        let loaded = work.loaded.as_deref().filter(goes_on);
        let Some(opener) = loaded.map(|loaded| loaded.key_id) else {
            let Questions { revoking, visit, .. } = questions;
            if visit.rows.sealer.subject_row(primary, &subject).is_none() {
                return Err(StoreError::Timeout("the keys have changed meanwhile".into()).into());
            }
            work.header.generation = match questions.generation(primary, &subject).await {
                Ok(sealing) => sealing.unwrap_or(0),
                // Which of the subject's sessions are over is unknown, so all but this one are.
                Err(StoreError::Corrupt(_)) => revoking.replace_generation(visit.anew(), &subject).await?,
                Err(error) => return Err(error.into()),
            };
            return Ok(None);
        };
        let sealing = questions.generation(primary, &subject).await?;
        let opening =
            if opener == primary { sealing } else { questions.generation(opener, &subject).await? };
        if opening.is_some_and(|present| present != work.header.generation) {
            return Err(NotDone::Lost(Rejection::Revoked));
        }
        // If they differ, a revocation may be under way from one key to the other. It will meet the session under the key
        // that the session came with.
        let differs = sealing.is_some() && sealing != opening;
        Ok(differs.then_some(opener))
    }
}

/// What a commit asks of the store, and whether it can do without the answers.
struct Questions<'a> {
    revoking: &'a Revoking,
    visit: Visit<'a>,
    need: Need,
}

impl Questions<'_> {
    async fn session(&self, id: SessionId) -> Result<Result<Living, Rejection>, StoreError> {
        self.revoking.ask_session_now(&self.visit, id, self.need).await
    }

    /// A subject's generation under this key.
    async fn generation(&self, key: KeyId, subject: &str) -> Result<Option<u64>, StoreError> {
        match self.visit.rows.sealer.subject_row(key, subject) {
            Some(place) => self.revoking.ask_subject_now(&self.visit, &place, self.need).await,
            None => Ok(None),
        }
    }
}

/// The subject whose session this was before this request, if it is another's by now or begins anew.
fn former_subject(state: &State) -> Option<(&Loaded, &str)> {
    let loaded = state.loaded.as_ref()?;
    let former = loaded.header.subject.as_deref()?;
    let is_over = state.authenticated || state.header.subject.as_deref() != Some(former);
    is_over.then_some((loaded, former))
}

/// Whether only entries were to be saved, or a change of persistence.
pub(super) fn is_mere_data(state: &State, loaded: &Loaded) -> bool {
    state.renewal != Renewal::Touch
        && state.header.id == loaded.header.id
        && state.header.times == loaded.header.times
}
