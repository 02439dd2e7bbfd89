//! What has to be asked of the store before a session is available.

use tracing::Instrument as _;

use super::{By, Core, Reference, Sessions};
use crate::core::error::{Rejection, StoreError};
use crate::core::event::Event;
use crate::core::record::{InLog, Place, SessionId};
use crate::core::session::Session;
use crate::store::revocation::{FailurePolicy, Revoking};
use crate::store::rows::{Found, Living};

impl Sessions {
    /// Follows a reference into the store, and asks there whether the session has been revoked.
    pub(crate) async fn fetch(&self, reference: Reference) -> Result<Session, StoreError> {
        let id = reference.candidate.header().id;
        let span = tracing::debug_span!(target: "sealed_session", "session.load", session = %InLog(id));
        self.fetch_now(reference).instrument(span).await
    }

    async fn fetch_now(&self, reference: Reference) -> Result<Session, StoreError> {
        let Reference { candidate, mut circumstances } = reference;
        let now = circumstances.now;
        let Some(visit) = self.core.visit(now) else {
            return Ok(self.refuse(&candidate, circumstances, Rejection::Missing));
        };
        let (id, revoking) = (candidate.header().id, &self.core.revoking);
        let (mut confirmed, mut unreadable) = (true, false);
        let bound = candidate.header().device.bound();
        let living = match (candidate.header().place, revoking) {
            (Place::Cookie, None) => Ok(Living::InCookie(None)),
            (Place::Cookie, Some(revoking)) => {
                let asked = revoking.ask_session(&visit, id, bound.is_some()).await;
                confirmed &= asked.is_ok();
                unreadable = matches!(asked, Ok(Err(Rejection::Missing)));
                self.core.or_else(asked, Ok(Living::InCookie(None)), id, revoking)?
            }
            (Place::Store, _) => {
                let found = visit.rows.load(id, visit.deadline).await?;
                unreadable = matches!(found, Found::Unreadable(_, true));
                match found.living() {
                    Ok(Living::InCookie(_)) => Err(Rejection::Missing),
                    living => living,
                }
            }
        };
        if unreadable && circumstances.brought.by == By::Device {
            // Its key may be on its way to this node. A browser that is told that the session is over unbinds it for good.
            return Err(StoreError::Corrupt("the row of the session cannot be read here".into()));
        }
        let living = match living {
            Ok(living) => living,
            Err(reason) => return Ok(self.refuse_asking(candidate, circumstances, reason, &visit).await),
        };
        let elsewhere =
            living.device().filter(|key| circumstances.heals.as_ref().or(bound) != Some(key)).cloned();
        let elsewhere = elsewhere.filter(|_| self.core.device.is_some());
        if elsewhere.is_some() && circumstances.brought.by != By::Device {
            return Ok(self.unproven(candidate, elsewhere, circumstances.brought, now));
        }
        let subject = candidate.header().subject.as_deref();
        if let (Some(revoking), Some(subject)) = (revoking, subject)
            && let Some(place) = visit.rows.sealer.subject_row(candidate.loaded.key_id, subject)
        {
            let asked = revoking.is_subject_revoked(&visit, &place, candidate.header()).await;
            confirmed &= asked.is_ok();
            if self.core.or_else(asked, false, id, revoking)? {
                let reason = Rejection::Revoked;
                return Ok(self.refuse_asking(candidate, circumstances, reason, &visit).await);
            }
        }
        let uses = circumstances.brought.by != By::Device;
        if let Some(roster) = self.core.roster(visit).filter(|_| confirmed && uses) {
            roster.note(candidate.header(), None).await;
        }
        // A browser may be asked for another proof, and for no other key.
        circumstances.heals = elsewhere.or(circumstances.heals);
        Ok(self.resume(candidate, circumstances, living.row()))
    }
}

impl Core {
    /// What replaces an answer that the store does not give.
    pub(super) fn or_else<T>(
        &self,
        asked: Result<T, StoreError>,
        assumed: T,
        id: SessionId,
        revoking: &Revoking,
    ) -> Result<T, StoreError> {
        match (asked, revoking.on_failure) {
            (Err(_), FailurePolicy::Open) => {
                self.sink.tell(&Event::Unconfirmed { id });
                Ok(assumed)
            }
            (answer, _) => answer,
        }
    }
}
