//! The cookie that goes out, and what is reported of it.

use super::plan::{Moment, RowStep};
use crate::core::clock::Millis;
use crate::core::cookie::{SetCookie, SetCookies};
use crate::core::event::Event;
use crate::core::key::KeyId;
use crate::core::lifetime;
use crate::core::measure;
use crate::core::record::{self, Device, Extent, Header, Place};
use crate::core::state::{CookieStep, State};
use crate::sessions::Core;

impl Core {
    /// Seals the session, stamped at the commit's moment, under this key: the whole `Set-Cookie` value, and how many bytes of
    /// it are name + value. `clock` is what the clock shows by now, which may be later.
    pub(super) fn seal(
        &self,
        state: &State,
        &Moment { now, ref context, .. }: &Moment,
        clock: Millis,
        key: KeyId,
    ) -> (SetCookie, usize) {
        let Self { sealer, cookie, limits, .. } = self;
        let (extent, within) = match state.header.place {
            Place::Cookie => (state.entries.extent(), usize::MAX),
            Place::Store => (Extent::default(), 0),
        };
        let plaintext = state.header.encoded_len(extent);
        let write = |text: &mut Vec<u8>| {
            record::encode(&state.header, extent.count, state.entries.iter().take(within), text);
        };
        let (end, _) = lifetime::first_end(&state.header.times, &limits.terms, now);
        let persistent = state.header.persistent.unwrap_or(cookie.persistent());
        let max_age = persistent.then(|| lifetime::max_age(end, now));
        let bytes = limits.name_value(plaintext);
        let line =
            cookie.set(context.secure, max_age, bytes, |out| sealer.seal(Some(key), clock, write, out));
        measure::cookie(bytes);
        (line, bytes)
    }

    /// The response's lines with this cookie. A browser that sent several of our name has one from an earlier release.
    pub(super) fn issue(&self, state: &State, line: SetCookie, secure: bool) -> SetCookies {
        let former = if state.cookies > 1 { self.cookie.remove_former(secure) } else { Vec::new() };
        SetCookies { own: Some(line), former, ..SetCookies::default() }
    }

    /// The response's lines that make the browser forget the session.
    pub(super) fn remove(&self, secure: bool) -> SetCookies {
        let (own, former) = (Some(self.cookie.remove(secure)), self.cookie.remove_former(secure));
        SetCookies { own, former, ..SetCookies::default() }
    }

    /// The events of an issued cookie: a change of the session, a change of its key, and its binding to a device.
    pub(super) fn issued(
        &self,
        state: &State,
        step: CookieStep,
        bytes: usize,
        to: KeyId,
    ) -> [Option<Event>; 3] {
        let id = state.header.id;
        let Some(before) = &state.loaded else { return [Some(Event::Started { id, bytes }), None, None] };
        let change = if before.header.id != id {
            Some(Event::Renewed { from: before.header.id, to: id })
        } else if step == CookieStep::Issue {
            Some(Event::Reissued { id, bytes })
        } else {
            state.use_prolongs(&self.limits).then_some(Event::Extended { id })
        };
        let from = before.key_id;
        let resealed = (before.retired_key && from != to).then_some(Event::Resealed { id, from, to });
        let binds =
            matches!(state.header.device, Device::Bound(_)) && before.header.device != state.header.device;
        [change, resealed, binds.then_some(Event::DeviceBound { id })]
    }

    /// The event of an authentication, once the session has its cookie.
    pub(super) fn authentication(state: &State) -> Option<Event> {
        let of_whom = |header: &Header| header.subject == state.header.subject;
        let again = state.loaded.as_ref().is_some_and(|loaded| of_whom(&loaded.header));
        state.authenticated.then_some(Event::Authenticated { id: state.header.id, again })
    }

    pub(super) fn tell_stored(&self, work: &State, step: RowStep) {
        let (id, bytes) = (work.header.id, work.row_len());
        match step {
            RowStep::Create => self.sink.tell(&Event::Spilled { id, bytes }),
            RowStep::Write if work.differs_from_row() => self.sink.tell(&Event::Written { id, bytes }),
            _ => {}
        }
    }

    pub(super) fn tell_all(&self, events: impl IntoIterator<Item = impl Into<Option<Event>>>) {
        events.into_iter().filter_map(Into::into).for_each(|event| self.sink.tell(&event));
    }
}
