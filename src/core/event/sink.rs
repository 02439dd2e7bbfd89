//! Where events go: to the log, to the metrics and to the hook.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Event;
use crate::core::error::in_full;
use crate::core::key::{KeyRing, Reload};
use crate::core::measure;

/// Tells events to the log, to the metrics and to the hook.
#[derive(Clone, Default)]
pub(crate) struct EventSink {
    hook: Option<EventHook>,
    /// When what anybody can cause was last a warning, by its reason.
    warned: Arc<Mutex<Vec<(&'static str, Instant)>>>,
}

/// What points to a mistake in the deployment, such as a lost key file, is a warning no more often than this, for each reason, where
/// anybody can cause it too.
const WARNED_EVERY: Duration = Duration::from_secs(60);

pub(crate) type EventHook = Arc<dyn Fn(&Event) + Send + Sync>;

/// One event in the log. The fields are stable; those that an event has nothing for are left out.
macro_rules! log {
    ($level:ident, $event:expr) => {
        tracing::event!(
            target: "sealed_session",
            tracing::Level::$level,
            event = $event.as_str(),
            session = $event.session().map(|id| tracing::field::display(id.log_id())),
            former = $event.former().map(|id| tracing::field::display(id.log_id())),
            reason = $event.reason(),
            bytes = $event.bytes(),
            key = $event.key().map(tracing::field::display),
            operation = match $event {
                Event::StoreFailed { operation, .. } => Some(*operation),
                _ => None,
            },
            origin = $event.origin().0,
            host = $event.origin().1,
            error = $event.error(),
            "{}",
            $event
        )
    };
}

impl EventSink {
    pub(crate) fn to(hook: EventHook) -> Self {
        Self { hook: Some(hook), warned: Arc::default() }
    }

    pub(crate) fn tell(&self, event: &Event) {
        match event {
            Event::KeysReloaded { .. } => log!(INFO, event),
            event if event.is_warning() => log!(WARN, event),
            event if event.may_be_anybodys() && event.reason().is_some_and(|reason| self.warns(reason)) => {
                log!(WARN, event)
            }
            event => log!(DEBUG, event),
        }
        measure::event(event.as_str(), event.reason());
        if let Event::Spilled { bytes, .. } | Event::Written { bytes, .. } = event {
            measure::row(*bytes);
        }
        if let Some(hook) = &self.hook {
            hook(event);
        }
    }

    fn warns(&self, reason: &'static str) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        match warned.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, at)) if at.elapsed() < WARNED_EVERY => return false,
            Some((_, at)) => *at = Instant::now(),
            None => warned.push((reason, Instant::now())),
        }
        true
    }

    /// What a look at the source of the keys came to.
    pub(crate) fn looked(&self, ring: &KeyRing, found: Option<Reload>) {
        match found {
            Some(Reload::Changed) => self.tell(&Event::KeysReloaded { primary: ring.primary() }),
            Some(Reload::Failed(error)) => self.tell(&Event::KeysFailed { error: in_full(&error) }),
            None => {}
        }
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventSink({})", if self.hook.is_some() { "hook" } else { "no hook" })
    }
}
