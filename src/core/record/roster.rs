//! What is sealed into a subject's roster: a line for each of its sessions.

use super::{NotARecord, SessionId, pack, take, unpack};
use crate::core::clock::Millis;

/// Where the moments of a line are rounded down to: whoever reads the list learns no more than the hour.
pub(crate) const HOUR: Millis = Millis(3_600_000);
/// The longest label of a session in the list of its subject's, in bytes:
/// [`Session::set_label`](crate::Session::set_label) cuts what is longer.
pub const MAX_LABEL_BYTES: usize = 120;
/// A line without its label, in bytes: id, generation, three moments, the hour, and the label's length.
const LINE_HEAD: usize = 16 + 8 + 3 * 6 + 4 + 1;
/// The longest line in bytes.
pub(crate) const MAX_LINE: usize = LINE_HEAD + MAX_LABEL_BYTES;
/// The fixed part of a roster: its kind, and how many lines follow.
pub(crate) const ROSTER_HEAD: usize = 1 + 2;

/// A session of a subject, as its roster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) id: SessionId,
    /// The subject's generation that the session is of.
    pub(crate) generation: u64,
    /// Birth of its id.
    pub(crate) created_at: Millis,
    /// When the subject was authenticated in it; zero: never.
    pub(crate) authenticated_at: Millis,
    /// The hour in which it was last used, as far as it was asked for.
    pub(crate) seen: Millis,
    /// When it is over, unless it is prolonged.
    pub(crate) end: Millis,
    /// What the application calls it; empty: nothing.
    pub(crate) label: Box<str>,
}

impl Line {
    /// When it began: what "the oldest" goes by.
    pub(crate) fn began(&self) -> Millis {
        if self.authenticated_at == Millis::ZERO { self.created_at } else { self.authenticated_at }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        LINE_HEAD + self.label.len()
    }
}

/// The hour that a moment is in.
pub(crate) fn hour(at: Millis) -> Millis {
    Millis(at.0.div_euclid(HOUR.0) * HOUR.0)
}

pub(super) fn encode_lines(lines: &[Line], out: &mut Vec<u8>) {
    debug_assert!(lines.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(lines.len() as u16).to_le_bytes());
    for line in lines {
        let hours = u32::try_from(line.seen.0.div_euclid(HOUR.0)).unwrap_or(0);
        out.extend_from_slice(&line.id.0);
        out.extend_from_slice(&line.generation.to_le_bytes());
        for at in [line.created_at, line.authenticated_at, line.end] {
            out.extend_from_slice(&pack(at));
        }
        out.extend_from_slice(&hours.to_le_bytes());
        out.push(line.label.len() as u8);
        out.extend_from_slice(line.label.as_bytes());
    }
}

pub(super) fn decode_lines(text: &[u8], at: &mut usize) -> Result<Vec<Line>, NotARecord> {
    let count = u16::from_le_bytes(take(text, at)?);
    let fits = text.len().saturating_sub(*at) / LINE_HEAD;
    if usize::from(count) > fits {
        return Err(NotARecord);
    }
    let mut lines: Vec<Line> = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (id, generation) = (SessionId(take(text, at)?), u64::from_le_bytes(take(text, at)?));
        let [created_at, authenticated_at, end] =
            [unpack(take(text, at)?), unpack(take(text, at)?), unpack(take(text, at)?)];
        let seen = Millis(i64::from(u32::from_le_bytes(take(text, at)?)) * HOUR.0);
        let [len]: [u8; 1] = take(text, at)?;
        let label = text.get(*at..*at + usize::from(len)).ok_or(NotARecord)?;
        *at += label.len();
        let label = str::from_utf8(label).map_err(|_| NotARecord)?.into();
        if usize::from(len) > MAX_LABEL_BYTES || id == SessionId::NONE {
            return Err(NotARecord);
        }
        lines.push(Line { id, generation, created_at, authenticated_at, seen, end, label });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_in_the_hour_that_it_is_in() {
        for (at, of) in [(0, 0), (1, 0), (3_599_999, 0), (3_600_000, 3_600_000), (-1, -3_600_000)] {
            assert_eq!(hour(Millis(at)), Millis(of));
        }
    }

    #[test]
    fn lines_come_back_with_the_length_foretold_and_each_cut_is_refused() {
        let line = |n: u8, label: &str| Line {
            id: SessionId([n; 16]),
            generation: u64::MAX,
            created_at: Millis(1_767_225_600_123),
            authenticated_at: Millis::ZERO,
            seen: hour(Millis(1_767_225_600_123)),
            end: Millis((1 << 48) - 1),
            label: label.into(),
        };
        let lines = [line(1, ""), line(2, &"é".repeat(60)), line(3, "\0")];
        let mut out = Vec::new();
        encode_lines(&lines, &mut out);
        assert_eq!(out.len(), 2 + lines.iter().map(Line::encoded_len).sum::<usize>());
        let mut at = 0;
        assert_eq!(decode_lines(&out, &mut at).unwrap(), lines);
        assert_eq!(at, out.len());
        for cut in 0..out.len() {
            assert!(decode_lines(&out[..cut], &mut 0).is_err(), "{cut}");
        }
    }
}
