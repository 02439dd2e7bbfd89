//! The keys of values.

use std::fmt;
use std::marker::PhantomData;

/// A session key that knows the type of its value, so that the type is written once.
///
/// ```
/// use sealed_session::SessionKey;
///
/// const VISITS: SessionKey<u32> = SessionKey::new("visits");
/// assert_eq!(VISITS.as_ref(), "visits");
/// ```
pub struct SessionKey<'k, T> {
    name: &'k str,
    of: PhantomData<fn() -> T>,
}

impl<'k, T> SessionKey<'k, T> {
    /// A key of this name. Keys that differ in their type alone are the same key.
    #[must_use]
    pub const fn new(name: &'k str) -> Self {
        Self { name, of: PhantomData }
    }

    pub(super) const fn name(self) -> &'k str {
        self.name
    }
}

impl<T> Clone for SessionKey<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SessionKey<'_, T> {}

impl<T> fmt::Debug for SessionKey<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({:?})", self.name)
    }
}

impl<T> AsRef<str> for SessionKey<'_, T> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

impl<'k, T> From<&'k str> for SessionKey<'k, T> {
    fn from(name: &'k str) -> Self {
        Self::new(name)
    }
}

impl<'k, T> From<&'k String> for SessionKey<'k, T> {
    fn from(name: &'k String) -> Self {
        Self::new(name)
    }
}

impl<'k, T> From<&SessionKey<'k, T>> for SessionKey<'k, T> {
    fn from(key: &SessionKey<'k, T>) -> Self {
        *key
    }
}
