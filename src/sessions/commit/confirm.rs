//! What is asked of the store before a session is prolonged or moved: whether it still may be. Cached answers do not
//! count here, or a session that was ended elsewhere could escape what ended it.

use super::{Plan, RowStep};
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
        revoking: &Revoking,
        visit: Visit<'_>,
        work: &mut State,
        plan: Plan,
        primary: KeyId,
    ) -> Result<(Plan, KeyId), NotDone> {
        let mere = plan.cookie == CookieStep::Prolong;
        let moves_nothing = matches!(plan.row, RowStep::Leave | RowStep::Write | RowStep::Bind);
        let opener = work.loaded.as_ref().filter(|loaded| moves_nothing && is_mere_data(work, loaded));
        let opener = opener.map(|loaded| loaded.key_id);
        let mut found = None;
        let need = if mere || opener.is_some() { Need::Optional } else { Need::Vital };
        let answer = self.ask((revoking, visit, need), work, plan, primary, &mut found).await;
        let (key, cookie) = match (answer, opener) {
            (Err(over @ NotDone::Lost(_)), _) => return Err(over),
            // Another key may have been all that was due.
            (Ok(key), _) if key != primary && mere && !work.use_prolongs(&self.limits) => {
                return Ok((plan.without_cookie(work), primary));
            }
            (Ok(key), _) => (key, plan.cookie),
            (Err(_), _) if mere => return Ok((plan.without_cookie(work), primary)),
            // The data may be saved where it is, under the key and with the times that it has.
            (Err(_), Some(opener)) if matches!(found, Some(Living::InRow(_))) => (opener, CookieStep::Leave),
            (Err(_), Some(opener)) => {
                if plan.row == RowStep::Bind {
                    return Ok((self.unbound(work), opener));
                }
                work.renewal = Renewal::Skip;
                (opener, plan.cookie)
            }
            (Err(error), None) => return Err(error),
        };
        let plan = match found {
            Some(Living::InRow(row)) => self.moved(work, row, cookie),
            // The row has to last as long as its session, whatever becomes of that key.
            Some(Living::InCookie(Some(row))) if row.retired_key && cookie != CookieStep::Leave => {
                Plan { row: RowStep::Bind, cookie }
            }
            Some(Living::InCookie(_)) | None => Plan { cookie, ..plan },
        };
        Ok((plan, key))
    }

    /// What to do with a session that a parallel request has moved into this row.
    fn moved(&self, work: &mut State, row: LiveRow, cookie: CookieStep) -> Plan {
        if work.entries.changed() || work.issued() > row.seen.counter {
            return Plan { row: RowStep::Create, cookie };
        }
        work.row = Some(Box::new(row.seen));
        work.entries = Entries::new(row.entries);
        work.header.place = Place::Store;
        // If it is empty, another request may be filling it.
        if self.is_over(work) { Plan::NOTHING } else { Plan { row: RowStep::Extend, cookie } }
    }

    /// The session that this request would give another id, if it may have been bound to a device meanwhile.
    fn may_be_elsewhere(&self, work: &State) -> Option<SessionId> {
        let loaded = &work.loaded.as_ref()?.header;
        let is_known = work.row.is_some() || loaded.device != Device::Offered;
        (self.device.is_some() && !is_known).then_some(loaded.id)
    }

    /// The key to seal under, or why the session is over.
    async fn ask(
        &self,
        (revoking, visit, need): (&Revoking, Visit<'_>, Need),
        work: &mut State,
        plan: Plan,
        primary: KeyId,
        found: &mut Option<Living>,
    ) -> Result<KeyId, NotDone> {
        let rows = visit.rows;
        let same_id = work.loaded.as_ref().is_some_and(|loaded| loaded.header.id == work.header.id);
        if same_id && plan.row == RowStep::Leave {
            let asked = revoking.ask_session_now(&visit, work.header.id, need).await?;
            let living = asked.map_err(NotDone::Lost)?;
            if self.limits.is_elsewhere(living.device(), &work.devices()) {
                return Err(NotDone::Lost(Rejection::Unproven));
            }
            *found = Some(living);
        }
        if let (RowStep::Replace, Some(id)) = (plan.row, self.may_be_elsewhere(work))
            && let Ok(living) = revoking.ask_session_now(&visit, id, need).await?
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
        let generation = async |key: KeyId, subject: &str| match rows.sealer.subject_row(key, subject) {
            Some(place) => revoking.ask_subject_now(&visit, &place, need).await,
            None => Ok(None),
        };
        if let Some((loaded, former)) = former_subject(work) {
            let is_over = match generation(loaded.key_id, former).await {
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
        let Some(subject) = work.header.subject.clone() else { return Ok(primary) };
        let goes_on =
            |loaded: &&Loaded| !work.authenticated && loaded.header.subject.as_ref() == Some(&subject);
        let loaded = work.loaded.as_deref().filter(goes_on);
        let Some(opener) = loaded.map(|loaded| loaded.key_id) else {
            if rows.sealer.subject_row(primary, &subject).is_none() {
                return Err(StoreError::Timeout("the keys have changed meanwhile".into()).into());
            }
            work.header.generation = match generation(primary, &subject).await {
                Ok(sealing) => sealing.unwrap_or(0),
                // Which of the subject's sessions are over is unknown, so all but this one are.
                Err(StoreError::Corrupt(_)) => revoking.replace_generation(visit.anew(), &subject).await?,
                Err(error) => return Err(error.into()),
            };
            return Ok(primary);
        };
        let sealing = generation(primary, &subject).await?;
        let opening = if opener == primary { sealing } else { generation(opener, &subject).await? };
        if opening.is_some_and(|present| present != work.header.generation) {
            return Err(NotDone::Lost(Rejection::Revoked));
        }
        // If they differ, a revocation may be under way from one key to the other. It will meet the session under the key
        // that the session came with.
        let differs = sealing.is_some() && sealing != opening;
        Ok(if differs { opener } else { primary })
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
