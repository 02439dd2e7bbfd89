//! What the extractors of every framework hand out, besides the session itself.

use std::any::{TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use crate::core::session::Session;

/// The scope's name in messages: for ours its public path, because the application need not know the internal one.
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
/// type. Derefs to [`Session`]. [`Subject`] and [`Flash`](crate::Flash) are of the session without a scope.
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

/// The extractor for handlers for logged-in users only: [whose session](Session::subject) the request's is. Without one
/// the response is 401 with an empty body, before the handler is called; for pages, [`LoginGuard`](crate::LoginGuard)
/// sends visitors to log in. Derefs to `str`.
///
/// `Option<Subject>` is for handlers that serve both. On axum it is `None` only if nobody has logged in; on actix-web,
/// where an `Option` turns every error into `None`, also if the session's store fails, and for another site's page that
/// is refused.
///
/// It is that of the session without a scope: in a scope ask [`Scoped`] for its [`subject`](Session::subject).
///
/// ```
/// use sealed_session::Subject;
///
/// async fn account(user: Subject) -> String {
///     format!("the account of {user}")
/// }
/// # assert_eq!(Subject("ada".into()).to_string(), "ada");
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
