//! What is sealed into a cookie that is read once: until when it counts, what its name carries behind the base, and a
//! value.

use super::{NotARecord, borrow, check_padding, pack, prefixed_len, put, take, unpack};
use crate::core::clock::Millis;
use crate::core::envelope::Opened;

/// What such a cookie says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TransientContent<'a> {
    /// From this moment on it counts no more.
    pub(crate) until: Millis,
    /// What stands behind the base of its name; empty: nothing.
    pub(crate) suffix: &'a str,
    pub(crate) value: &'a [u8],
}

/// Length of its record in bytes.
pub(crate) fn encoded_transient_len(suffix: &str, value: usize) -> usize {
    super::MILLIS_LEN + prefixed_len(suffix.len()) + prefixed_len(value)
}

/// Appends it.
pub(crate) fn encode_transient(content: &TransientContent<'_>, out: &mut Vec<u8>) {
    put(&pack(content.until), out);
    put(content.suffix, out);
    put(content.value, out);
}

/// Reads it out of an opened envelope.
pub(crate) fn decode_transient(opened: &Opened) -> Result<TransientContent<'_>, NotARecord> {
    let (text, mut at) = (&opened.buf[..opened.plaintext.end], opened.plaintext.start);
    let until = unpack(take(text, &mut at)?);
    let suffix = borrow(text, &mut at)?;
    let value = borrow(text, &mut at)?;
    check_padding(text, at)?;
    Ok(TransientContent { until, suffix, value })
}
