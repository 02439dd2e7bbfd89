//! Seal and open beside the bare sum of the libraries, in one run: `cargo bench --bench seal`.
//!
//! The bare sum is XAES-256-GCM with a nonce from the thread's generator and the vectorised base64, into buffers that
//! are there. Ours is the library's envelope: it allocates its buffers, pads, and looks for the key.

#![allow(missing_docs)]

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use rand::Rng as _;
use xaes_256_gcm::aead::inout::InOutBuf;
use xaes_256_gcm::aead::{AeadInOut as _, KeyInit as _};
use xaes_256_gcm::{Nonce, Tag, Xaes256Gcm};

use sealed_session::{__bench::Envelope, Key};

mod timing;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn engine() -> impl base64::Engine {
    base64::engine::simd::Simd::url_safe(NO_PAD)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn engine() -> impl base64::Engine {
    base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD)
}

/// The most that ours may cost, as a multiple of the bare sum, from 288 bytes on.
const LIMIT: f64 = 1.3;

fn main() {
    let envelope = Envelope::new(Key::from_bytes([7; 32]), "__Host-Http-session");
    let cipher = Xaes256Gcm::new(&[7; 32].into());
    let engine = engine();
    let aad = [7; 53];
    let mut missed = false;

    println!("{:>8} {:>6} {:>10} {:>10} {:>7}", "payload", "", "ours ns", "bare ns", "ratio");
    for payload in [64, 288, 1_024, 3_000_usize] {
        let plaintext: Vec<u8> = (0..payload).map(|n| n as u8).collect();
        let padded = payload.next_multiple_of(32);
        let mut value = Vec::new();

        let ours = |out: &mut Vec<u8>| {
            out.clear();
            envelope.seal(black_box(&plaintext), out);
        };
        ours(&mut value);
        let mut out = Vec::with_capacity(5_000);
        let mut buf = vec![0; 45 + padded];
        let mut text = vec![0; (45 + padded) * 4 / 3 + 4];
        let mut bare = || {
            let mut nonce = [0; 24];
            rand::rng().fill_bytes(&mut nonce);
            buf[29..29 + payload].copy_from_slice(&plaintext);
            let body = &mut buf[29..29 + padded];
            let tag = cipher.encrypt_inout_detached(&nonce.into(), &aad, InOutBuf::from(body)).unwrap();
            let end = buf.len() - 16;
            buf[end..].copy_from_slice(&tag);
            black_box(engine.encode_slice(&buf, &mut text).unwrap());
        };
        let [a, b] = timing::alternate([&mut || ours(black_box(&mut out)), &mut bare]);
        missed |= report(payload, "seal", a, b);

        let mut sealed = vec![0; 45 + padded];
        sealed[5..29].fill(9);
        sealed[29..29 + payload].copy_from_slice(&plaintext);
        let body = &mut sealed[29..29 + padded];
        let tag = cipher.encrypt_inout_detached(&[9; 24].into(), &aad, InOutBuf::from(body)).unwrap();
        let end = sealed.len() - 16;
        sealed[end..].copy_from_slice(&tag);
        let encoded = engine.encode(&sealed);
        let mut buf = vec![0; sealed.len()];
        let mut bare = || {
            engine.decode_slice(black_box(&encoded), &mut buf).unwrap();
            let (head, body) = buf.split_at_mut(29);
            let (body, tag) = body.split_at_mut(padded);
            let nonce = Nonce::try_from(&head[5..]).unwrap();
            let tag = Tag::try_from(&*tag).unwrap();
            cipher.decrypt_inout_detached(&nonce, &aad, InOutBuf::from(body), &tag).unwrap();
            black_box(&mut buf);
        };
        let mut ours = || {
            black_box(envelope.open(black_box(&value)).unwrap());
        };
        let [a, b] = timing::alternate([&mut ours, &mut bare]);
        missed |= report(payload, "open", a, b);
    }
    if missed {
        eprintln!("ours costs more than {LIMIT} times the bare sum");
        std::process::exit(1);
    }
}

fn report(payload: usize, what: &str, ours: f64, bare: f64) -> bool {
    println!("{payload:>8} {what:>6} {ours:>10.0} {bare:>10.0} {:>7.2}", ours / bare);
    payload >= 288 && ours / bare > LIMIT
}
