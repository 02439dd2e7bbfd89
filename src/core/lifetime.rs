//! How long a session lives: pure arithmetic over the sealed moments, the configuration and an argument `now`.

use std::time::Duration;

use crate::core::browser::MAX_AGE;
use crate::core::clock::Millis;
use crate::core::error::{ConfigError, End};
use crate::core::record::Times;

/// How far clocks of different nodes may be apart.
pub(crate) const SKEW: Millis = Millis(60_000);
/// How much longer a mark lasts than the last cookie that it has to stop, by its writer's clock: another node, whose
/// clock is ahead, may have sealed one a moment ago, and the store, also ahead, keeps the mark for a third node whose
/// clock is not.
pub(crate) const MARK_SPARE: Millis = Millis(2 * SKEW.0);
/// The default of `active`, unless the duration is shorter.
const DEFAULT_ACTIVE: Duration = Duration::from_secs(5 * 60);
/// Limits beyond this are taken for a typing error.
pub(crate) const MAX_SPAN: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
const MIN_SPAN: Duration = Duration::from_millis(1);
/// A session with an idle limit is re-sealed once its cookie is older than this part of the limit.
const IDLE_RESEAL_PART: i64 = 10;
/// The default of `absolute`, unless the duration is longer: the figure of NIST SP 800-63B-4 for AAL1.
const DEFAULT_ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The limits of a session's life, judged by the server from what is sealed in the cookie. All ends are exclusive: at
/// the very millisecond of the end the session is over.
///
/// | limit | counted from | default |
/// |---|---|---|
/// | `duration` | the anchor, which is the birth until activity moves it | given to [`new`](Self::new) |
/// | `active` | | 5 min, or the duration where that is shorter |
/// | `absolute` | the birth, whatever happens; `renew` is a new birth | 30 days, or the session's duration where that is longer |
/// | `idle` | the last sealing, which a request repeats once a tenth of `idle` has passed | none |
///
/// `duration` and `active` mean what `duration` and `activeDuration` mean in Mozilla's `client-sessions`: when a request
/// uses the session and less than `active` of the duration remains, the end moves by `active`. So the cookie is re-issued
/// at most about once per `active`, and nobody is cut off sooner than `active` after the last request, if that was
/// answered within 500 ms: a later answer extends only what would not last half of that. Only `absolute`
/// ends the session of somebody who keeps coming back, so it applies unless [`without_absolute`](Self::without_absolute)
/// switches it off: NIST SP 800-63B-4 demands an overall timeout.
///
/// ```
/// use sealed_session::Lifetime;
/// use std::time::Duration;
///
/// // A day, prolonged by five minutes at a time, at most a week in all.
/// let lifetime = Lifetime::new(Duration::from_secs(24 * 3600))
///     .active(Duration::from_secs(5 * 60))
///     .absolute(Duration::from_secs(7 * 24 * 3600));
/// assert_ne!(lifetime, Lifetime::aal2());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Lifetime {
    duration: Duration,
    active: Span,
    absolute: Span,
    idle: Option<Duration>,
}

/// A span that has a default and can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    Default,
    Never,
    For(Duration),
}

impl Lifetime {
    /// A session that ends `duration` after its birth, unless activity prolongs it. From 1 ms to 10 years.
    ///
    /// From 30 days on, activity prolongs nothing by default, because [`absolute`](Self::absolute) then defaults to the
    /// duration.
    pub const fn new(duration: Duration) -> Self {
        Self { duration, active: Span::Default, absolute: Span::Default, idle: None }
    }

    /// How much a use prolongs the session once less than this remains. From 1 ms to the duration; the default is 5
    /// minutes, or the duration where that is shorter. To switch it off use [`fixed`](Self::fixed).
    ///
    /// However often it is used, the session ends at its [`absolute`](Self::absolute) limit: 30 days after its birth by
    /// default.
    pub const fn active(mut self, active: Duration) -> Self {
        self.active = Span::For(active);
        self
    }

    /// Use never prolongs the session: it ends `duration` after its birth, or after the last `touch`.
    pub const fn fixed(mut self) -> Self {
        self.active = Span::Never;
        self
    }

    /// The end that nothing postpones, counted from the birth of the session's id. From 1 ms to 10 years.
    ///
    /// The default is 30 days, or the session's duration where that is longer, whether configured or its own by
    /// [`set_duration`](crate::Session::set_duration). A limit set here also applies to longer durations. NIST SP
    /// 800-63B-4, section 2.1.3, says that there shall be an overall timeout, which should be no more than 30 days.
    ///
    /// ```
    /// # use sealed_session::{Clock, Key, KeyRing, Lifetime, ManualClock, Origin, Sessions};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// const DAY: Duration = Duration::from_secs(24 * 3600);
    /// let after_30_days_of_use = async |lifetime: Lifetime| {
    ///     let clock = ManualClock::at(time::OffsetDateTime::UNIX_EPOCH + 20_000 * DAY);
    ///     let builder = Sessions::builder(KeyRing::new(Key::generate())).clock(clock.clone());
    ///     let sessions = builder.lifetime(lifetime.active(DAY)).build()?;
    ///     let mut cookie = sessions.issue(|session| session.insert("n", 1)).await?;
    ///     for _ in 0..60 {
    ///         clock.advance(DAY / 2);
    ///         let session = sessions.load([&cookie]).await?;
    ///         for line in sessions.commit(&session, Default::default()).await? {
    ///             cookie = line.split(';').next().unwrap_or_default().to_owned();
    ///         }
    ///     }
    ///     Ok::<_, Box<dyn std::error::Error>>(sessions.load([&cookie]).await?.origin() == Origin::Resumed)
    /// };
    /// assert!(!after_30_days_of_use(Lifetime::new(DAY)).await?);
    /// assert!(after_30_days_of_use(Lifetime::new(DAY).absolute(90 * DAY)).await?);
    /// assert!(after_30_days_of_use(Lifetime::new(DAY).without_absolute()).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Security
    /// [`Session::renew`](crate::Session::renew) starts a new birth, so call it only after an authentication.
    pub const fn absolute(mut self, absolute: Duration) -> Self {
        self.absolute = Span::For(absolute);
        self
    }

    /// No absolute limit, not even the default one of 30 days: a user who uses the session often enough is never asked to
    /// log in again.
    ///
    /// # Security
    /// Nor is a thief of the cookie. NIST SP 800-63B-4, section 2.1.3, says that there shall be a limit; go without one
    /// where nothing depends on who the user is.
    pub const fn without_absolute(mut self) -> Self {
        self.absolute = Span::Never;
        self
    }

    /// Ends the session when no request has used it for this long. Strict: it never lives longer without a request, but
    /// may end up to a tenth sooner, because the cookie is re-issued only after a tenth has passed; where answers take more than
    /// 500 ms, up to half of it, because until then such an answer does not re-issue it. From 1 ms to 10
    /// years; none by default.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// NIST SP 800-63B-4, section 2.1.3 (AAL1): reauthentication after at most 30 days; no inactivity limit.
    pub const fn aal1() -> Self {
        Self::until(Duration::from_secs(30 * DAY.as_secs()))
    }

    /// NIST SP 800-63B-4, section 2.2.3 (AAL2): 24 hours at most, 1 hour of inactivity.
    pub const fn aal2() -> Self {
        Self::until(DAY).idle(Duration::from_secs(3600))
    }

    /// NIST SP 800-63B-4, section 2.3.3 (AAL3): 12 hours at most, 15 minutes of inactivity.
    pub const fn aal3() -> Self {
        Self::until(Duration::from_secs(12 * 3600)).idle(Duration::from_secs(15 * 60))
    }

    const fn until(end: Duration) -> Self {
        Self::new(end).fixed().absolute(end)
    }

    /// The checked form that sessions are judged by.
    pub(crate) fn terms(&self, max_duration: Duration) -> Result<Terms, ConfigError> {
        let range = |setting, value, max| match value {
            value if value >= MIN_SPAN && value <= max => Ok(Millis::span(value)),
            _ => Err(ConfigError::OutOfRange { setting, value, min: MIN_SPAN, max }),
        };
        let duration = range("duration", self.duration, MAX_SPAN)?;
        let max_duration_ms = range("max_duration", max_duration, MAX_SPAN)?;
        let not_longer = |shorter, shorter_value, longer, longer_value| {
            if shorter_value <= longer_value {
                return Ok(());
            }
            Err(ConfigError::Longer { shorter, shorter_value, longer, longer_value })
        };
        not_longer("duration", self.duration, "max_duration", max_duration)?;
        let active = match self.active {
            Span::Never => Millis::ZERO,
            Span::Default => Millis::span(DEFAULT_ACTIVE.min(self.duration)),
            Span::For(active) => {
                let checked = range("active", active, MAX_SPAN)?;
                not_longer("active", active, "duration", self.duration)?;
                checked
            }
        };
        let absolute = match self.absolute {
            Span::Never => Absolute::Never,
            Span::Default => Absolute::AtLeast(Millis::span(DEFAULT_ABSOLUTE)),
            Span::For(absolute) => Absolute::For(range("absolute", absolute, MAX_SPAN)?),
        };
        let idle = self.idle.map(|span| range("idle", span, MAX_SPAN)).transpose()?;
        Ok(Terms { duration, active, absolute, idle, max_duration: max_duration_ms })
    }
}

impl Default for Lifetime {
    /// 24 hours, prolonged by 5 minutes at a time, which are the defaults of `client-sessions`, and 30 days in all.
    fn default() -> Self {
        Self::new(DAY)
    }
}

/// A checked [`Lifetime`], in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) duration: Millis,
    /// Zero: never prolonged by use.
    pub(crate) active: Millis,
    pub(crate) absolute: Absolute,
    pub(crate) idle: Option<Millis>,
    /// The most that a session's own duration may be.
    pub(crate) max_duration: Millis,
}

/// The absolute limit. [`absolute_end`] computes its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absolute {
    /// No limit.
    Never,
    /// This span, whatever the duration is.
    For(Millis),
    /// This span, or the session's duration where that is longer.
    AtLeast(Millis),
}

/// The verdict on a session's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Alive.
    Live,
    /// Alive, and this use prolongs it or has to be recorded.
    Due(Due),
    /// It ended at that moment.
    Over { end: End, at: Millis },
    /// Born or sealed in the future.
    Future,
}

/// Why this use re-issues the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Less than `active` remains of the duration.
    Extend,
    /// The cookie is older than a tenth of the idle limit, or of before the limits were raised.
    Refresh,
}

/// Judges a sealed session at `now`.
pub(crate) fn judge(times: &Times, terms: &Terms, now: Millis) -> Verdict {
    let horizon = now.plus(SKEW);
    if times.created_at > horizon || times.sealed_at > horizon {
        return Verdict::Future;
    }
    let (at, end) = first_end(times, terms, now);
    if now >= at {
        return Verdict::Over { end, at };
    }
    let has_more_by_now = has_more_by_now(times, terms);
    // A browser has dropped it by then, and what others kept is over as it was told.
    if let Some(at) = told_at_most(times).map(|span| times.sealed_at.plus(span))
        && has_more_by_now
        && now >= at
    {
        return Verdict::Over { end: End::Given, at };
    }
    if duration_end(times, terms, now).minus(now) < active(times, terms) {
        return Verdict::Due(Due::Extend);
    }
    let is_old = |idle: Millis| now.minus(times.sealed_at).0 > idle.0 / IDLE_RESEAL_PART;
    let due = terms.idle.is_some_and(is_old) || has_more_by_now;
    if due { Verdict::Due(Due::Refresh) } else { Verdict::Live }
}

/// Whether the limits have been raised since this cookie was sealed, or the node that judges it has others.
fn has_more_by_now(times: &Times, terms: &Terms) -> bool {
    times.given != 0 && given(times, terms) > times.given
}

/// Whether a node with longer limits may have given this cookie, and may go on with it.
pub(crate) fn may_live_elsewhere(times: &Times, terms: &Terms, now: Millis) -> bool {
    given(times, terms) < times.given
        && told_at_most(times).is_some_and(|span| now < times.sealed_at.plus(span))
}

/// How long a cookie with these times, and its row, last from when it was sealed: seconds as a number with three bits behind
/// the leading one, rounded down. Kept in the cookie so that one that was made under shorter limits is told from one that
/// was not: its browser will drop it, and its store the row, as they were told then.
pub(crate) fn given(times: &Times, terms: &Terms) -> u8 {
    let span = first_end(times, terms, times.sealed_at).0.minus(times.sealed_at);
    let Some(exponent) = (span.0.max(0) as u64 / 1_000).checked_ilog2() else { return 1 };
    let mantissa = ((span.0 as u64 / 1_000) << 3 >> exponent) & 7;
    u8::try_from(8 * u64::from(exponent) + mantissa + 2).unwrap_or(u8::MAX)
}

/// How long a cookie was [`given`] at least; `None`: unknown.
pub(crate) fn told(times: &Times) -> Option<Millis> {
    let code = times.given.checked_sub(1)?;
    let Some(code) = code.checked_sub(1) else { return Some(Millis::ZERO) };
    Some(Millis((i64::from(8 + code % 8) << (code / 8) >> 3) * 1_000))
}

/// How long a cookie was [`given`] at most, exclusively; `None`: unknown.
fn told_at_most(times: &Times) -> Option<Millis> {
    let code = times.given.checked_sub(1)?;
    let Some(code) = code.checked_sub(1) else { return Some(Millis(1_000)) };
    let eighths = i64::from(9 + code % 8) << (code / 8);
    Some(Millis((eighths + 7) / 8 * 1_000))
}

/// The moment from which on [`judge`] finds that a cookie is over: also by what it was told, if it would have more by now.
pub(crate) fn end_as_sealed(times: &Times, terms: &Terms, now: Millis) -> Millis {
    let (end, _) = first_end(times, terms, now);
    let told = told_at_most(times).filter(|_| has_more_by_now(times, terms));
    told.map_or(end, |span| end.min(times.sealed_at.plus(span)))
}

/// The moment at which the session ends if nobody uses it, and by which limit.
pub(crate) fn first_end(times: &Times, terms: &Terms, now: Millis) -> (Millis, End) {
    let duration = (duration_end(times, terms, now), End::Duration);
    let absolute = absolute_end(times, terms).map(|at| (at, End::Absolute));
    let idle = terms.idle.map(|span| (times.sealed_at.plus(span), End::Idle));
    [absolute, idle]
        .into_iter()
        .flatten()
        .fold(duration, |first, other| if other.0 < first.0 { other } else { first })
}

/// The times of a new session, or of one that is renewed.
pub(crate) fn birth(terms: &Terms, now: Millis) -> Times {
    Times {
        created_at: now,
        anchor: now,
        sealed_at: now,
        duration: terms.duration,
        own: false,
        horizon: Millis::ZERO,
        given: 0,
    }
}

/// The times after a use while [`Due::Extend`]: the end moves by `active`, to no later than now + max(d, 2a).
pub(crate) fn extend(times: &Times, terms: &Terms, now: Millis) -> Times {
    let latest = latest_end(times, terms, now).minus(duration(times, terms));
    Times { anchor: times.anchor.plus(active(times, terms)).min(latest), ..*times }
}

/// The times with a duration of its own, counted from now. Where the default absolute limit follows the duration, a session
/// that has outlived the limit of a shorter one keeps what the longer one gave it.
pub(crate) fn with_own_duration(times: &Times, terms: &Terms, span: Millis, now: Millis) -> Times {
    let plain = Times { anchor: now, duration: span, own: true, ..*times };
    let wished = now.plus(span);
    match (absolute_end(&plain, terms), absolute_end(times, terms)) {
        (Some(limit), Some(former)) if limit < wished.min(former) => {
            let anchor = times.created_at.minus(Millis(1));
            Times { anchor, duration: wished.min(former).minus(anchor), ..plain }
        }
        _ => plain,
    }
}

/// Whether the duration is what [`with_own_duration`] left of a longer one: nothing else is counted from the moment before the
/// birth, but by a clock that is behind by just that. No use moves its end.
fn is_remainder(times: &Times) -> bool {
    times.own && times.anchor.plus(Millis(1)) == times.created_at
}

/// The duration of its own that a session takes along to another id; what is left of a remainder.
pub(crate) fn own_duration(times: &Times, now: Millis) -> Option<Millis> {
    let left = || times.anchor.plus(times.duration).minus(now).max(Millis(1));
    times.own.then(|| if is_remainder(times) { left() } else { times.duration })
}

/// The times after `touch`, or after any use of a rolling session.
pub(crate) fn touch(times: &Times, now: Millis) -> Times {
    if is_remainder(times) { *times } else { Times { anchor: times.anchor.max(now), ..*times } }
}

/// The times as they are sealed at `now`. A raised configured duration takes effect here.
pub(crate) fn reseal(times: &Times, terms: &Terms, now: Millis) -> Times {
    let duration = if times.own { times.duration } else { terms.duration };
    Times { sealed_at: now, duration, ..*times }
}

/// The times as they go into a cookie: with the horizon that covers them, and how long they give it.
pub(crate) fn sealed(times: &Times, terms: &Terms) -> Times {
    Times { given: given(times, terms), ..covered(times) }
}

/// The times with the horizon that covers them.
pub(crate) fn covered(times: &Times) -> Times {
    Times { horizon: times.horizon.max(times.anchor.plus(times.duration)), ..*times }
}

/// How long the mark that this id is over has to last: until all cookies of the id have expired, those that led to this
/// one and those that a parallel request is issued at `now` under these terms. Not covered: cookies branched off with a
/// longer duration of their own, or by a node with longer terms.
pub(crate) fn mark_end(times: &Times, terms: &Terms, now: Millis) -> Millis {
    let duration = times.duration.max(terms.duration);
    let last = now.plus(duration.max(terms.active.plus(terms.active))).max(covered(times).horizon);
    last.plus(MARK_SPARE)
}

/// The same where nothing is known of the session.
pub(crate) fn mark_end_of_any(terms: &Terms, now: Millis) -> Millis {
    now.plus(terms.max_duration.max(terms.active.plus(terms.active))).plus(MARK_SPARE)
}

/// `Max-Age` in seconds: never less than what remains, so that the browser does not end the session before the server.
pub(crate) fn max_age(end: Millis, now: Millis) -> i64 {
    (end.minus(now).0.clamp(0, Millis::span(MAX_AGE).0) as u64).div_ceil(1_000) as i64
}

/// d: the session's own duration, or else the smaller of the sealed and the configured one.
pub(crate) fn duration(times: &Times, terms: &Terms) -> Millis {
    times.duration.min(if times.own { terms.max_duration } else { terms.duration })
}

/// a: how much a use prolongs.
pub(crate) fn active(times: &Times, terms: &Terms) -> Millis {
    if is_remainder(times) { Millis::ZERO } else { terms.active.min(duration(times, terms)) }
}

/// When the duration is over, whatever other limits say.
pub(crate) fn duration_end(times: &Times, terms: &Terms, now: Millis) -> Millis {
    times.anchor.plus(duration(times, terms)).min(latest_end(times, terms, now))
}

/// When the absolute limit comes, if there is one.
pub(crate) fn absolute_end(times: &Times, terms: &Terms) -> Option<Millis> {
    let span = match terms.absolute {
        Absolute::Never => return None,
        Absolute::For(span) => span,
        Absolute::AtLeast(span) => span.max(duration(times, terms)),
    };
    Some(times.created_at.plus(span))
}

/// However far a wrong clock has moved the anchor, no end is later than this.
fn latest_end(times: &Times, terms: &Terms, now: Millis) -> Millis {
    let a = active(times, terms);
    now.plus(duration(times, terms).max(a.plus(a)))
}

#[cfg(test)]
#[path = "lifetime/tests.rs"]
mod tests;
