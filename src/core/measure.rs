//! What is counted and measured through the facade `metrics`: all of its names, units and words. Without the feature of that
//! name each of these does nothing. `docs/metrics.md` has the table for operators, which a test holds against this.

#[cfg(feature = "metrics")]
use std::sync::LazyLock;
#[cfg(feature = "metrics")]
use std::time::Instant;

#[cfg(feature = "metrics")]
use arc_swap::ArcSwap;
#[cfg(feature = "metrics")]
use metrics::{Label, Level, Metadata, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::core::error::StoreError;
use crate::core::key::KeyId;

#[cfg(feature = "metrics")]
mod name {
    pub(super) const EVENTS: &str = "sealed_session_events_total";
    pub(super) const COOKIE: &str = "sealed_session_cookie_bytes";
    pub(super) const ROW: &str = "sealed_session_row_bytes";
    pub(super) const SUBJECT: &str = "sealed_session_subject_sessions";
    pub(super) const STORE: &str = "sealed_session_store_seconds";
    pub(super) const QUESTIONS: &str = "sealed_session_revocation_questions_total";
    pub(super) const OPENED: &str = "sealed_session_opened_total";
}

/// Of what the store is asked whether it has been revoked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    Session,
    Subject,
}

/// Where the answer came from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answered {
    Store,
    /// This process knew it, or another request had just asked.
    Memory,
    /// The store did not say, or is left alone for a second.
    Failed,
}

/// What a key has opened that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The cookie of a session.
    Cookie,
    /// A row, of a session or of a subject.
    Row,
}

/// Every event with what tells it from others of its kind.
#[cfg(feature = "metrics")]
const EVENTS: [(&str, &[&str]); 29] = [
    ("started", &[""]),
    ("resumed", &[""]),
    (
        "rejected",
        &[
            "malformed",
            "unknown_suite",
            "unknown_key",
            "revoked_key",
            "tampered",
            "expired",
            "future",
            "missing",
            "revoked",
            "unproven",
        ],
    ),
    ("cross_site", &["refused", "anonymous"]),
    ("ambiguous", &[""]),
    ("reissued", &[""]),
    ("extended", &[""]),
    ("resealed", &[""]),
    ("renewed", &[""]),
    ("authenticated", &["login", "again"]),
    ("spilled", &[""]),
    ("written", &[""]),
    ("returned", &[""]),
    ("lost", &["missing", "revoked", "revoked_key", "unproven", "expired"]),
    ("conflicted", &[""]),
    ("head_over_budget", &[""]),
    ("store_failed", &["unavailable", "misconfigured", "timeout", "full", "corrupt"]),
    ("unconfirmed", &[""]),
    ("displaced", &[""]),
    ("login_refused", &[""]),
    ("revoked", &[""]),
    ("subject_revoked", &[""]),
    ("keys_reloaded", &[""]),
    ("keys_failed", &[""]),
    ("ended", &["destroyed", "emptied"]),
    ("device_offered", &[""]),
    ("device_proved", &["registration", "refresh"]),
    ("device_bound", &[""]),
    (
        "device_refused",
        &[
            "no_session",
            "not_offered",
            "bound",
            "missing",
            "duplicate",
            "too_long",
            "malformed",
            "algorithm",
            "key",
            "challenge",
            "challenge_expired",
            "other_session",
            "other_key",
            "signature",
        ],
    ),
];

#[cfg(feature = "metrics")]
fn every_event() -> impl Iterator<Item = (&'static str, &'static str)> {
    EVENTS.iter().flat_map(|(word, reasons)| reasons.iter().map(|reason| (*word, *reason)))
}

/// Says what the names mean, to the recorder that there is by now, and that nothing has been counted yet: of a counter that
/// comes into being with the first of something, no alert sees that first one.
pub(crate) fn announce() {
    #[cfg(feature = "metrics")]
    {
        for (name, what) in [
            (name::EVENTS, "what happened to sessions"),
            (name::QUESTIONS, "questions whether a session in a cookie was revoked"),
            (name::OPENED, "sessions' cookies and rows that were accepted, by their key"),
        ] {
            describe_counter!(name, Unit::Count, what);
        }
        for (name, unit, what) in [
            (name::COOKIE, Unit::Bytes, "name and value of each cookie that is issued"),
            (name::ROW, Unit::Bytes, "each row of a session that is written"),
            (name::SUBJECT, Unit::Count, "how many sessions a login gives its subject"),
            (name::STORE, Unit::Seconds, "how long the store took for a call, as a request saw it"),
        ] {
            describe_histogram!(name, unit, what);
        }
        for (word, reason) in every_event() {
            counter!(name::EVENTS, "event" => word, "reason" => reason).increment(0);
        }
        for about in ["session", "subject"] {
            for answered in ["store", "memory", "failed"] {
                counter!(name::QUESTIONS, "about" => about, "answered" => answered).increment(0);
            }
        }
    }
}

/// An event, and what tells it from another of its kind.
pub(crate) fn event(word: &'static str, reason: Option<&'static str>) {
    #[cfg(feature = "metrics")]
    {
        /// The names of the counters, as each request has an event.
        static NAMES: LazyLock<Vec<(&str, &str, metrics::Key)>> = LazyLock::new(|| {
            let labels = |word, reason| vec![Label::new("event", word), Label::new("reason", reason)];
            let named =
                |(word, reason)| (word, reason, metrics::Key::from_parts(name::EVENTS, labels(word, reason)));
            every_event().map(named).collect()
        });

        let reason = reason.unwrap_or("");
        match NAMES.iter().find(|(known, of, _)| *known == word && *of == reason) {
            Some((.., name)) => count(name),
            None => counter!(name::EVENTS, "event" => word, "reason" => reason).increment(1),
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (word, reason);
}

/// A cookie was issued, whose name + value have that many bytes.
pub(crate) fn cookie(bytes: usize) {
    #[cfg(feature = "metrics")]
    histogram!(name::COOKIE).record(bytes as f64);
    #[cfg(not(feature = "metrics"))]
    let _ = bytes;
}

/// A session's row was written, of so many bytes.
pub(crate) fn row(bytes: usize) {
    #[cfg(feature = "metrics")]
    histogram!(name::ROW).record(bytes as f64);
    #[cfg(not(feature = "metrics"))]
    let _ = bytes;
}

/// A login gave its subject so many sessions.
pub(crate) fn subject_sessions(sessions: usize) {
    #[cfg(feature = "metrics")]
    histogram!(name::SUBJECT).record(sessions as f64);
    #[cfg(not(feature = "metrics"))]
    let _ = sessions;
}

#[cfg(feature = "metrics")]
fn count(name: &metrics::Key) {
    static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

    metrics::with_recorder(|recorder| recorder.register_counter(name, &METADATA).increment(1));
}

/// A question of revocation. Most requests come by here, so nothing is put together for it.
pub(crate) fn question(about: About, answered: Answered) {
    #[cfg(feature = "metrics")]
    {
        macro_rules! count {
            ($about:literal, $answered:literal) => {{
                static LABELS: [Label; 2] = [
                    Label::from_static_parts("about", $about),
                    Label::from_static_parts("answered", $answered),
                ];
                static NAME: metrics::Key = metrics::Key::from_static_parts(name::QUESTIONS, &LABELS);
                count(&NAME)
            }};
        }
        match (about, answered) {
            (About::Session, Answered::Memory) => count!("session", "memory"),
            (About::Session, Answered::Store) => count!("session", "store"),
            (About::Session, Answered::Failed) => count!("session", "failed"),
            (About::Subject, Answered::Memory) => count!("subject", "memory"),
            (About::Subject, Answered::Store) => count!("subject", "store"),
            (About::Subject, Answered::Failed) => count!("subject", "failed"),
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (about, answered);
}

/// A key of a ring has opened something that goes on.
pub(crate) fn opened(key: KeyId, what: Opened) {
    #[cfg(feature = "metrics")]
    {
        /// More keys than any ring has at a time. Who rotates for years begins anew.
        const REMEMBERED: usize = 64;
        /// The names of the counters, which take longer to put together than to count: most requests come by here. No
        /// handles are kept, because a recorder may be installed later.
        static NAMES: LazyLock<ArcSwap<Vec<(KeyId, Opened, metrics::Key)>>> = LazyLock::new(ArcSwap::default);

        let names = NAMES.load();
        if let Some((.., name)) = names.iter().find(|(known, of, _)| *known == key && *of == what) {
            return count(name);
        }
        let kind = match what {
            Opened::Cookie => "cookie",
            Opened::Row => "row",
        };
        let labels = vec![Label::new("key", key.to_string()), Label::new("kind", kind)];
        let name = metrics::Key::from_parts(name::OPENED, labels);
        count(&name);
        let mut more = if names.len() < REMEMBERED { Vec::clone(&names) } else { Vec::new() };
        more.push((key, what, name));
        NAMES.store(more.into());
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (key, what);
}

/// A call of the store, measured until its end, or until nobody waits for it any more.
pub(crate) struct StoreCall {
    #[cfg(feature = "metrics")]
    operation: &'static str,
    #[cfg(feature = "metrics")]
    since: Instant,
    #[cfg(feature = "metrics")]
    outcome: &'static str,
}

impl StoreCall {
    pub(crate) fn begin(operation: &'static str) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = operation;
        Self {
            #[cfg(feature = "metrics")]
            operation,
            #[cfg(feature = "metrics")]
            since: Instant::now(),
            #[cfg(feature = "metrics")]
            outcome: "dropped",
        }
    }

    /// `conflicts`: whether the store has another row than the one that was expected.
    #[cfg_attr(not(feature = "metrics"), allow(unused_mut))]
    pub(crate) fn end<T>(mut self, answer: &Result<T, StoreError>, conflicts: impl Fn(&T) -> bool) {
        let outcome = match answer {
            Ok(answer) if conflicts(answer) => "conflict",
            Ok(_) => "ok",
            Err(error) => error.as_str(),
        };
        #[cfg(feature = "metrics")]
        {
            self.outcome = outcome;
        }
        #[cfg(not(feature = "metrics"))]
        let _ = outcome;
    }
}

#[cfg(feature = "metrics")]
impl Drop for StoreCall {
    fn drop(&mut self) {
        let Self { operation, since, outcome } = *self;
        histogram!(name::STORE, "operation" => operation, "outcome" => outcome)
            .record(since.elapsed().as_secs_f64());
    }
}
