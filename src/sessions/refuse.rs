//! Cookies that are refused, and what the handler gets instead: a new session, which knows what a login may have of the former one.

use std::sync::Arc;

use super::{Brought, By, Chosen, Core, Sessions};
use crate::core::candidates::{Candidate, Refusal};
use crate::core::clock::Millis;
use crate::core::entries::Entries;
use crate::core::error::Rejection;
use crate::core::event::Event;
use crate::core::record::{DeviceKey, Place, Replacement};
use crate::core::session::Session;
use crate::core::state::{Loaded, Origin, Replaced, State, Unproven};
use crate::store::revocation::{Need, Revoking};
use crate::store::rows::Visit;

impl Sessions {
    /// A session that the store says is over. A late response to an older cookie must not remove a newer one, so the
    /// cookie stays in the browser.
    pub(super) fn refuse(&self, chosen: Chosen, reason: Rejection) -> Session {
        self.refuse_replaced(chosen, reason, None)
    }

    /// The same, with what is left of it for a login.
    fn refuse_replaced(&self, chosen: Chosen, reason: Rejection, replaced: Option<Replaced>) -> Session {
        let Chosen { candidate, mut brought, now, .. } = chosen;
        let header = candidate.header();
        let id = header.id;
        let besides = brought.besides.get_or_insert_default();
        besides.refused = Some(id.0.into());
        besides.over = (reason == Rejection::Revoked).then(|| Box::new(header.clone()));
        besides.replaced = replaced;
        self.reject(Refusal { id: Some(id), ..Refusal::of(reason) }, brought, now)
    }

    /// A session whose device has not proved itself: its cookie stays in the browser, and the handler gets nothing of it.
    pub(super) fn unproven(&self, chosen: Chosen, key: Option<Arc<DeviceKey>>) -> Session {
        let Chosen { candidate: Candidate { loaded: mut session, .. }, mut brought, now, .. } = chosen;
        session.due = None;
        let id = session.header.id;
        let besides = brought.besides.get_or_insert_default();
        besides.refused = Some(id.0.into());
        besides.unproven = Some(Unproven { session, key });
        let refusal = Refusal { id: Some(id), ..Refusal::of(Rejection::Unproven) };
        self.reject(refusal, brought, now)
    }

    pub(super) fn reject(
        &self,
        Refusal { reason, id, removable, .. }: Refusal,
        brought: Brought,
        now: Millis,
    ) -> Session {
        self.tell(&Event::Rejected { id, reason });
        let mut state = State::new(Origin::Rejected(reason), &self.core.limits.terms, now);
        state.remove_refused = removable;
        self.session(state, brought)
    }

    /// Refuses a session, and asks what is left of it for a login.
    pub(super) async fn refuse_asking(
        &self,
        chosen: Chosen,
        reason: Rejection,
        visit: &Visit<'_>,
    ) -> Session {
        // A browser that speaks of its device logs nobody in.
        let replaced = match chosen.brought.by {
            By::Device => None,
            _ => self.core.left_for_a_login(&chosen.candidate, visit).await,
        };
        self.refuse_replaced(chosen, reason, replaced)
    }
}

impl Core {
    /// What a cookie holds whose session is over because one of a subject took its place.
    fn replaced(Candidate { loaded, entries }: &Candidate, replacement: Replacement) -> Option<Replaced> {
        // Where it was in the store by then, the cookie is from before that.
        let Replacement { by, place: Place::Cookie } = replacement else { return None };
        let session = Box::new(Loaded { due: None, ..(**loaded).clone() });
        Some(Replaced { session, entries: Entries::new(Arc::clone(entries)), by })
    }

    /// What a session that is over leaves for a login as the subject whose session took its place.
    async fn left_for_a_login(&self, candidate: &Candidate, visit: &Visit<'_>) -> Option<Replaced> {
        let revoking = self.revoking.as_ref()?;
        let replacement = revoking.present_replacement(visit, candidate.header().id).await?;
        let replaced = Self::replaced(candidate, replacement)?;
        self.is_of_subject(candidate, revoking, visit).await.then_some(replaced)
    }

    /// Whether nobody has revoked all sessions of the subject since this one began; if it had any.
    async fn is_of_subject(&self, candidate: &Candidate, revoking: &Revoking, visit: &Visit<'_>) -> bool {
        let (header, key_id) = (candidate.header(), candidate.loaded.key_id);
        let Some(subject) = header.subject.as_deref() else { return true };
        let Some(place) = visit.rows.sealer.subject_row(key_id, subject) else { return false };
        match revoking.is_subject_known_revoked(&place, header.generation, visit.now) {
            Some(is_revoked) => !is_revoked,
            None => match revoking.ask_subject_now(visit, &place, Need::Optional).await {
                Ok(present) => present.is_none_or(|present| present == header.generation),
                Err(_) => false,
            },
        }
    }
}
