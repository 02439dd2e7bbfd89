//! What a response tells the browser about the device that its session is bound to.

use super::confirm::is_mere_data;
use super::{Plan, RowStep};
use crate::core::clock::Millis;
use crate::core::cookie::{DeviceLines, SetCookies};
use crate::core::device::Binder;
use crate::core::error::CommitError;
use crate::core::event::Event;
use crate::core::key::KeyId;
use crate::core::record::Device;
use crate::core::session::Session;
use crate::core::state::{CookieStep, Renewal, State, Unproven};
use crate::sessions::Core;
use crate::store::stored::NotDone;

impl Core {
    /// Whether this response asks the browser for a device key: at a login, unless the session has one.
    pub(super) fn offers(&self, state: &State) -> bool {
        let bound = matches!(state.header.device, Device::Bound(_));
        self.device.is_some() && state.can_offer && state.authenticated && !bound
    }

    /// Whether the session is to get a key from now on: where that is required, even if no browser can be asked.
    pub(super) fn marks_offered(&self, state: &State) -> bool {
        let required = self.device.as_ref().is_some_and(Binder::is_required);
        let free = state.header.device == Device::Free;
        self.offers(state) || (required && state.authenticated && free)
    }

    /// Records which device the session is bound to, before its cookie says so. If the store does not answer, the session
    /// stays as it came, and the next request with a proof binds it.
    pub(super) async fn bind(&self, work: &mut State, plan: Plan, now: Millis) -> Result<Plan, NotDone> {
        let Some((revoking, visit)) = self.revoking_at(now) else { return Ok(plan) };
        let id = work.header.id;
        let bind = async {
            match visit.bind(work).await {
                Err(NotDone::Failed(CommitError::Store(error))) => Err(error),
                other => Ok(other),
            }
        };
        let failure = match revoking.unless_down(&visit, id, bind).await {
            Ok(Ok(true)) => {
                revoking.bound(id, now);
                return Ok(Plan { row: RowStep::Leave, ..plan });
            }
            Ok(Ok(false)) => return Ok(Plan { row: RowStep::Create, ..plan }),
            Ok(Err(lost @ NotDone::Lost(_))) => return Err(lost),
            Ok(Err(failed)) => failed,
            Err(error) => error.into(),
        };
        match work.loaded.as_ref().filter(|loaded| is_mere_data(work, loaded)).map(|loaded| loaded.key_id) {
            Some(opener) => Ok(self.unbound(work, opener)),
            None => Err(failure),
        }
    }

    /// What remains for a session that cannot be bound now: saving its other changes, under its present times.
    pub(super) fn unbound(&self, work: &mut State, opener: KeyId) -> Plan {
        work.unbind();
        work.renewal = Renewal::Skip;
        let cookie = match work.cookie_step(&self.limits) {
            CookieStep::Issue => CookieStep::Issue,
            _ => CookieStep::Leave,
        };
        Plan { row: RowStep::Leave, cookie, former_key: Some(opener) }
    }

    /// The response's lines, with those about the device.
    pub(super) fn with_device(&self, session: &Session, mut lines: SetCookies) -> SetCookies {
        if let Some(binder) = &self.device {
            let (told, offered) = session.with(|state| {
                let told = self.device_lines(binder, state, &lines);
                let offered = told.as_ref().is_some_and(|lines| lines.registration.is_some());
                (told, offered.then_some(state.header.id))
            });
            offered.into_iter().for_each(|id| self.sink.tell(&Event::DeviceOffered { id }));
            lines.device = told.map(Box::new);
        }
        lines
    }

    fn device_lines(&self, binder: &Binder, state: &mut State, lines: &SetCookies) -> Option<DeviceLines> {
        let now = state.now;
        let unproven = state.besides.as_mut().and_then(|besides| besides.unproven.take());
        let issued = lines.own.as_ref().is_some_and(|own| !own.removes());
        if issued && self.offers(state) {
            let proof = unproven.map(|_| binder.remove_proof());
            return Some(DeviceLines {
                proof,
                registration: Some(binder.offer(state.header.id, now)),
                challenge: None,
            });
        }
        let ended = lines.own.as_ref().is_some_and(|own| own.removes());
        if ended && unproven.is_some() {
            return Some(DeviceLines { proof: Some(binder.remove_proof()), ..DeviceLines::default() });
        }
        if let Some(Unproven { session, key }) = unproven {
            let id = session.header.id;
            let challenge = |key: &_| binder.challenge(id, key, &binder.identifier(id, key), now);
            let challenge = key.as_deref().map(challenge);
            return Some(DeviceLines { proof: Some(binder.remove_proof()), registration: None, challenge });
        }
        let loaded = &state.loaded.as_ref()?.header;
        let removes = ended && loaded.device != Device::Free;
        removes.then(|| DeviceLines { proof: Some(binder.remove_proof()), ..DeviceLines::default() })
    }
}
