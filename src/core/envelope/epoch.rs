//! Sealing epochs: for a while a thread seals under one derived key, so that deriving and wiping it is not paid for each
//! cookie.
//!
//! The first 12 bytes of a nonce stay for an epoch, the last 12 are random for each message. What is sealed is plain
//! XAES-256-GCM. How often a nonce may repeat is reckoned in `docs/wire-format.md`; the rules here are what that
//! rests on.

use super::gcm::{GCM_NONCE_LEN, Gcm};
use super::xaes::{NONCE_LEN, PREFIX_LEN, Prefix, Xaes};
use crate::core::clock::Millis;
use crate::core::random;

/// An epoch ends at each seal with a probability of 1 in this, so it has this many seals on average.
const MEAN_SEALS: u32 = 1 << 20;
const _: () = assert!(MEAN_SEALS.is_power_of_two());
/// A longer pause ends it: the process may be a copy of what it was, resumed from a snapshot.
const LONGEST_PAUSE: Millis = Millis(60_000);

/// One thread's epoch under one key of one sealer.
pub(super) struct Epoch {
    /// The key's place among those of the sealer, and the thread's life: an epoch is shared by no two of either.
    key: usize,
    life: u64,
    prefix: Prefix,
    gcm: Gcm,
    /// The wall clock at the last seal.
    last: Millis,
}

impl Epoch {
    /// The epoch to seal the next message in, which is the present one or a new one, and the message's nonce.
    pub(super) fn next<'a>(
        present: &'a mut Option<Self>,
        (key, xaes): (usize, &Xaes),
        now: Millis,
    ) -> (&'a Gcm, [u8; NONCE_LEN]) {
        let life = random::life();
        // In one draw; the coin is none of the nonce's bytes, or those would not be evenly spread where it ended.
        let drawn: [u8; GCM_NONCE_LEN + 4] = random::from_thread();
        let (message, coin) = drawn.split_at(GCM_NONCE_LEN);
        let ends = u32::from_ne_bytes(coin.try_into().expect("four bytes")) % MEAN_SEALS == 0;
        let goes_on = |epoch: &Self| {
            let pause = now.minus(epoch.last);
            epoch.key == key && epoch.life == life && !ends && pause >= Millis::ZERO && pause <= LONGEST_PAUSE
        };
        if !present.as_ref().is_some_and(goes_on) {
            let prefix = random::from_system();
            // Wiped before the next one is derived, not after.
            *present = None;
            *present = Some(Self { key, life, prefix, gcm: xaes.derive(&prefix), last: now });
        }
        let epoch = present.as_mut().expect("it was made just now");
        epoch.last = now;
        let mut nonce = [0; NONCE_LEN];
        nonce[..PREFIX_LEN].copy_from_slice(&epoch.prefix);
        nonce[PREFIX_LEN..].copy_from_slice(message);
        (&epoch.gcm, nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gcm::Engine;
    use super::*;

    const NOON: Millis = Millis(1_767_225_600_000);

    fn xaes(n: u8) -> Xaes {
        Xaes::new(Engine::DEFAULT, &[n; 32])
    }

    /// The prefix of the next message's nonce.
    fn prefix(present: &mut Option<Epoch>, key: usize, now: Millis) -> Prefix {
        let (_, nonce) = Epoch::next(present, (key, &xaes(1)), now);
        nonce[..PREFIX_LEN].try_into().unwrap()
    }

    #[test]
    fn an_epoch_keeps_the_first_half_of_its_nonces_and_never_the_second() {
        let mut present = None;
        let nonces: Vec<_> = (0..100).map(|_| Epoch::next(&mut present, (0, &xaes(1)), NOON).1).collect();
        let kept = nonces.windows(2).filter(|pair| pair[0][..PREFIX_LEN] == pair[1][..PREFIX_LEN]).count();
        // One may have ended by chance.
        assert!(kept >= 98, "{kept}");
        for (n, nonce) in nonces.iter().enumerate() {
            assert!(nonces[n + 1..].iter().all(|other| other[PREFIX_LEN..] != nonce[PREFIX_LEN..]));
        }
    }

    #[test]
    fn epochs_end_by_chance_about_once_in_a_million_seals() {
        let (mut present, xaes) = (None, xaes(1));
        let (mut ended, mut before) = (0, [0; PREFIX_LEN]);
        let seals = 16 * MEAN_SEALS;
        for _ in 0..seals {
            let (_, nonce) = Epoch::next(&mut present, (0, &xaes), NOON);
            ended += u32::from(nonce[..PREFIX_LEN] != before);
            before = nonce[..PREFIX_LEN].try_into().unwrap();
        }
        // 17 expected, with the first one. Outside of this with a probability below 1e-6, by Poisson.
        assert!((2..=42).contains(&ended), "{ended} epochs in {seals} seals");
    }

    #[test]
    fn a_pause_of_more_than_a_minute_ends_an_epoch_and_so_does_a_clock_that_goes_back() {
        let chance_aside = |from: Millis, to: Millis| {
            // Whether it went on in any of three tries.
            (0..3).any(|_| {
                let mut present = None;
                prefix(&mut present, 0, from) == prefix(&mut present, 0, to)
            })
        };
        assert!(chance_aside(NOON, NOON));
        assert!(chance_aside(NOON, NOON.plus(Millis(60_000))));
        assert!(!chance_aside(NOON, NOON.plus(Millis(60_001))));
        assert!(!chance_aside(NOON, NOON.minus(Millis(1))));
        // Counted from the last seal, not from the first.
        let goes_on = (0..3).any(|_| {
            let mut present = None;
            let first = prefix(&mut present, 0, NOON);
            (1..=5).all(|n| prefix(&mut present, 0, NOON.plus(Millis(40_000 * n))) == first)
        });
        assert!(goes_on);
    }

    #[test]
    fn another_key_another_thread_and_a_reseeded_one_begin_an_epoch_of_their_own() {
        let mut present = None;
        let first = prefix(&mut present, 0, NOON);
        assert_ne!(prefix(&mut present, 1, NOON), first);
        let mut present = None;
        let here = prefix(&mut present, 0, NOON);
        // As a later thread may find what an earlier one has left.
        let there = std::thread::scope(|scope| scope.spawn(|| prefix(&mut present, 0, NOON)).join().unwrap());
        assert_ne!(here, there);
        let mut present = None;
        let before = prefix(&mut present, 0, NOON);
        random::reseed();
        assert_ne!(prefix(&mut present, 0, NOON), before);
    }
}
