//! What the extractors of every framework hand out, beside the session itself.

use std::any::{TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use crate::core::session::Session;

/// What the scope is called in messages: where it is found, which of ours the application need not know.
pub(crate) fn scope_name<S: 'static>() -> &'static str {
    match TypeId::of::<S>() == TypeId::of::<Site>() {
        true => "sealed_session::Site",
        false => type_name::<S>(),
    }
}

/// The scope of a session that was not given one.
#[derive(Debug)]
pub enum Site {}

/// The extractor of an independent session: that of `SessionMiddleware::scoped` or `SessionLayer::scoped` with the same
/// type. Derefs to [`Session`].
pub struct Scoped<S> {
    session: Session,
    scope: PhantomData<fn() -> S>,
}

impl<S> Scoped<S> {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, scope: PhantomData }
    }

    /// The session itself.
    #[must_use]
    pub fn into_inner(self) -> Session {
        self.session
    }
}

impl<S> Clone for Scoped<S> {
    fn clone(&self) -> Self {
        Self::new(self.session.clone())
    }
}

impl<S> Deref for Scoped<S> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<S> fmt::Debug for Scoped<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scoped<{}>({:?})", type_name::<S>(), self.session)
    }
}

/// The extractor for handlers that are there for users alone: [whose session](Session::subject) the request's is. Without
/// one the answer is 401 with an empty body, before the handler is called; for pages
/// [`LoginGuard`](crate::LoginGuard) sends them to log in. Derefs to `str`.
///
/// `Option<Subject>` is for handlers that serve both. On axum it is `None` for nobody alone; on actix-web, where an
/// `Option` takes every error for `None`, also while a store fails that the session is in, and for another site's page that is
/// refused.
///
/// ```
/// use sealed_session::Subject;
///
/// async fn account(Subject(user): Subject) -> String {
///     format!("the account of {user}")
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(pub String);

impl Deref for Subject {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
