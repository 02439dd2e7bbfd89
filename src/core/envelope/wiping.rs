//! That derived keys leave memory when they are done with: this process reads its own, as a core dump would.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::core::key::Key;

const NOW: Millis = Millis(1_767_225_600_000);
const MASK: u8 = 0xa5;

/// A key to look for, so that looking leaves no copy of it. The schedule of AES begins with the key.
struct Wanted([u8; 32]);

impl Wanted {
    /// The key that a cookie's message was sealed under.
    fn of(xaes: &Xaes, value: &[u8]) -> Self {
        let message = BASE64.decode(value).unwrap();
        let key = xaes.message_key(halves(&message[..HEAD_LEN]).0);
        Self(key.map(|byte| byte ^ MASK))
    }

    fn is(&self, bytes: &[u8]) -> bool {
        bytes.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked)
    }

    /// How often it is in the memory that was allocated. The stack is left out: what a call leaves there lasts until the
    /// next one writes over it.
    fn copies(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut chunk = vec![0; 1 << 20];
        let own = chunk.as_ptr() as u64..chunk.as_ptr() as u64 + chunk.len() as u64;
        let stack = &raw const own as u64;
        let mut copies = 0;
        for line in read_to_string("/proc/self/maps").unwrap().lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
            if !rest.starts_with("rw") || (from..to).contains(&stack) || rest.ends_with("[stack]") {
                continue;
            }
            let mut at = from;
            while at < to {
                let len = chunk.len().min((to - at) as usize);
                // What is unmapped meanwhile is not there.
                if memory.read_at(&mut chunk[..len], at).is_ok_and(|read| read == len) {
                    // By its first byte, or a test without optimisation would read for half a minute.
                    let starts = memchr::memchr_iter(self.0[0] ^ MASK, &chunk[..len]);
                    let hits = starts.filter(|&offset| {
                        let is_our_buffer = own.contains(&(at + offset as u64));
                        let found = chunk[..len].get(offset..offset + 32);
                        !is_our_buffer && found.is_some_and(|found| self.is(found))
                    });
                    copies += hits.count();
                }
                // Over the seam, too.
                at += if len == chunk.len() { (len - 31) as u64 } else { len as u64 };
            }
            chunk.fill(0);
        }
        copies
    }
}

fn sealed(sealer: &Sealer, now: Millis) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(None, now, |text| text.extend_from_slice(b"data"), &mut out);
    out
}

#[test]
fn a_derived_key_is_in_memory_while_its_epoch_lasts_and_wiped_with_it() {
    if !std::is_x86_feature_detected!("aes") {
        eprintln!("not looked at: without the instructions for AES its schedule has another form");
        return;
    }
    for engine in super::vectors::engines() {
        let key: [u8; 32] = crate::core::random::from_system();
        let ring = KeyRing::new(Key::from_bytes(key));
        let sealer = Sealer::with_engine(engine, ring, Purpose::Cookie, "s");
        let xaes = Xaes::new(engine, &Key::from_bytes(key).subkey(Purpose::Cookie, "s"));

        let value = sealed(&sealer, NOW);
        let wanted = Wanted::of(&xaes, &value);
        assert_eq!(wanted.copies(), 1, "{engine:?}: of the epoch");
        sealer.parse(&value).unwrap().open().unwrap();
        assert_eq!(wanted.copies(), 2, "{engine:?}: and of what was opened");
        // A clock that goes back ends the epoch.
        sealed(&sealer, NOW.minus(Millis(1)));
        assert_eq!(wanted.copies(), 1, "{engine:?}: of what was opened");
        // A ring that has changed leaves nothing of what it was.
        sealer.ring().rotate(Key::generate()).unwrap();
        sealed(&sealer, NOW);
        assert_eq!(wanted.copies(), 0, "{engine:?}: after the ring has changed");

        let value = sealed(&sealer, NOW);
        sealer.parse(&value).unwrap().open().unwrap();
        let ring = sealer.ring().clone();
        let xaes = Xaes::new(engine, &ring.snapshot().keys[0].subkey(Purpose::Cookie, "s"));
        let wanted = Wanted::of(&xaes, &value);
        assert_eq!(wanted.copies(), 2, "{engine:?}");
        drop(sealer);
        assert_eq!(wanted.copies(), 0, "{engine:?}: after the sealer was dropped");
    }
}

/// What is pushed out by newer epochs, and what an attacker's cookie was tried with.
#[test]
fn a_derived_key_that_is_pushed_out_is_wiped() {
    if !std::is_x86_feature_detected!("aes") {
        return;
    }
    for engine in super::vectors::engines() {
        let key: [u8; 32] = crate::core::random::from_system();
        let sealer = Sealer::with_engine(engine, KeyRing::new(Key::from_bytes(key)), Purpose::Cookie, "s");
        let xaes = Xaes::new(engine, &Key::from_bytes(key).subkey(Purpose::Cookie, "s"));
        let value = sealed(&sealer, NOW);
        let wanted = Wanted::of(&xaes, &value);
        sealer.parse(&value).unwrap().open().unwrap();
        for n in 1..=20_000 {
            let value = sealed(&sealer, NOW.minus(Millis(n)));
            sealer.parse(&value).unwrap().open().unwrap();
        }
        assert_eq!(wanted.copies(), 0, "{engine:?}");
    }
}

/// The bytes of a value in memory, as they stand there.
fn bytes_at(at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

/// How many bytes of a value remain as they were when it is dropped. Its memory stays mapped, because what lies around
/// it does; the allocator writes its own notes over the first 16 bytes.
fn remaining<T>(value: T) -> usize {
    let value = Box::new(value);
    let (at, len) = (&raw const *value as u64, size_of::<T>());
    let before = bytes_at(at, len);
    drop(value);
    let after = bytes_at(at, len);
    before.iter().zip(&after).skip(16).filter(|(before, after)| before == after && **before != 0).count()
}

#[test]
fn working_keys_and_the_states_of_hashes_are_wiped() {
    let key = || Key::from_bytes(crate::core::random::from_system());
    // So that it can fail.
    assert!(remaining([7_u8; 128]) >= 100);
    for engine in super::vectors::engines() {
        let left = remaining(Xaes::new(engine, &key().subkey(Purpose::Cookie, "s")));
        // The tag of the engine, and what the other implementation under test has beside its key.
        assert!(left <= 16, "{engine:?}: {left} bytes of what keys are derived from");
    }
    let left = remaining(super::rows::Subkey::derive(&key(), "s"));
    // The id of the key, and bytes that are the same by chance.
    assert!(left <= 16, "{left} bytes of the keys of rows and lookups");
}

/// Also where the list that they were read into has grown.
#[test]
fn the_keys_of_a_list_are_in_memory_once_and_wiped_with_the_ring() {
    const KEYS: usize = 6;
    let (mut wanted, mut text) = (Vec::new(), zeroize::Zeroizing::new(String::with_capacity(64 * KEYS)));
    for _ in 0..KEYS {
        let key: [u8; 32] = crate::core::random::from_system();
        wanted.push(Wanted(key.map(|byte| byte ^ MASK)));
        text.push_str(&Key::from_bytes(key).export());
        text.push(',');
    }
    let ring = KeyRing::parse(text.trim_end_matches(',')).unwrap();
    for (n, wanted) in wanted.iter().enumerate() {
        assert_eq!(wanted.copies(), 1, "key {n}");
    }
    drop(ring);
    for (n, wanted) in wanted.iter().enumerate() {
        assert_eq!(wanted.copies(), 0, "key {n}");
    }
}
