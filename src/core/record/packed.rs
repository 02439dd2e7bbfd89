//! The entries of a record or a row, left where they stand in its plaintext.

use std::ops::Range;

use super::{NotARecord, borrow, length_prefix, prefixed_len};

/// Two lengths, each of nothing.
const MIN_ENTRY: usize = 2;

/// How much a record takes for its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) count: usize,
    bytes: usize,
}

impl Extent {
    pub(crate) fn of<'a>(entries: impl Iterator<Item = (&'a str, impl AsRef<[u8]>)>) -> Self {
        let mut extent = Self::default();
        entries.for_each(|(key, value)| extent.put(key, value.as_ref().len()));
        extent
    }

    pub(crate) fn put(&mut self, key: &str, value_len: usize) {
        self.count += 1;
        self.bytes += prefixed_len(key.len()) + prefixed_len(value_len);
    }

    /// Takes an entry out again.
    pub(crate) fn take(&mut self, key: &str, value_len: usize) {
        self.count -= 1;
        self.bytes -= prefixed_len(key.len()) + prefixed_len(value_len);
    }

    /// With a value of one length at `key` in the place of that of another, if there was one.
    pub(crate) fn with(mut self, key: &str, before: Option<usize>, after: usize) -> Self {
        if let Some(before) = before {
            self.take(key, before);
        }
        self.put(key, after);
        self
    }

    pub(super) fn encoded_len(self) -> usize {
        length_prefix(self.count) + self.bytes
    }
}

/// Entries in strictly ascending order of their keys, and the buffer that they stand in.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    buf: Vec<u8>,
    places: Places,
}

/// Where the keys and values of entries stand, and how much they take.
#[derive(Debug, Default)]
pub(super) struct Places {
    ranges: Vec<(Range<usize>, Range<usize>)>,
    extent: Extent,
}

impl Places {
    /// Reads entries, checks their order, and leaves `at` behind them.
    pub(super) fn read(text: &[u8], at: &mut usize) -> Result<Self, NotARecord> {
        let count: u64 = borrow(text, at)?;
        let mut ranges: Vec<(Range<usize>, _)> =
            Vec::with_capacity((text.len() / MIN_ENTRY).min(count as usize));
        let mut extent = Extent::default();
        for _ in 0..count {
            let name: &str = borrow(text, at)?;
            let key = *at - name.len()..*at;
            let value: &[u8] = borrow(text, at)?;
            // What it takes to write it, which is less where a length had been written longer than it has to be.
            extent.put(name, value.len());
            let value = *at - value.len()..*at;
            if ranges.last().is_some_and(|(previous, _)| text[previous.clone()] >= text[key.clone()]) {
                return Err(NotARecord);
            }
            ranges.push((key, value));
        }
        Ok(Self { ranges, extent })
    }
}

impl Packed {
    pub(crate) const EMPTY: Self = Self {
        buf: Vec::new(),
        places: Places { ranges: Vec::new(), extent: Extent { count: 0, bytes: 0 } },
    };

    pub(super) fn new(buf: Vec<u8>, places: Places) -> Self {
        Self { buf, places }
    }

    /// A copy of these entries, which come in strictly ascending order of their keys.
    pub(crate) fn collect<'a>(entries: impl Iterator<Item = (&'a str, impl AsRef<[u8]>)>) -> Self {
        let mut packed = Self::default();
        for (key, value) in entries {
            let mut append = |bytes: &[u8]| {
                packed.buf.extend_from_slice(bytes);
                packed.buf.len() - bytes.len()..packed.buf.len()
            };
            let range = (append(key.as_bytes()), append(value.as_ref()));
            packed.places.extent.put(key, range.1.len());
            packed.places.ranges.push(range);
        }
        packed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.places.ranges.iter().map(|(key, value)| {
            (
                str::from_utf8(&self.buf[key.clone()]).expect("keys are checked when decoded"),
                &self.buf[value.clone()],
            )
        })
    }

    pub(crate) fn extent(&self) -> Extent {
        self.places.extent
    }

    /// Where the value of `key` is.
    pub(crate) fn find(&self, key: &str) -> Option<Range<usize>> {
        let ranges = &self.places.ranges;
        let at = ranges.binary_search_by(|(other, _)| self.buf[other.clone()].cmp(key.as_bytes())).ok()?;
        Some(ranges[at].1.clone())
    }

    pub(crate) fn bytes(&self, value: Range<usize>) -> &[u8] {
        &self.buf[value]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_the_extent_that_counting_gives() {
        for lens in [vec![], vec![0], vec![1, 250, 251, 70_000], vec![3; 300]] {
            let entries: Vec<(String, Vec<u8>)> =
                lens.iter().enumerate().map(|(n, &len)| (format!("{n:04}"), vec![7; len])).collect();
            let pairs = || entries.iter().map(|(key, value)| (key.as_str(), value));
            let mut text = Vec::new();
            super::super::put_entries(entries.len(), pairs(), &mut text);
            let mut at = 0;
            let read = Places::read(&text, &mut at).unwrap();
            assert_eq!(at, text.len());
            assert_eq!(read.extent, Extent::of(pairs()));
            assert_eq!(read.extent.encoded_len(), text.len());
            assert_eq!(Packed::collect(pairs()).extent(), read.extent);
        }
    }

    #[test]
    fn a_length_written_longer_than_it_has_to_be_does_not_count() {
        let long_lengths = [1, 251, 1, 0, b'k', 252, 2, 0, 0, 0, 7, 7];
        let read = Places::read(&long_lengths, &mut 0).unwrap();
        assert_eq!(read.extent, Extent::of([("k", [7, 7])].into_iter()));
    }
}
