//! Where the time comes from: a [`Clock`] given to the builder, so that no test has to wait for an expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Tells the time. [`SystemClock`] is the default; tests use [`ManualClock`].
///
/// `OffsetDateTime`, here and wherever else a moment is given or taken, is that of the crate `time`, version 0.3:
/// `sealed_session::time`, or `cargo add time` for its macros and formats.
pub trait Clock: Send + Sync + 'static {
    /// The present moment. Only milliseconds count.
    fn now(&self) -> OffsetDateTime;
}

/// The computer's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// The clock that the sessions use.
pub(crate) enum ClockSource {
    /// The computer's clock, read without converting from a date.
    System,
    Given(Box<dyn Clock>),
}

impl ClockSource {
    pub(crate) fn now(&self) -> Millis {
        match self {
            Self::System => of_computer(),
            Self::Given(clock) => Millis::of(clock.now()),
        }
    }

    /// The same, unless an application's code would be asked.
    pub(crate) fn own(&self) -> Option<Millis> {
        self.is_computers().then(of_computer)
    }

    /// Whether it is the computer's, which anybody can ask.
    pub(crate) fn is_computers(&self) -> bool {
        matches!(self, Self::System)
    }
}

fn of_computer() -> Millis {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Millis::span(since),
        Err(before) => Millis(-Millis::span(before.duration()).0),
    }
}

/// A clock that moves only when told to. Clones show the same time.
///
/// ```
/// use sealed_session::{Clock, ManualClock};
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
///
/// let clock = ManualClock::at(time::OffsetDateTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(90));
/// assert_eq!(clock.now().unix_timestamp(), 90);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock stopped at `at`, to the millisecond.
    #[must_use]
    pub fn at(at: OffsetDateTime) -> Self {
        Self(Arc::new(AtomicI64::new(Millis::of(at).0)))
    }

    /// Moves the clock, and all its clones, forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(Millis::span(by).0, Ordering::SeqCst);
    }

    /// Sets the clock, and all its clones, to `at`; backwards is allowed.
    pub fn set(&self, at: OffsetDateTime) {
        self.0.store(Millis::of(at).0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        Millis(self.0.load(Ordering::SeqCst)).to_datetime()
    }
}

/// A moment (since the Unix epoch) or a span, in milliseconds. All arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Millis(pub(crate) i64);

impl Millis {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) fn of(at: OffsetDateTime) -> Self {
        Self(at.unix_timestamp().saturating_mul(1_000).saturating_add(i64::from(at.millisecond())))
    }

    /// A span, rounded down to the millisecond.
    pub(crate) fn span(of: Duration) -> Self {
        Self(i64::try_from(of.as_millis()).unwrap_or(i64::MAX))
    }

    pub(crate) fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The moment as a date; one that `time` cannot represent becomes the nearest it can.
    pub(crate) fn to_datetime(self) -> OffsetDateTime {
        let seconds = self.0.div_euclid(1_000).clamp(-62_135_596_800, 253_402_300_799);
        let millis = self.0.rem_euclid(1_000);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
            + time::Duration::milliseconds(millis)
    }

    /// The span as a `Duration`; a negative one is zero.
    pub(crate) fn to_duration(self) -> Duration {
        Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_way_to_a_date_and_back() {
        for ms in [0, 1, -1, 999, 1_000, 1_767_225_600_123, -62_135_596_800_000, 253_402_300_799_999] {
            assert_eq!(Millis::of(Millis(ms).to_datetime()), Millis(ms));
        }
    }

    #[test]
    fn the_watch_shows_what_the_clock_of_the_computer_does() {
        let (before, now) = (Millis::of(SystemClock.now()), ClockSource::System.now());
        assert!(before <= now && now <= Millis::of(SystemClock.now()));
        assert_eq!(
            ClockSource::Given(Box::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH))).now(),
            Millis::ZERO
        );
    }

    #[test]
    fn what_a_date_cannot_express_becomes_the_nearest_instead_of_a_panic() {
        assert_eq!(Millis(i64::MAX).to_datetime().year(), 9999);
        assert_eq!(Millis(i64::MIN).to_datetime().year(), 1);
        assert_eq!(Millis(-5).to_duration(), Duration::ZERO);
        assert_eq!(Millis::span(Duration::MAX), Millis(i64::MAX));
    }
}
