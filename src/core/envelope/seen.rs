//! The derived keys of the epochs whose cookies a thread has opened, kept so that the next cookie of an epoch need not
//! derive it again.
//!
//! Only a right tag makes an entry, so no flood of forged cookies pushes one out. Whoever collects genuine cookies of many
//! epochs can, which costs what deriving costs.

use super::gcm::{GCM_NONCE_LEN, Gcm};
use super::xaes::{PREFIX_LEN, Prefix, Xaes};

/// At most `SETS` × `WAYS` epochs are kept, each in the set that its prefix names. A fleet of a few hundred threads
/// has a few hundred.
const SETS: usize = 128;
const WAYS: usize = 4;

/// One thread's entries under the keys of one sealer.
#[derive(Default)]
pub(super) struct Seen {
    /// Empty until the first entry. Apart from the ciphers, so that a look reads one line of memory.
    names: Vec<Name>,
    ciphers: Vec<Option<Box<Gcm>>>,
    /// What a miss is derived into: what the last entry has pushed out, or what an attacker came with.
    spare: Option<Box<Gcm>>,
    /// Which way of a set gives way next.
    turn: usize,
}

/// Which epoch an entry is of: the key's place among those of the sealer, from 1 on, and the prefix of the nonces.
type Name = (u16, Prefix);
const NOBODY: Name = (0, [0; PREFIX_LEN]);

impl Seen {
    /// Opens a message of an epoch in place, its tag behind it; false if the tag is not right.
    pub(super) fn open(
        &mut self,
        (key, xaes): (usize, &Xaes),
        (prefix, nonce): (&Prefix, &[u8; GCM_NONCE_LEN]),
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> bool {
        let name = u16::try_from(key + 1).ok().map(|key| (key, *prefix));
        let set = usize::from(prefix[0]) % SETS * WAYS;
        if let Some(names) = self.names.get(set..set + WAYS)
            && let Some(way) = names.iter().position(|known| Some(*known) == name)
            && let Some(gcm) = &self.ciphers[set + way]
        {
            return gcm.open(nonce, aad, text_and_tag);
        }
        let spare = match self.spare.take() {
            Some(mut spare) => {
                *spare = xaes.derive(prefix);
                spare
            }
            None => Box::new(xaes.derive(prefix)),
        };
        let right = spare.open(nonce, aad, text_and_tag);
        self.spare = match name {
            Some(name) if right => self.keep(set, name, spare),
            _ => Some(spare),
        };
        right
    }

    /// How many epochs there are entries of.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ciphers.iter().flatten().count()
    }

    /// Makes an entry, and returns what it pushed out.
    fn keep(&mut self, set: usize, name: Name, gcm: Box<Gcm>) -> Option<Box<Gcm>> {
        if self.names.is_empty() {
            self.names.resize(SETS * WAYS, NOBODY);
            self.ciphers.resize_with(SETS * WAYS, || None);
        }
        let free = self.names[set..set + WAYS].iter().position(|known| *known == NOBODY);
        let way = free.unwrap_or_else(|| {
            self.turn = self.turn.wrapping_add(1);
            self.turn % WAYS
        });
        self.names[set + way] = name;
        self.ciphers[set + way].replace(gcm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gcm::Engine;
    use super::*;

    const NONCE: [u8; GCM_NONCE_LEN] = [7; GCM_NONCE_LEN];

    fn xaes(n: u8) -> Xaes {
        Xaes::new(Engine::DEFAULT, &[n; 32])
    }

    fn message(xaes: &Xaes, prefix: &Prefix) -> Vec<u8> {
        let mut text = b"text".to_vec();
        let tag = xaes.derive(prefix).seal(&NONCE, b"aad", &mut text);
        text.extend_from_slice(&tag);
        text
    }

    fn prefix(n: u32) -> Prefix {
        let mut prefix = [0; PREFIX_LEN];
        prefix[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_le_bytes());
        prefix[4..8].copy_from_slice(&n.to_le_bytes());
        prefix
    }

    fn names(seen: &Seen) -> Vec<Name> {
        seen.names.iter().copied().filter(|name| *name != NOBODY).collect()
    }

    fn open(seen: &mut Seen, key: (usize, &Xaes), prefix: &Prefix, mut message: Vec<u8>) -> bool {
        seen.open(key, (prefix, &NONCE), b"aad", &mut message) && message.starts_with(b"text")
    }

    #[test]
    fn an_entry_opens_what_its_epoch_has_sealed_and_nothing_else() {
        let (one, two) = (xaes(1), xaes(2));
        let mut seen = Seen::default();
        let (a, b) = (prefix(1), prefix(2));
        for _ in 0..3 {
            assert!(open(&mut seen, (0, &one), &a, message(&one, &a)));
            assert!(open(&mut seen, (0, &one), &b, message(&one, &b)));
            // The same prefix under another key, as a replayed or a planted cookie may have it.
            assert!(open(&mut seen, (1, &two), &a, message(&two, &a)));
            assert!(!open(&mut seen, (1, &two), &a, message(&one, &a)));
            assert!(!open(&mut seen, (0, &one), &b, message(&one, &a)));
        }
        assert_eq!(names(&seen).len(), 3);
    }

    #[test]
    fn a_flood_of_forged_messages_leaves_the_entries_as_they_are() {
        let one = xaes(1);
        let mut seen = Seen::default();
        let own: Vec<Prefix> = (0..40).map(prefix).collect();
        own.iter().for_each(|prefix| assert!(open(&mut seen, (0, &one), prefix, message(&one, prefix))));
        let before = names(&seen);
        assert_eq!(before.len(), own.len());
        for n in 0..20_000 {
            let forged = prefix(1_000 + n);
            assert!(!open(&mut seen, (0, &one), &forged, message(&one, &own[0])));
        }
        assert_eq!(names(&seen), before);
    }

    #[test]
    fn entries_are_bounded_and_the_newest_epochs_are_among_them() {
        let one = xaes(1);
        let mut seen = Seen::default();
        for n in 0..3_000 {
            let prefix = prefix(n);
            assert!(open(&mut seen, (0, &one), &prefix, message(&one, &prefix)));
            assert!(names(&seen).contains(&(1, prefix)));
        }
        assert_eq!(seen.len(), SETS * WAYS);
        // Hundreds of live epochs, as a fleet has them, find their place.
        let mut seen = Seen::default();
        for round in 0..2 {
            (0..300).for_each(|n| {
                assert!(open(&mut seen, (0, &one), &prefix(n), message(&one, &prefix(n))), "{round}")
            });
        }
        assert!(names(&seen).len() >= 270, "{}", names(&seen).len());
    }
}
