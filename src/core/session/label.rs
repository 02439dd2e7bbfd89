//! What the session is called in the list of its subject's.

use super::Session;
use crate::core::error::InsertError;
use crate::core::record::MAX_LABEL_BYTES;

impl Session {
    /// Says what this session is called in the list of its subject's ([`Sessions::of`](crate::Sessions::of)), such as
    /// "Firefox on Linux": any text, of which the first 120 bytes ([`MAX_LABEL_BYTES`](crate::MAX_LABEL_BYTES)) are kept, cut
    /// between two characters; an empty one takes the name away. Call it at the login, where it costs nothing more; later it
    /// costs two round trips to the store. `renew` and a re-authentication keep it.
    ///
    /// It is no part of the session and reads back from the list alone. Without a subject when the request is over, or
    /// without a store, it is kept nowhere. With a lost line of the list it is lost too.
    ///
    /// # Errors
    /// [`InsertError::Destroyed`], [`InsertError::Committed`], [`InsertError::CrossSite`].
    pub fn set_label(&self, label: impl AsRef<str>) -> Result<(), InsertError> {
        let label = label.as_ref();
        self.with(|state| {
            state.check_open()?;
            // A name for people is no reason to refuse a login: `User-Agent` is longer on every iPhone.
            let fits = (0..=MAX_LABEL_BYTES.min(label.len())).rev().find(|&end| label.is_char_boundary(end));
            let label = &label[..fits.unwrap_or(0)];
            state.besides.get_or_insert_default().label = Some(label.into());
            Ok(())
        })
    }

    /// What this session is called in [`SessionSummary::handle`](crate::SessionSummary::handle) of its subject's list;
    /// `None` without a subject, or where there are no lists.
    #[must_use]
    pub fn handle(&self) -> Option<String> {
        let (subject, id) = self.with(|state| (state.header.subject.clone(), state.header.id));
        self.inner.backend.handle(subject.as_deref()?, id)
    }
}
