//! Which scope a cookie is for. Two scopes of one cookie would be one session: a customer of the shop would be let in by the guard of
//! its administration, by sending its cookie there.

use std::any::TypeId;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Core, Sessions};

/// All that layers and middleware of this process were made with.
static SCOPES: Mutex<Vec<Scope>> = Mutex::new(Vec::new());

struct Scope {
    core: Weak<Core>,
    scope: TypeId,
    name: &'static str,
}

/// Two scopes have the same cookie, under the same keys.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the sessions of scope `{one}` and of scope `{other}` are in one cookie, `{cookie}`, and so would be one session; give one \
     of them a name of its own by `cookie_name`"
)]
pub(crate) struct SharedCookie {
    one: &'static str,
    other: &'static str,
    cookie: String,
}

impl Sessions {
    /// Says that these are the sessions of a scope, of this name in messages. Where another one has the same cookie, that is told to
    /// the log, and neither gets a session.
    pub(crate) fn stand_for(&self, scope: TypeId, name: &'static str) {
        let mut scopes = SCOPES.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.retain(|known| known.core.strong_count() > 0);
        if scopes
            .iter()
            .any(|known| known.scope == scope && std::ptr::eq(known.core.as_ptr(), &raw const *self.core))
        {
            return;
        }
        let others = scopes.iter().filter(|known| known.scope != scope);
        for (other, core) in others.filter_map(|known| Some((known.name, known.core.upgrade()?))) {
            if !self.core.shares_cookie_with(&core) {
                continue;
            }
            let clash = SharedCookie { one: other, other: name, cookie: core.cookie.name().to_owned() };
            tracing::error!(target: "sealed_session", "{clash}");
            core.shared_cookie.get_or_init(|| clash.clone());
            self.core.shared_cookie.get_or_init(|| clash);
        }
        scopes.push(Scope { core: Arc::downgrade(&self.core), scope, name });
    }

    /// Why no scope gets a session of these.
    pub(crate) fn shared_cookie(&self) -> Option<&SharedCookie> {
        self.core.shared_cookie.get()
    }
}

impl Core {
    /// Whether one opens what the other seals.
    fn shares_cookie_with(&self, other: &Self) -> bool {
        let (own, others) = (self.sealer.ring().ids(), other.sealer.ring().ids());
        self.cookie.name() == other.cookie.name() && own.iter().any(|id| others.contains(id))
    }
}
