//! The session's name in the list of its subject's sessions.

use super::Session;
use crate::core::error::InsertError;
use crate::core::record::MAX_LABEL_BYTES;

impl Session {
    /// Names this session in the list of its subject's sessions ([`Sessions::of`](crate::Sessions::of)), such as "Firefox
    /// on Linux": any text, cut to 120 bytes ([`MAX_LABEL_BYTES`](crate::MAX_LABEL_BYTES)) at a character boundary; an
    /// empty one removes the name. Call it at login, where it costs nothing extra; later it costs two round trips to the
    /// store. `renew` and a re-authentication keep it.
    ///
    /// The name is not part of the session and can be read only from the list. Without a subject when the request is
    /// over, or without a store, it is not kept. If its line in the list is lost, so is the name.
    ///
    /// # Errors
    /// [`InsertError::Destroyed`], [`InsertError::Committed`], [`InsertError::CrossSite`].
    pub fn set_label(&self, label: impl AsRef<str>) -> Result<(), InsertError> {
        let label = label.as_ref();
        self.with(|state| {
            state.check_open()?;
            // A display name is no reason to refuse a login: every iPhone's `User-Agent` is longer.
            let fits = (0..=MAX_LABEL_BYTES.min(label.len())).rev().find(|&end| label.is_char_boundary(end));
            let label = &label[..fits.unwrap_or(0)];
            state.besides.get_or_insert_default().label = Some(label.into());
            Ok(())
        })
    }

    /// This session's [`SessionSummary::handle`](crate::SessionSummary::handle) in its subject's list; `None` without a
    /// subject, or where there are no lists.
    #[must_use]
    pub fn handle(&self) -> Option<String> {
        let (subject, id) = self.with(|state| (state.header.subject.clone(), state.header.id));
        self.shared.backend.handle(subject.as_deref()?, id)
    }
}
