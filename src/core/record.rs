//! What is sealed: a fixed header and the entries. The only file that names bincode, and what it decodes has been
//! authenticated before.
//!
//! Integers have a fixed width, with zero for "none", so that the length of a record depends on its subject and its
//! entries alone, and a later change of the header never makes a session outgrow its cookie.

mod device;
mod log_id;
mod packed;
mod replacement;
mod roster;
mod row;
mod transient;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bincode::Encode;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;

pub use self::device::DeviceState;
pub(crate) use self::device::{DEVICE_KEY_LEN, Device, DeviceKey};
pub(crate) use self::log_id::InLog;
pub use self::log_id::LogId;
use self::packed::Places;
pub(crate) use self::packed::{Extent, Packed};
pub(crate) use self::replacement::{REPLACEMENT_LEN, Replacement, SubjectTag};
pub use self::roster::MAX_LABEL_BYTES;
pub(crate) use self::roster::{HOUR, Line, MAX_LINE, ROSTER_HEAD, hour};
pub(crate) use self::row::{
    RowContent, decode_row, encode_bound, encode_ended, encode_generation, encode_live, encode_roster,
    encoded_row_len,
};
pub(crate) use self::transient::{
    TransientContent, decode_transient, encode_transient, encoded_transient_len,
};
use crate::core::clock::Millis;
use crate::core::envelope::{BLOCK_LEN, Opened};
use crate::core::random;

/// Length of a [`SessionId`] in bytes.
pub(crate) const SESSION_ID_LEN: usize = 16;
/// Moments and spans are 48-bit numbers of milliseconds, which last until the year 10,889.
const MILLIS_LEN: usize = 6;
const MAX_MILLIS: i64 = (1 << (8 * MILLIS_LEN)) - 1;
/// The fixed part of a record in bytes.
const HEADER_LEN: usize = SESSION_ID_LEN + COUNTER_LEN + 6 * MILLIS_LEN + GENERATION_LEN + FLAGS_LEN;
const COUNTER_LEN: usize = 4;
const GENERATION_LEN: usize = 8;
/// Of the flags, and of how long the cookie was given.
const FLAGS_LEN: usize = 2;

/// Identifies a session: 16 random bytes, the same in every re-issue of its cookie, changed by
/// [`renew`](crate::Session::renew).
///
/// `Display` and `FromStr` use 22 characters of base64url. `Debug` shows the [`log_id`](Self::log_id), of which the id cannot be
/// told.
///
/// # Security
/// Knowing an id opens nothing: sessions are found by their sealed cookie, never by an id from outside. Do not log it all the
/// same; with a key of the ring it opens the session's row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) [u8; SESSION_ID_LEN]);

impl SessionId {
    /// That of a session for which none has been drawn yet.
    pub(crate) const NONE: Self = Self([0; SESSION_ID_LEN]);

    pub(crate) fn random() -> Self {
        Self(random::from_system())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId(log id {})", self.log_id())
    }
}

/// The text is not a session id.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 22 characters of base64url (A-Z a-z 0-9 - _)")]
pub struct ParseSessionIdError;

crate::core::error::debug_in_full!(ParseSessionIdError);

impl FromStr for SessionId {
    type Err = ParseSessionIdError;

    fn from_str(text: &str) -> Result<Self, ParseSessionIdError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseSessionIdError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseSessionIdError)?))
    }
}

/// The moments that a session's lifetime is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Birth of this id.
    pub(crate) created_at: Millis,
    /// What `duration` is counted from; activity moves it.
    pub(crate) anchor: Millis,
    /// When this cookie was sealed.
    pub(crate) sealed_at: Millis,
    /// The duration it was sealed with.
    pub(crate) duration: Millis,
    /// Whether that is the session's own, by `set_duration`, rather than the configured one.
    pub(crate) own: bool,
    /// No cookie of this id that led to this one was sealed with a later end, so one that is to stop them all has to
    /// last until then.
    pub(crate) horizon: Millis,
    /// How long this cookie and its row were made to last when it was sealed; see [`lifetime::given`]. 0: unknown.
    ///
    /// [`lifetime::given`]: crate::core::lifetime::given
    pub(crate) given: u8,
}

/// Where the entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cookie,
    Store,
}

/// Everything about a session but its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: SessionId,
    /// Goes up by one with each issue of a cookie; 0: never issued.
    pub(crate) counter: u32,
    pub(crate) times: Times,
    /// The session's own wish, by `set_persistent`, or the configured one.
    pub(crate) persistent: Option<bool>,
    pub(crate) place: Place,
    pub(crate) subject: Option<Arc<str>>,
    /// Compared for equality with the subject's present one; 0: none.
    pub(crate) generation: u64,
    /// When the subject was last authenticated in this session; zero: never.
    pub(crate) authenticated_at: Millis,
    pub(crate) device: Device,
}

const OWN_DURATION: u8 = 1;
const IN_STORE: u8 = 1 << 1;
const OWN_PERSISTENCE: u8 = 1 << 2;
const PERSISTENT: u8 = 1 << 3;
const OFFERED: u8 = 1 << 4;
const ALL_FLAGS: u8 = OWN_DURATION | IN_STORE | OWN_PERSISTENCE | PERSISTENT | OFFERED;

/// Without a limit, because nothing is copied out of what is decoded.
const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// Why authentic bytes are no record: they come from another version of this library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotARecord;

/// Length of the encoded record in bytes, with a device key of so many.
pub(crate) fn encoded_len(subject: Option<&str>, device_key: usize, entries: Extent) -> usize {
    HEADER_LEN + prefixed_len(subject.map_or(0, str::len)) + prefixed_len(device_key) + entries.encoded_len()
}

impl Header {
    /// Length of the record with these entries.
    pub(crate) fn encoded_len(&self, entries: Extent) -> usize {
        encoded_len(self.subject.as_deref(), self.device.key().len(), entries)
    }
}

fn prefixed_len(len: usize) -> usize {
    length_prefix(len) + len
}

/// What bincode writes before a sequence of `len` items: one byte, or a marker and 2, 4 or 8 more.
fn length_prefix(len: usize) -> usize {
    match len {
        0..251 => 1,
        251..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// What a record begins with: no lengths, and numbers are little-endian.
fn fixed_part(header: &Header) -> [u8; HEADER_LEN] {
    let mut flags = 0;
    for (set, flag) in [
        (header.times.own, OWN_DURATION),
        (header.place == Place::Store, IN_STORE),
        (header.persistent.is_some(), OWN_PERSISTENCE),
        (header.persistent == Some(true), PERSISTENT),
        (header.device.is_offered(), OFFERED),
    ] {
        flags |= if set { flag } else { 0 };
    }
    let (mut fixed, mut len) = ([0; HEADER_LEN], 0);
    let mut put = |bytes: &[u8]| {
        fixed[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    let Times { created_at, anchor, sealed_at, duration, own: _, horizon, given } = header.times;
    put(&header.id.0);
    put(&header.counter.to_le_bytes());
    for at in [created_at, anchor, sealed_at, duration, horizon, header.authenticated_at] {
        put(&pack(at));
    }
    put(&header.generation.to_le_bytes());
    put(&[flags, given]);
    assert_eq!(len, HEADER_LEN);
    fixed
}

/// Appends the record to `out`. The entries come in strictly ascending order of their keys.
pub(crate) fn encode<'a>(
    header: &Header,
    count: usize,
    entries: impl Iterator<Item = (&'a str, impl AsRef<[u8]>)>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&fixed_part(header));
    put(header.subject.as_deref().unwrap_or(""), out);
    put(header.device.key(), out);
    put_entries(count, entries, out);
}

fn put_entries<'a>(
    count: usize,
    entries: impl Iterator<Item = (&'a str, impl AsRef<[u8]>)>,
    out: &mut Vec<u8>,
) {
    put(&(count as u64), out);
    for (key, value) in entries {
        put(key, out);
        put(value.as_ref(), out);
    }
}

fn put<T: Encode + ?Sized>(item: &T, out: &mut Vec<u8>) {
    bincode::encode_into_writer(item, Appender(out), CONFIG).expect("appending to a Vec does not fail");
}

/// Reads a record out of an opened envelope, whose buffer the entries keep.
pub(crate) fn decode(opened: Opened) -> Result<(Header, Packed), NotARecord> {
    let Opened { buf, plaintext, .. } = opened;
    let mut at = plaintext.start;
    let text = &buf[..plaintext.end];

    let fixed: [u8; HEADER_LEN] = take(text, &mut at)?;
    let subject: &str = borrow(text, &mut at)?;
    let subject = (!subject.is_empty()).then(|| Arc::from(subject));
    let device = borrow(text, &mut at)?;
    let header = read_fixed_part(&fixed, subject, device)?;
    let places = Places::read(text, &mut at)?;
    check_padding(text, at)?;
    Ok((header, Packed::new(buf, places)))
}

/// Exact length: whatever follows is padding, and less of it than would have made another block.
fn check_padding(text: &[u8], at: usize) -> Result<(), NotARecord> {
    const PADDING: [u8; BLOCK_LEN - 1] = [0; BLOCK_LEN - 1];
    let exact = PADDING.get(..text.len() - at) == Some(&text[at..]);
    if exact { Ok(()) } else { Err(NotARecord) }
}

fn take<const N: usize>(text: &[u8], at: &mut usize) -> Result<[u8; N], NotARecord> {
    let bytes = text.get(*at..).and_then(<[u8]>::first_chunk).ok_or(NotARecord)?;
    *at += N;
    Ok(*bytes)
}

fn borrow<'a, T: bincode::BorrowDecode<'a, ()>>(text: &'a [u8], at: &mut usize) -> Result<T, NotARecord> {
    let (item, read) = bincode::borrow_decode_from_slice(&text[*at..], CONFIG)?;
    Ok(advance(at, read, item))
}

fn advance<T>(at: &mut usize, read: usize, item: T) -> T {
    *at += read;
    item
}

impl From<bincode::error::DecodeError> for NotARecord {
    fn from(_: bincode::error::DecodeError) -> Self {
        Self
    }
}

fn read_fixed_part(
    fixed: &[u8; HEADER_LEN],
    subject: Option<Arc<str>>,
    device: &[u8],
) -> Result<Header, NotARecord> {
    let at = &mut 0;
    let id = SessionId(take(fixed, at)?);
    let counter = u32::from_le_bytes(take(fixed, at)?);
    let mut moment = || take(fixed, at).map(unpack);
    let (created_at, anchor, sealed_at) = (moment()?, moment()?, moment()?);
    let (duration, horizon, authenticated_at) = (moment()?, moment()?, moment()?);
    let generation = u64::from_le_bytes(take(fixed, at)?);
    let [flags, given] = take(fixed, at)?;
    let has = |flag| flags & flag != 0;
    if flags & !ALL_FLAGS != 0 || (has(PERSISTENT) && !has(OWN_PERSISTENCE)) {
        return Err(NotARecord);
    }
    Ok(Header {
        id,
        counter,
        times: Times { created_at, anchor, sealed_at, duration, own: has(OWN_DURATION), horizon, given },
        persistent: has(OWN_PERSISTENCE).then(|| has(PERSISTENT)),
        place: if has(IN_STORE) { Place::Store } else { Place::Cookie },
        subject,
        generation,
        authenticated_at,
        device: Device::read(has(OFFERED), device)?,
    })
}

fn pack(at: Millis) -> [u8; MILLIS_LEN] {
    let [a, b, c, d, e, f, _, _] = at.0.clamp(0, MAX_MILLIS).to_le_bytes();
    [a, b, c, d, e, f]
}

fn unpack([a, b, c, d, e, f]: [u8; MILLIS_LEN]) -> Millis {
    Millis(i64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::KeyId;

    fn header() -> Header {
        Header {
            id: SessionId([7; 16]),
            counter: 3,
            times: Times {
                created_at: Millis(1_767_225_600_000),
                anchor: Millis(1_767_225_600_001),
                sealed_at: Millis(1_767_225_600_002),
                duration: Millis(86_400_000),
                own: true,
                horizon: Millis(1_767_312_000_001),
                given: 132,
            },
            persistent: Some(true),
            place: Place::Cookie,
            subject: Some("ada".into()),
            generation: u64::MAX,
            authenticated_at: Millis(1_767_225_600_000),
            device: Device::Free,
        }
    }

    fn devices() -> [Device; 3] {
        let key = DeviceKey::read(&[&[2][..], &[7; 32]].concat()).unwrap();
        [Device::Free, Device::Offered, Device::Bound(Arc::new(key))]
    }

    fn encoded(header: &Header, entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(header, entries.len(), entries.iter().copied(), &mut out);
        assert_eq!(out.len(), header.encoded_len(Extent::of(entries.iter().copied())));
        out
    }

    type Decoded = (Header, Vec<(String, Vec<u8>)>);

    fn decoded(mut plaintext: Vec<u8>) -> Result<Decoded, NotARecord> {
        plaintext.resize(plaintext.len().next_multiple_of(32), 0);
        let len = plaintext.len();
        let (header, packed) =
            decode(Opened { buf: plaintext, plaintext: 0..len, key: KeyId([0; 4]), retired_key: false })?;
        Ok((header, packed.iter().map(|(k, v)| (k.to_owned(), v.to_vec())).collect()))
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_whatever_its_flags() {
        let entries: [(&str, &[u8]); 3] = [("", b""), ("a", b"1"), ("b", &[0; 300])];
        for persistent in [None, Some(false), Some(true)] {
            for (own, place) in [(false, Place::Cookie), (true, Place::Store)] {
                for subject in [None, Some("ada".into()), Some("x".repeat(70_000).into())] {
                    for device in devices() {
                        let mut header = Header { persistent, place, device, ..header() };
                        header.times.own = own;
                        header.subject.clone_from(&subject);
                        let (read, read_entries) = decoded(encoded(&header, &entries)).unwrap();
                        assert_eq!(read, header);
                        assert_eq!(read_entries, entries.map(|(k, v)| (k.to_owned(), v.to_vec())));
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_are_foretold_across_every_jump_of_the_length_prefix() {
        for len in [0, 1, 250, 251, 252, 0xffff, 0x1_0000, 0x1_0001] {
            encoded(&header(), &[("key", &vec![1; len])]);
        }
        for count in [0, 250, 251, 252, 1_000] {
            let keys: Vec<String> = (0..count).map(|n| format!("{n:04}")).collect();
            let entries: Vec<(&str, &[u8])> = keys.iter().map(|k| (k.as_str(), &b"v"[..])).collect();
            assert_eq!(decoded(encoded(&header(), &entries)).unwrap().1.len(), count);
        }
    }

    #[test]
    fn anything_but_one_exact_record_and_its_padding_is_refused() {
        let good = encoded(&header(), &[("a", b"1"), ("b", b"2")]);
        assert!(decoded(good.clone()).is_ok());
        for cut in 0..good.len() {
            // Zeros that follow may complete a cut record, but then it is exactly the record that they spell.
            if let Ok((header, entries)) = decoded(good[..cut].to_vec()) {
                let entries: Vec<_> = entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
                let mut zeros = encoded(&header, &entries);
                zeros.resize(zeros.len().next_multiple_of(32), 0);
                assert_eq!(zeros[..cut], good[..cut], "cut at {cut}");
                assert!(zeros[cut..].iter().all(|&b| b == 0), "cut at {cut}");
            }
        }
        let mut trailing = good.clone();
        trailing.push(1);
        assert!(decoded(trailing).is_err());
        let mut a_block_too_many = good.clone();
        a_block_too_many.resize(good.len().next_multiple_of(32) + 32, 0);
        assert!(decoded(a_block_too_many).is_err());
        let whole_blocks = (0..32).map(|len| encoded(&header(), &[("a", &vec![1; len])]));
        let mut whole_blocks = whole_blocks.into_iter().find(|text| text.len().is_multiple_of(32)).unwrap();
        assert!(decoded(whole_blocks.clone()).is_ok());
        whole_blocks.extend_from_slice(&[0; 32]);
        assert!(decoded(whole_blocks).is_err(), "not even a block of nothing but padding");
        for bit in 5..8 {
            let mut unknown = good.clone();
            unknown[HEADER_LEN - 2] |= 1 << bit;
            assert!(decoded(unknown).is_err(), "flag {bit} means nothing yet");
        }
        let device_key_at = HEADER_LEN + prefixed_len("ada".len());
        for (offered, len, first, fine) in [
            (true, 33, 2, true),
            (true, 33, 3, true),
            (true, 33, 4, false),
            (true, 32, 2, false),
            (true, 34, 2, false),
            (true, 1, 2, false),
            (false, 33, 2, false),
        ] {
            let device_key = [&[len, first][..], &vec![2; usize::from(len) - 1]].concat();
            let mut bound = [&good[..device_key_at], &device_key, &good[device_key_at + 1..]].concat();
            bound[HEADER_LEN - 2] |= if offered { OFFERED } else { 0 };
            assert_eq!(decoded(bound).is_ok(), fine, "{len} bytes from {first}, offered: {offered}");
        }
        assert!(decoded(encoded(&header(), &[("b", b"1"), ("a", b"2")])).is_err(), "descending keys");
        assert!(decoded(encoded(&header(), &[("a", b"1"), ("a", b"2")])).is_err(), "equal keys");
    }

    #[test]
    fn moments_outside_of_the_range_are_clamped_and_a_huge_count_allocates_nothing() {
        assert_eq!(unpack(pack(Millis(-1))), Millis(0));
        assert_eq!(unpack(pack(Millis(i64::MAX))), Millis(MAX_MILLIS));
        let mut huge = encoded(&header(), &[]);
        huge.pop();
        huge.push(253);
        huge.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decoded(huge).is_err());
    }

    #[test]
    fn an_id_reads_back_from_its_text_and_debug_shows_nothing_of_it() {
        let id = SessionId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:?}"), format!("SessionId(log id {})", id.log_id()));
        for bad in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA+"] {
            assert_eq!(bad.parse::<SessionId>(), Err(ParseSessionIdError));
        }
    }
}
