//! Cookies that live for minutes and are read once, sealed like a session: for transient values and flash messages.
//!
//! # Security
//! The seal is of a purpose of its own and of the base of the name. What stands behind the base is sealed inside and
//! compared: it comes from outside, so nothing is derived from it.

use crate::core::browser::MAX_NAME_VALUE_BYTES;
use crate::core::clock::Millis;
use crate::core::cookie::{CookieConfig, CookieWriter, SetCookie, scan, scan_suffixed};
use crate::core::envelope::{Engine, Sealer, sealed_len};
use crate::core::error::Rejection;
use crate::core::event::EventSink;
use crate::core::key::{KeyRing, Purpose};
use crate::core::lifetime::{self, SKEW};
use crate::core::record::{TransientContent, decode_transient, encode_transient, encoded_transient_len};

/// What stands between the base of a name and its suffix.
const SEPARATOR: char = '.';
/// Of several cookies of one name, which only somebody who plants them makes, so many are opened.
const MAX_TRIED: usize = 4;
/// As many of one base are kept, the one that is about to be set included.
const MAX_KEPT: usize = 4;
/// So many of one base are opened to see which are the newest.
const MAX_OPENED: usize = 16;
/// So many are removed with one response, lest its head becomes too large.
const MAX_REMOVED: usize = 8;
/// The longest suffix.
pub(crate) const MAX_SUFFIX_BYTES: usize = 64;

/// One kind of such cookies.
pub(crate) struct ShortCookie {
    sealer: Sealer,
    writer: CookieWriter,
    lifetime: Millis,
    /// One that has longer than this to live is none of ours.
    longest: Millis,
    /// For how long browsers keep it.
    kept: Millis,
    max_bytes: usize,
    sink: EventSink,
}

/// Name + value would come to so many bytes, which is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge(pub(crate) usize);

impl ShortCookie {
    /// `config` was validated; name + value come to `max_bytes` at most.
    pub(crate) fn new(
        (engine, purpose): (Engine, Purpose),
        ring: KeyRing,
        config: &CookieConfig,
        (lifetime, max_bytes): (Millis, usize),
        sink: EventSink,
    ) -> Self {
        const { assert!(MAX_SUFFIX_BYTES < MAX_NAME_VALUE_BYTES) };
        let sealer = Sealer::with_engine(engine, ring, purpose, &config.name);
        let (longest, kept) = (lifetime, lifetime);
        Self { sealer, writer: CookieWriter::new(config), lifetime, longest, kept, max_bytes, sink }
    }

    /// The same, which browsers forget sooner than it ends.
    pub(crate) fn kept_for(self, kept: Millis) -> Self {
        Self { kept, ..self }
    }

    /// The same, of which those from a server with a longer lifetime count, up to this one.
    pub(crate) fn up_to(self, longest: Millis) -> Self {
        Self { longest, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        self.writer.name()
    }

    pub(crate) fn writer(&self) -> &CookieWriter {
        &self.writer
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Name + value with a value of so many bytes inside, if that is not too much.
    pub(crate) fn check(&self, suffix: &str, value: usize) -> Result<usize, TooLarge> {
        let bytes = self.full_name_len(suffix) + sealed_len(encoded_transient_len(suffix, value));
        if bytes <= self.max_bytes { Ok(bytes) } else { Err(TooLarge(bytes)) }
    }

    fn full_name_len(&self, suffix: &str) -> usize {
        self.name().len() + if suffix.is_empty() { 0 } else { SEPARATOR.len_utf8() + suffix.len() }
    }

    fn full_name(&self, suffix: &str) -> String {
        if suffix.is_empty() { self.name().to_owned() } else { format!("{}{SEPARATOR}{suffix}", self.name()) }
    }

    /// The most that [`set`](Self::set) makes of a value of so many bytes.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn line_len(&self, secure: bool, suffix: &str, value: usize) -> usize {
        let bytes = self.full_name_len(suffix) + sealed_len(encoded_transient_len(suffix, value));
        self.writer.line_len(secure, bytes)
    }

    /// The cookie with this value, from `now` on.
    pub(crate) fn set(
        &self,
        suffix: &str,
        value: &[u8],
        secure: bool,
        now: Millis,
    ) -> Result<SetCookie, TooLarge> {
        let bytes = self.check(suffix, value.len())?;
        let until = now.plus(self.lifetime);
        let content = TransientContent { until, suffix, value };
        let seal = |out: &mut Vec<u8>| {
            self.sealer.seal(None, now, |text| encode_transient(&content, text), out);
        };
        let max_age = Some(lifetime::max_age(now.plus(self.kept), now));
        Ok(self.writer.set_as(&self.full_name(suffix), secure, max_age, bytes, seal))
    }

    /// What makes the browser forget it.
    pub(crate) fn remove(&self, suffix: &str, secure: bool) -> SetCookie {
        self.writer.remove_as(&self.full_name(suffix), secure)
    }

    /// What the request brings of that name.
    pub(crate) fn look<H: AsRef<[u8]>>(
        &self,
        suffix: &str,
        cookie_headers: impl IntoIterator<Item = H>,
        now: Millis,
    ) -> Look {
        let name = self.full_name(suffix);
        let (mut trials, mut found) = (Trials::new(MAX_TRIED), Look::Nothing);
        for header in cookie_headers {
            for cookie in scan(header.as_ref(), &name) {
                match self.judge(cookie, suffix, now, &mut trials) {
                    Some(Judged::Good(_, value)) => return Look::Good(value),
                    Some(Judged::Dead) => found = Look::Dead,
                    None => {}
                }
            }
        }
        found
    }

    /// What stands in this value, if it counts.
    pub(crate) fn read(&self, cookie: &[u8], now: Millis) -> Option<Vec<u8>> {
        match self.judge(cookie, "", now, &mut Trials::new(1)) {
            Some(Judged::Good(_, value)) => Some(value),
            _ => None,
        }
    }

    /// `None`: it is not of our making, as far as can be known here, so it is somebody else's to remove.
    fn judge(&self, cookie: &[u8], suffix: &str, now: Millis, trials: &mut Trials) -> Option<Judged> {
        let mut parsed = self.sealer.parse(cookie);
        if let Err(Rejection::UnknownKey(_)) = parsed
            && !std::mem::replace(&mut trials.looked, true)
        {
            let ring = self.sealer.ring();
            self.sink.looked(ring, ring.look_for_unknown(Some(now)));
            parsed = self.sealer.parse(cookie);
        }
        let parsed = parsed.ok()?;
        trials.left = trials.left.checked_sub(1)?;
        let opened = parsed.open().ok()?;
        let TransientContent { until, suffix: sealed, value } = decode_transient(&opened).ok()?;
        // Not longer than it is said to live now, so that a shorter lifetime is one at once, unless that is said otherwise.
        let lives = now < until && until.minus(now) <= self.longest.plus(SKEW);
        Some(if lives && sealed == suffix { Judged::Good(until, value.to_vec()) } else { Judged::Dead })
    }

    /// What makes the browser forget those of this base but the newest, of which one less is kept than there may be. That of
    /// this suffix is about to be replaced. What is not of our making stays.
    pub(crate) fn make_room<H: AsRef<[u8]>>(
        &self,
        suffix: &str,
        cookie_headers: impl IntoIterator<Item = H>,
        secure: bool,
        now: Millis,
    ) -> Vec<SetCookie> {
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        let mut trials = Trials::new(MAX_OPENED);
        'headers: for header in cookie_headers {
            for (other, cookie) in scan_suffixed(header.as_ref(), self.name(), SEPARATOR) {
                if trials.left == 0 {
                    break 'headers;
                }
                if other == suffix || !is_suffix(other) {
                    continue;
                }
                match self.judge(cookie, other, now, &mut trials) {
                    Some(Judged::Good(until, _)) => live.push((until, other.to_owned())),
                    Some(Judged::Dead) => dead.push(other.to_owned()),
                    None => {}
                }
            }
        }
        live.sort_by(|(one, _), (other, _)| other.cmp(one));
        let old = live.into_iter().skip(MAX_KEPT - 1).map(|(_, suffix)| suffix);
        old.chain(dead).take(MAX_REMOVED).map(|suffix| self.remove(&suffix, secure)).collect()
    }
}

/// What a request brings of a name.
pub(crate) enum Look {
    Nothing,
    /// One that was made here, and counts no more.
    Dead,
    Good(Vec<u8>),
}

/// What a cookie of our making comes to.
enum Judged {
    Dead,
    /// Until when it counts, and the value.
    Good(Millis, Vec<u8>),
}

/// How much may still be tried in a request.
struct Trials {
    /// How many may be opened.
    left: usize,
    /// Whether an unknown key was looked for.
    looked: bool,
}

impl Trials {
    fn new(left: usize) -> Self {
        Self { left, looked: false }
    }
}

/// Whether it may stand in a name, and come back in a URL as it is.
pub(crate) fn is_suffix(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_SUFFIX_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}
