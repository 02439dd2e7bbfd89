//! Entries: key → encoded value, as the loaded record under what this request changed.
//!
//! "Changed" is not a flag that methods set: it means that the entries now are not, byte for byte, those loaded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use crate::core::record::{Extent, Packed};
use crate::core::value;

/// What one request did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Set(Vec<u8>),
    Unset,
    /// Adds to the integer that is there, or to 0. Wider than that integer, so that no sum of increments overflows.
    Add(i128),
}

/// What one request changed: first perhaps a barrier that drops every loaded entry, then a change per key.
#[derive(Debug, Clone, Default)]
struct Delta {
    cleared: bool,
    changes: BTreeMap<Box<str>, Change>,
    /// What was last set to the value that was loaded: no change of that, and yet this request's where nothing of it is left.
    confirmed: BTreeMap<Box<str>, Vec<u8>>,
}

/// The entries of a session: those loaded, and this request's changes over them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    /// None: nothing was loaded, and nothing that is loaded later comes under the changes.
    base: Option<Arc<Packed>>,
    delta: Delta,
    /// How much a record takes for them as they are now.
    extent: Extent,
}

/// An encoded value, held so that it can be read after the session's lock is released.
#[derive(Debug)]
pub(crate) enum Encoded {
    Loaded(Arc<Packed>, Range<usize>),
    Own(Vec<u8>),
    /// Copying so few bytes costs less than counting who uses them.
    Short([u8; SHORT], u8),
}

const SHORT: usize = 32;

impl Encoded {
    fn short(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self::Short(bytes, value.len() as u8))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Loaded(packed, range) => packed.bytes(range.clone()),
            Self::Own(bytes) => bytes,
            Self::Short(bytes, len) => &bytes[..usize::from(*len)],
        }
    }
}

/// Why an `increment` is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotCountable {
    NoInteger,
    OutOfRange,
}

impl Entries {
    pub(crate) fn new(base: impl Into<Arc<Packed>>) -> Self {
        let base = base.into();
        Self { extent: base.extent(), base: Some(base), delta: Delta::default() }
    }

    fn base(&self) -> &Packed {
        static NOTHING: Packed = Packed::EMPTY;
        self.base.as_deref().unwrap_or(&NOTHING)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Encoded> {
        match self.delta.changes.get(key) {
            Some(Change::Set(bytes)) => {
                Some(Encoded::short(bytes).unwrap_or_else(|| Encoded::Own(bytes.clone())))
            }
            Some(Change::Unset) => None,
            Some(Change::Add(by)) => Some(Encoded::Own(sum(self.loaded(key), *by))),
            None => {
                let range = self.visible(key)?;
                let base = self.base.as_ref()?;
                let short = Encoded::short(base.bytes(range.clone()));
                Some(short.unwrap_or_else(|| Encoded::Loaded(Arc::clone(base), range)))
            }
        }
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        match self.delta.changes.get(key) {
            Some(Change::Unset) => false,
            Some(_) => true,
            None => self.visible(key).is_some(),
        }
    }

    pub(crate) fn set(&mut self, key: &str, bytes: Vec<u8>) {
        let Ok(()) = self.set_if(key, bytes, |_| Ok::<_, Infallible>(()));
    }

    /// Sets the value at `key`, unless `fits` refuses what a record would take for the entries then.
    pub(crate) fn set_if<E>(
        &mut self,
        key: &str,
        bytes: Vec<u8>,
        fits: impl FnOnce(Extent) -> Result<(), E>,
    ) -> Result<(), E> {
        let loaded = self.loaded(key);
        let changed = loaded != Some(&bytes);
        let before = match self.delta.changes.get(key) {
            Some(change) => self.became(key, change).map(|bytes| bytes.len()),
            None => loaded.map(<[u8]>::len),
        };
        let extent = self.extent.with(key, before, bytes.len());
        fits(extent)?;
        self.extent = extent;
        if changed {
            self.delta.confirmed.remove(key);
            self.delta.changes.insert(key.into(), Change::Set(bytes));
        } else {
            self.delta.changes.remove(key);
            self.delta.confirmed.insert(key.into(), bytes);
        }
        Ok(())
    }

    /// Whether there was something to remove.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let was_there = self.contains(key);
        let change = self.visible(key).map(|_| Change::Unset);
        self.change(key, change);
        was_there
    }

    /// What the integer at `key` plus `by` comes to; none counts as 0.
    pub(crate) fn total(&self, key: &str, by: i64) -> Result<i64, NotCountable> {
        let present = match self.get(key) {
            Some(encoded) => value::decode_integer(encoded.bytes()).ok_or(NotCountable::NoInteger)?,
            None => 0,
        };
        present.checked_add(by).ok_or(NotCountable::OutOfRange)
    }

    /// Adds to an integer and tells the [`total`](Self::total).
    pub(crate) fn add(&mut self, key: &str, by: i64) -> Result<i64, NotCountable> {
        let total = self.total(key, by)?;
        self.change_by(key, by.into());
        Ok(total)
    }

    fn change_by(&mut self, key: &str, by: i128) {
        let change = match self.delta.changes.get(key) {
            Some(Change::Set(bytes)) => Change::Set(sum(Some(bytes), by)),
            Some(Change::Unset) => Change::Set(sum(None, by)),
            Some(Change::Add(before)) => Change::Add(before + by),
            None => Change::Add(by),
        };
        match change {
            // What is there stays as it is, whatever others make of it meanwhile.
            Change::Add(0) if self.visible(key).is_some() => self.put_change(key, None),
            change => self.change(key, Some(change)),
        }
    }

    /// What is done to this key from now on, or nothing.
    fn change(&mut self, key: &str, change: Option<Change>) {
        // What is added to it is added to what this request has set.
        if !matches!(change, Some(Change::Add(_))) {
            self.delta.confirmed.remove(key);
        }
        self.put_change(key, change);
    }

    fn put_change(&mut self, key: &str, change: Option<Change>) {
        if let Some(before) = self.present(key).map(|bytes| bytes.len()) {
            self.extent.take(key, before);
        }
        match change {
            Some(change) => self.delta.changes.insert(key.into(), change),
            None => self.delta.changes.remove(key),
        };
        if let Some(after) = self.present(key).map(|bytes| bytes.len()) {
            self.extent.put(key, after);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.delta = Delta { cleared: true, ..Delta::default() };
        self.extent = Extent::default();
    }

    /// The same changes over other loaded entries: those that a parallel request has left. Where none were loaded there
    /// is nothing that others could have changed.
    pub(crate) fn rebased(&self, base: Packed) -> Result<Self, NotCountable> {
        if self.base.is_none() {
            return Ok(self.clone());
        }
        let mut rebased = Self { delta: self.delta.clone(), ..Self::new(base) };
        for (key, change) in &rebased.delta.changes {
            if let Change::Add(by) = change {
                countable(rebased.loaded(key), *by)?;
            }
        }
        rebased.extent = Extent::of(rebased.iter());
        Ok(rebased)
    }

    /// Whether nothing was loaded, nor ever will be, under the changes.
    pub(crate) fn are_over_nothing(&self) -> bool {
        self.base.is_none()
    }

    /// What this request has set, over nothing.
    pub(crate) fn over_nothing(&self) -> Self {
        let mut bare = Self { base: None, delta: self.delta.clone(), extent: Extent::default() };
        for (key, bytes) in std::mem::take(&mut bare.delta.confirmed) {
            let bytes = match bare.delta.changes.get(&key) {
                Some(Change::Add(by)) => sum(Some(&bytes), *by),
                _ => bytes,
            };
            bare.delta.changes.insert(key, Change::Set(bytes));
        }
        bare.extent = Extent::of(bare.iter());
        bare
    }

    /// Forgets changes that came to nothing, so that they do not come to something over other entries.
    pub(crate) fn forget_idle_changes(&mut self) {
        if !self.changed() {
            self.delta.cleared = false;
            for (key, change) in std::mem::take(&mut self.delta.changes) {
                if let Change::Set(bytes) = change {
                    self.delta.confirmed.insert(key, bytes);
                }
            }
            self.extent = self.base().extent();
        }
    }

    /// The entries as they are now, with nothing changed.
    pub(crate) fn settled(&self) -> Self {
        Self::new(Packed::collect(self.iter()))
    }

    /// Makes the changes that were made to `later` after these, but for increments of what cannot be counted any more; whether
    /// there were none.
    pub(crate) fn replay(&mut self, later: &Self) -> Result<(), NotCountable> {
        if later.delta.cleared {
            self.clear();
        }
        for (key, bytes) in &later.delta.confirmed {
            if self.present(key).as_deref() == Some(bytes) {
                self.set(key, bytes.clone());
            }
        }
        let mut outcome = Ok(());
        for (key, change) in &later.delta.changes {
            match change {
                Change::Set(bytes) => self.set(key, bytes.clone()),
                Change::Unset => drop(self.remove(key)),
                Change::Add(by) => match self.check_sum(key, *by) {
                    Ok(()) => self.change_by(key, *by),
                    Err(error) => outcome = Err(error),
                },
            }
        }
        outcome
    }

    /// Whether the integer at `key` plus `by` is one.
    fn check_sum(&self, key: &str, by: i128) -> Result<(), NotCountable> {
        countable(self.present(key).as_deref(), by)
    }

    /// All entries in strictly ascending order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
        let base = if self.delta.cleared { None } else { Some(self.base().iter()) };
        Merge {
            entries: self,
            base: base.into_iter().flatten().peekable(),
            changes: self.delta.changes.iter().peekable(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.extent().count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much a record takes for the entries.
    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    /// How much it would be with a value of this length at `key`.
    pub(crate) fn extent_with(&self, key: &str, value_len: usize) -> Extent {
        self.extent.with(key, self.present(key).map(|bytes| bytes.len()), value_len)
    }

    /// Whether this request did anything to them, which need not have changed them.
    pub(crate) fn touched(&self) -> bool {
        self.delta.cleared || !self.delta.changes.is_empty()
    }

    /// Whether the entries differ from those loaded.
    pub(crate) fn changed(&self) -> bool {
        // If no entry is new or different, they are the same ones unless some are missing.
        self.len() != self.base().extent().count
            || self.delta.changes.iter().any(|(key, change)| {
                let loaded = self.base().find(key).map(|range| self.base().bytes(range));
                self.became(key, change).is_some_and(|bytes| Some(&*bytes) != loaded)
            })
    }

    /// The value at `key` as it is now.
    fn present(&self, key: &str) -> Option<Cow<'_, [u8]>> {
        match self.delta.changes.get(key) {
            Some(change) => self.became(key, change),
            None => self.loaded(key).map(Cow::Borrowed),
        }
    }

    /// The value that a change has led to.
    fn became<'a>(&self, key: &str, change: &'a Change) -> Option<Cow<'a, [u8]>> {
        match change {
            Change::Set(bytes) => Some(Cow::Borrowed(bytes)),
            Change::Add(by) => Some(Cow::Owned(sum(self.loaded(key), *by))),
            Change::Unset => None,
        }
    }

    /// Where the loaded entry is, unless the barrier hides it.
    fn visible(&self, key: &str) -> Option<Range<usize>> {
        if self.delta.cleared { None } else { self.base().find(key) }
    }

    fn loaded(&self, key: &str) -> Option<&[u8]> {
        self.visible(key).map(|range| self.base().bytes(range))
    }
}

/// Whether an encoded value is an integer, and one with `by` more; none counts as 0.
fn countable(encoded: Option<&[u8]>, by: i128) -> Result<(), NotCountable> {
    let integer = |encoded| value::decode_integer(encoded).ok_or(NotCountable::NoInteger);
    let present = encoded.map_or(Ok(0), integer)?;
    i64::try_from(i128::from(present) + by).map(drop).map_err(|_| NotCountable::OutOfRange)
}

/// The integer that is loaded plus `by`. Both were checked when the change was made.
fn sum(loaded: Option<&[u8]>, by: i128) -> Vec<u8> {
    let present = loaded.and_then(value::decode_integer).unwrap_or(0);
    let sum = i128::from(present) + by;
    value::encode_integer(sum.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

struct Merge<'a, B: Iterator, C: Iterator> {
    entries: &'a Entries,
    base: Peekable<B>,
    changes: Peekable<C>,
}

impl<'a, B, C> Iterator for Merge<'a, B, C>
where
    B: Iterator<Item = (&'a str, &'a [u8])>,
    C: Iterator<Item = (&'a Box<str>, &'a Change)>,
{
    type Item = (&'a str, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, _)) = self.changes.peek() else {
                return self.base.next().map(|(key, bytes)| (key, Cow::Borrowed(bytes)));
            };
            let key: &'a str = key;
            if let Some((key, bytes)) = self.base.next_if(|(base, _)| *base < key) {
                return Some((key, Cow::Borrowed(bytes)));
            }
            self.base.next_if(|(base, _)| *base == key);
            let (key, change) = self.changes.next()?;
            if let Some(bytes) = self.entries.became(key, change) {
                return Some((key, bytes));
            }
        }
    }
}

#[cfg(test)]
#[path = "entries/tests.rs"]
mod tests;
