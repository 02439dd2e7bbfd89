//! What is sealed into a row: the entries of a session that lives in a store, the mark that it ended, the generation of
//! a subject, or its roster.

use std::sync::Arc;

use super::roster::{Line, decode_lines, encode_lines};
use super::{
    DEVICE_KEY_LEN, DeviceKey, Extent, NotARecord, Packed, Places, Replacement, borrow, check_padding,
    prefixed_len, put, put_entries, take,
};
use crate::core::envelope::Opened;
use crate::core::row_name::{ANCESTRY_LEN, Ancestry};

/// The first byte of a row.
const LIVE: u8 = 1;
const ENDED: u8 = 2;
const GENERATION: u8 = 3;
const ROSTER: u8 = 4;
const BOUND: u8 = 5;
const REPLACED: u8 = 6;
const HEAD_LEN: usize = 1 + size_of::<u32>() + ANCESTRY_LEN;

/// What a row says of its session.
#[derive(Debug)]
pub(crate) enum RowContent {
    /// It lives.
    Live {
        /// The highest counter of a cookie that is known to have led here.
        counter: u32,
        ancestry: Ancestry,
        /// The device that it is bound to.
        device: Option<Arc<DeviceKey>>,
        entries: Packed,
    },
    /// It lives in its cookie, and in none from before it was bound to this device.
    Bound(Arc<DeviceKey>),
    /// It is over, for good; and perhaps what took its place.
    Ended(Option<Replacement>),
    /// It is no session's row but a subject's: only sessions of this generation are the subject's still.
    Generation(u64),
    /// Likewise: the sessions that the subject has.
    Roster(Vec<Line>),
}

/// Length of an encoded live row in bytes, with a device key of so many.
pub(crate) fn encoded_row_len(device_key: usize, entries: Extent) -> usize {
    HEAD_LEN + prefixed_len(device_key) + entries.encoded_len()
}

/// Appends a live row. The entries come in strictly ascending order of their keys.
pub(crate) fn encode_live<'a>(
    counter: u32,
    ancestry: &Ancestry,
    device: Option<&DeviceKey>,
    count: usize,
    entries: impl Iterator<Item = (&'a str, impl AsRef<[u8]>)>,
    out: &mut Vec<u8>,
) {
    put(&[LIVE], out);
    put(&counter.to_le_bytes(), out);
    put(&ancestry.0, out);
    put(device.map_or(&[][..], |key| &key.0), out);
    put_entries(count, entries, out);
}

/// Appends the row of a session that is in its cookie, and bound to this device.
pub(crate) fn encode_bound(device: &DeviceKey, out: &mut Vec<u8>) {
    put(&[BOUND], out);
    put(&device.0, out);
}

/// Appends an ended row.
pub(crate) fn encode_ended(replacement: Option<Replacement>, out: &mut Vec<u8>) {
    match replacement {
        None => put(&[ENDED], out),
        Some(replacement) => {
            put(&[REPLACED], out);
            put(&replacement.encode(), out);
        }
    }
}

/// Appends a subject's row.
pub(crate) fn encode_generation(generation: u64, out: &mut Vec<u8>) {
    put(&[GENERATION], out);
    put(&generation.to_le_bytes(), out);
}

/// Appends a subject's roster.
pub(crate) fn encode_roster(lines: &[Line], out: &mut Vec<u8>) {
    put(&[ROSTER], out);
    encode_lines(lines, out);
}

/// Reads a row out of an opened envelope, whose buffer the entries keep.
pub(crate) fn decode_row(opened: Opened) -> Result<RowContent, NotARecord> {
    let Opened { buf, plaintext, .. } = opened;
    let mut at = plaintext.start;
    let text = &buf[..plaintext.end];
    let [kind]: [u8; 1] = take(text, &mut at)?;
    match kind {
        LIVE => {
            let counter = u32::from_le_bytes(take(text, &mut at)?);
            let ancestry = Ancestry(take(text, &mut at)?);
            let device = match borrow::<&[u8]>(text, &mut at)? {
                [] => None,
                key => Some(read_device(key)?),
            };
            let places = Places::read(text, &mut at)?;
            check_padding(text, at)?;
            Ok(RowContent::Live { counter, ancestry, device, entries: Packed::new(buf, places) })
        }
        BOUND => {
            let device = read_device(&take::<DEVICE_KEY_LEN>(text, &mut at)?)?;
            check_padding(text, at).map(|()| RowContent::Bound(device))
        }
        ENDED => check_padding(text, at).map(|()| RowContent::Ended(None)),
        REPLACED => {
            let replacement = Replacement::decode(take(text, &mut at)?).ok_or(NotARecord)?;
            check_padding(text, at).map(|()| RowContent::Ended(Some(replacement)))
        }
        GENERATION => {
            let generation = u64::from_le_bytes(take(text, &mut at)?);
            if generation == 0 {
                // That of sessions from before the subject had any.
                return Err(NotARecord);
            }
            check_padding(text, at).map(|()| RowContent::Generation(generation))
        }
        ROSTER => {
            let lines = decode_lines(text, &mut at)?;
            check_padding(text, at).map(|()| RowContent::Roster(lines))
        }
        _ => Err(NotARecord),
    }
}

fn read_device(key: &[u8]) -> Result<Arc<DeviceKey>, NotARecord> {
    DeviceKey::read(key).map(Arc::new).ok_or(NotARecord)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::KeyId;
    use crate::core::record::{Place, SubjectTag};

    fn key() -> DeviceKey {
        DeviceKey([2; DEVICE_KEY_LEN])
    }

    fn ancestry() -> Ancestry {
        Ancestry([9; ANCESTRY_LEN])
    }

    /// All of a live row that has a fixed length.
    fn live_head() -> Vec<u8> {
        [&[LIVE, 0, 0, 0, 0][..], &[0; ANCESTRY_LEN]].concat()
    }

    fn decoded(text: Vec<u8>) -> Result<RowContent, NotARecord> {
        let mut buf = text;
        buf.resize(buf.len().next_multiple_of(32), 0);
        let plaintext = 0..buf.len();
        decode_row(Opened { buf, plaintext, key: KeyId([0; 4]), retired_key: false })
    }

    #[test]
    fn rows_come_back_with_their_counter_and_have_the_length_foretold() {
        for values in [&[][..], &[("a", &b"1"[..])], &[("a", b""), ("b", &[7; 70_000])]] {
            for key in [None, Some(key())] {
                let mut out = Vec::new();
                encode_live(
                    0x0102_0304,
                    &ancestry(),
                    key.as_ref(),
                    values.len(),
                    values.iter().copied(),
                    &mut out,
                );
                let key_len = key.map_or(0, |key| key.0.len());
                assert_eq!(out.len(), encoded_row_len(key_len, Extent::of(values.iter().copied())));
                let Ok(RowContent::Live { counter, ancestry: read, device, entries }) = decoded(out) else {
                    panic!("not live")
                };
                assert_eq!((counter, read, device.as_deref()), (0x0102_0304, ancestry(), key.as_ref()));
                assert_eq!(entries.iter().collect::<Vec<_>>(), values);
            }
        }
        let mut out = Vec::new();
        encode_bound(&key(), &mut out);
        assert!(matches!(decoded(out), Ok(RowContent::Bound(bound)) if *bound == key()));
        let mut out = Vec::new();
        encode_ended(None, &mut out);
        assert!(matches!(decoded(out), Ok(RowContent::Ended(None))));
        for place in [Place::Cookie, Place::Store] {
            let mut out = Vec::new();
            let replacement = Replacement { by: SubjectTag::of("ada"), place };
            encode_ended(Some(replacement), &mut out);
            assert!(matches!(decoded(out), Ok(RowContent::Ended(Some(read))) if read == replacement));
        }
        let mut out = Vec::new();
        encode_generation(u64::MAX - 1, &mut out);
        assert!(matches!(decoded(out), Ok(RowContent::Generation(n)) if n == u64::MAX - 1));
    }

    #[test]
    fn anything_but_a_row_and_its_padding_is_refused() {
        for bad in [
            &[][..] as &[u8],
            &[0],
            &[7],
            &[BOUND],
            &[&[BOUND, 4][..], &[2; 32]].concat(),
            &[&[BOUND, 2][..], &[2; 32], &[1]].concat(),
            &[&live_head()[..], &[32], &[2; 32], &[0]].concat(),
            &[&live_head()[..], &[33, 5], &[2; 32], &[0]].concat(),
            &[ROSTER, 1, 0],
            &[ROSTER, 0, 0, 1],
            &[GENERATION, 7, 0, 0, 0, 0, 0, 0, 0, 1],
            &[GENERATION, 0, 0, 0, 0, 0, 0, 0, 0],
            &[ENDED, 1],
            &[&[REPLACED][..], &[1; 18]].concat(),
            &[&[REPLACED][..], &[2; 17]].concat(),
            &[LIVE, 0, 0, 0, 0],
            &[&live_head()[..], &[0, 0, 1]].concat(),
            &[&live_head()[..], &[0, 250]].concat(),
            &[ENDED; 33],
        ] {
            assert!(decoded(bad.to_vec()).is_err(), "{bad:?}");
        }
        let mut out = Vec::new();
        encode_live(1, &ancestry(), None, 2, [("b", b"1"), ("a", b"2")].into_iter(), &mut out);
        assert!(decoded(out).is_err(), "descending keys");
    }

    #[test]
    fn collected_entries_are_a_copy() {
        let entries = [("a", &b"1"[..]), ("b", b""), ("c", b"333")];
        let packed = Packed::collect(entries.into_iter());
        assert_eq!(packed.iter().collect::<Vec<_>>(), entries);
        assert_eq!(packed.find("c").map(|range| packed.bytes(range)), Some(&b"333"[..]));
    }
}
