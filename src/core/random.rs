//! Random bytes from two places, and which of them serves what.
//!
//! A process may be copied: by `fork`, or by a snapshot of its machine that is resumed twice. What has to differ between
//! the copies comes from the operating system, for each use anew: ids of sessions, revisions of rows, generations of
//! subjects, keys, all nonces of rows, and the first half of the nonces of cookies. The second half, drawn for each
//! cookie, comes from the thread's generator, because a system call would cost as much as sealing. After a snapshot that helps only
//! where the guest's kernel renews its own generator, as Linux does since 5.18 with `VMGENID`: else that is copied as well.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SysRng;
use rand::{Rng as _, RngExt as _, TryRng as _};

/// Fills `bytes` from the operating system.
pub(crate) fn fill_from_system(bytes: &mut [u8]) {
    // Without it there is no cryptography, and nothing that a request could go on with.
    SysRng.try_fill_bytes(bytes).expect("the operating system yields random bytes");
}

/// An array of random bytes from the operating system.
pub(crate) fn from_system<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_from_system(&mut bytes);
    bytes
}

/// An array of random bytes from this thread's ChaCha generator, which the operating system seeds.
pub(crate) fn from_thread<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A number from 0 to 1, for who has to wait a while and not as long as others do.
pub(crate) fn fraction() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

/// Makes this thread's generator start anew from the operating system, and ends the thread's sealing epochs: for a
/// process that goes on after `fork`.
///
/// # Security
/// The generator and the epochs that a process has at `fork` are in the child as well, and both would go on to seal with
/// the same nonces: an attacker who has two cookies of one nonce reads both and forges others. Call it in the child,
/// first thing, in the thread that goes on (only that one lives on in a child). Whoever starts workers by `exec`, or
/// forks before the first session is sealed, needs it not.
///
/// In a machine that is resumed twice from one snapshot it helps only where the guest's kernel has renewed its own generator
/// (Linux since 5.18 with `VMGENID`, or an equal promise of the platform). Otherwise both twins start anew from the same bytes:
/// do not resume such a snapshot twice.
///
/// # Panics
/// If the operating system yields no random bytes.
#[doc(alias = "fork")]
pub fn reseed() {
    rand::rng().reseed().expect("the operating system yields random bytes");
    LIFE.set(next_life());
}

thread_local! {
    static LIFE: Cell<u64> = Cell::new(next_life());
}

fn next_life() -> u64 {
    static LIVES: AtomicU64 = AtomicU64::new(0);
    LIVES.fetch_add(1, Ordering::Relaxed)
}

/// Tells this thread from all others of the process, and from what it was before [`reseed`].
pub(crate) fn life() -> u64 {
    LIFE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_life_of_its_own_and_begins_another_when_it_is_reseeded() {
        let here = life();
        assert_eq!(life(), here);
        let others = [(); 3].map(|()| std::thread::spawn(life).join().unwrap());
        assert!(!others.contains(&here));
        assert!(others[0] != others[1] && others[1] != others[2]);
        reseed();
        assert!(life() != here && !others.contains(&life()));
    }

    #[test]
    fn no_two_draws_are_the_same() {
        let draws = [from_system::<16>(), from_system(), from_thread(), from_thread()];
        for (n, draw) in draws.iter().enumerate() {
            assert!(draws[n + 1..].iter().all(|other| other != draw) && draw != &[0; 16]);
        }
    }
}
