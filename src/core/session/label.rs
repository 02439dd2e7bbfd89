//! What the session is called in the list of its subject's.

use super::Session;
use crate::core::error::InsertError;
use crate::core::record::MAX_LABEL_BYTES;

impl Session {
    /// Says what this session is called in the list of its subject's ([`Sessions::of`](crate::Sessions::of)), such as
    /// "Firefox on Linux": at most 120 bytes ([`MAX_LABEL_BYTES`](crate::MAX_LABEL_BYTES)) of any text; an empty one takes the
    /// name away. Some browsers' `User-Agent` is longer, so cut it, or a login fails for their users alone. Call it at the login, where it
    /// costs nothing more; later it costs two round trips to the store. `renew` and a re-authentication keep it.
    ///
    /// It is no part of the session and reads back from the list alone. Without a subject when the request is over, or
    /// without a store, it is kept nowhere. With a lost line of the list it is lost too.
    ///
    /// # Errors
    /// [`InsertError::Label`] if it is too long; [`InsertError::Destroyed`], [`InsertError::Committed`],
    /// [`InsertError::CrossSite`].
    pub fn set_label(&self, label: impl AsRef<str>) -> Result<(), InsertError> {
        let label = label.as_ref();
        self.with(|state| {
            state.check_open()?;
            if label.len() > MAX_LABEL_BYTES {
                return Err(InsertError::Label { size: label.len(), max: MAX_LABEL_BYTES });
            }
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
