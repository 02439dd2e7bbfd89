//! What has to be asked of the store before a session is available.

use tracing::Instrument as _;

use super::{By, Chosen, Core, Sessions};
use crate::core::error::{Rejection, StoreError};
use crate::core::event::Event;
use crate::core::record::{Device, InLog, Place, SessionId};
use crate::core::session::Session;
use crate::store::revocation::{FailurePolicy, Revoking};
use crate::store::rows::{Found, Living};

impl Sessions {
    /// Follows a reference into the store, and asks there whether the session has been revoked.
    pub(crate) async fn fetch(&self, chosen: Chosen) -> Result<Session, StoreError> {
        let id = chosen.candidate.header().id;
        let span = tracing::debug_span!(target: "sealed_session", "session.load", session = %InLog(id));
        self.fetch_now(chosen).instrument(span).await
    }

    async fn fetch_now(&self, mut chosen: Chosen) -> Result<Session, StoreError> {
        let Some(visit) = self.core.visit(chosen.now) else {
            return Ok(self.refuse(chosen, Rejection::Missing));
        };
        let (header, revoking) = (chosen.candidate.header(), &self.core.revoking);
        let (id, device, by) = (header.id, &header.device, chosen.brought.by);
        let (mut confirmed, mut unreadable) = (true, false);
        let living = match (header.place, revoking) {
            (Place::Cookie, None) => Ok(Living::InCookie(None)),
            (Place::Cookie, Some(revoking)) => {
                let asked = revoking.ask_session(&visit, header).await;
                confirmed &= asked.is_ok();
                unreadable = matches!(asked, Ok(Err(Rejection::Missing)));
                self.core.or_assume(asked, Ok(Living::InCookie(None)), id, revoking)?
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
        if unreadable && by == By::Device {
            // Its key may be on its way to this node. A browser that is told that the session is over unbinds it for good.
            return Err(StoreError::Corrupt("the row of the session cannot be read here".into()));
        }
        let living = match living {
            Ok(living) => living,
            Err(reason) => return Ok(self.refuse_asking(chosen, reason, &visit).await),
        };
        let ours = [device, chosen.proved.as_ref().unwrap_or(device)];
        let elsewhere = living.device().filter(|&key| visit.limits.is_elsewhere(Some(key), &ours)).cloned();
        if elsewhere.is_some() && by != By::Device {
            return Ok(self.unproven(chosen, elsewhere));
        }
        if let (Some(revoking), Some(subject)) = (revoking, header.subject.as_deref())
            && let Some(place) = visit.rows.sealer.subject_row(chosen.candidate.loaded.key_id, subject)
        {
            let asked = match by {
                // What a browser is told of the end is final, so it has to be the store that says it.
                By::Device => revoking.ask_subject_revoked(&visit, &place, header).await,
                By::Itself | By::Middleware => revoking.is_subject_revoked(&visit, &place, header).await,
            };
            confirmed &= asked.is_ok();
            if self.core.or_assume(asked, false, id, revoking)? {
                return Ok(self.refuse_asking(chosen, Rejection::Revoked, &visit).await);
            }
        }
        if let Some(roster) = self.core.roster(visit).filter(|_| confirmed && by != By::Device) {
            roster.note(header, None).await;
        }
        // A browser may be asked for another proof, and for no other key.
        chosen.proved = elsewhere.map(Device::Bound).or(chosen.proved);
        Ok(self.resume(chosen, living.row()))
    }
}

impl Core {
    /// The answer, or what is assumed where the store gives none, if it may be.
    pub(super) fn or_assume<T>(
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
