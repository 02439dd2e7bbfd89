//! What is measured, where both engines are there.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use rand::Rng as _;
use xaes_256_gcm::aead::inout::InOutBuf;
use xaes_256_gcm::aead::{AeadInOut as _, KeyInit as _};
use xaes_256_gcm::{Nonce, Tag, Xaes256Gcm};

use sealed_session::{__bench::Envelope, Key};

use crate::timing;

const NAME: &str = "__Host-Http-session";
/// The most that ours may cost, as a multiple of the crate, by payload; with AWS-LC. A tenth above what is aimed at,
/// because neighbours on the machine move ratios too.
const LIMITS: [(usize, f64, Option<f64>); 4] =
    [(64, 0.80, None), (288, 0.88, Some(0.61)), (1_024, 1.0, None), (3_000, 1.1, Some(0.5))];
/// In place of AWS-LC's limit at 3,000 bytes where it has no AVX-512 to use: both engines multiply with the same
/// instructions there, and it comes to 0.6 to 0.67. What is aimed at is missed there.
const LIMIT_WITHOUT_AVX512: f64 = 0.8;
/// The most that opening may cost where hundreds of epochs are alive, and where none comes again, as a multiple of
/// deriving each time.
const MISS_LIMIT: f64 = 1.2;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn base64_engine() -> impl base64::Engine {
    base64::engine::simd::Simd::url_safe(NO_PAD)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn base64_engine() -> impl base64::Engine {
    base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD)
}

/// Whether AWS-LC takes its code for AVX-512 on this processor.
#[cfg(target_arch = "x86_64")]
fn aws_lc_has_avx512() -> bool {
    // What its `CRYPTO_is_AVX512_capable` and its choice of a GCM ask for.
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
}

#[cfg(not(target_arch = "x86_64"))]
fn aws_lc_has_avx512() -> bool {
    false
}

pub(crate) fn main() {
    let mut missed = false;
    let avx512 = aws_lc_has_avx512();
    if !avx512 {
        println!(
            "no AVX-512 here: the limit of AWS-LC at 3,000 bytes is {LIMIT_WITHOUT_AVX512}, not what is aimed at"
        );
    }
    println!("ns; a ratio is to the crate xaes-256-gcm");
    println!(
        "{:>7} {:>5} {:>8} {:>8} {:>8} {:>7} {:>7}",
        "payload", "", "crate", "ours", "aws-lc", "ours", "aws-lc"
    );
    for (payload, limit, aws_limit) in LIMITS {
        for (what, [bare, ours, aws]) in [("seal", seal(payload)), ("open", open(payload))] {
            let (ours_ratio, aws_ratio) = (ours / bare, aws / bare);
            println!(
                "{payload:>7} {what:>5} {bare:>8.0} {ours:>8.0} {aws:>8.0} {ours_ratio:>7.2} {aws_ratio:>7.2}"
            );
            let aws_limit =
                aws_limit.map(|limit| if payload == 3_000 && !avx512 { LIMIT_WITHOUT_AVX512 } else { limit });
            missed |= ours_ratio > limit || aws_limit.is_some_and(|limit| aws_ratio > limit);
        }
    }
    println!("\nopen, 288 bytes, beside deriving the key each time");
    println!("{:>32} {:>8} {:>8} {:>7}", "epochs that the cookies are of", "ours", "derived", "ratio");
    for epochs in [1, 10, 300, 20_000] {
        let [ours, derived] = open_of_many(epochs);
        println!("{epochs:>32} {ours:>8.0} {derived:>8.0} {:>7.2}", ours / derived);
        missed |= ours / derived > MISS_LIMIT;
    }
    if missed {
        eprintln!("a ratio is above its limit");
        std::process::exit(1);
    }
}

fn plaintext(payload: usize) -> Vec<u8> {
    (0..payload).map(|n| n as u8).collect()
}

/// The crate, ours, and ours with AWS-LC.
fn seal(payload: usize) -> [f64; 3] {
    let [ours, aws] = [Envelope::new, Envelope::with_aws_lc].map(|new| new(Key::from_bytes([7; 32]), NAME));
    let (cipher, engine) = (Xaes256Gcm::new(&[7; 32].into()), base64_engine());
    let (plaintext, padded) = (plaintext(payload), payload.next_multiple_of(32));
    let (mut buf, mut text) = (vec![0; 45 + padded], vec![0; (45 + padded) * 4 / 3 + 4]);
    let mut bare = || {
        let mut nonce = [0; 24];
        rand::rng().fill_bytes(&mut nonce);
        buf[29..29 + payload].copy_from_slice(&plaintext);
        let body = &mut buf[29..29 + padded];
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &[1; 5], InOutBuf::from(body)).unwrap();
        let end = buf.len() - 16;
        buf[end..].copy_from_slice(&tag);
        black_box(engine.encode_slice(&buf, &mut text).unwrap());
    };
    let (mut out, mut aws_out) = (Vec::with_capacity(5_000), Vec::with_capacity(5_000));
    let mut ours = || {
        out.clear();
        ours.seal(black_box(&plaintext), &mut out);
    };
    let mut aws = || {
        aws_out.clear();
        aws.seal(black_box(&plaintext), &mut aws_out);
    };
    timing::alternate([&mut bare, &mut ours, &mut aws])
}

fn open(payload: usize) -> [f64; 3] {
    let [ours, aws] = [Envelope::new, Envelope::with_aws_lc].map(|new| new(Key::from_bytes([7; 32]), NAME));
    let (plaintext, padded) = (plaintext(payload), payload.next_multiple_of(32));
    let mut value = Vec::new();
    ours.seal(&plaintext, &mut value);

    let (cipher, engine) = (Xaes256Gcm::new(&[7; 32].into()), base64_engine());
    let mut sealed = vec![0; 45 + padded];
    sealed[5..29].fill(9);
    sealed[29..29 + payload].copy_from_slice(&plaintext);
    let body = &mut sealed[29..29 + padded];
    let tag = cipher.encrypt_inout_detached(&[9; 24].into(), &[1; 5], InOutBuf::from(body)).unwrap();
    let end = sealed.len() - 16;
    sealed[end..].copy_from_slice(&tag);
    let encoded = engine.encode(&sealed);
    let mut buf = vec![0; sealed.len()];
    let mut bare = || {
        engine.decode_slice(black_box(&encoded), &mut buf).unwrap();
        let (head, body) = buf.split_at_mut(29);
        let (body, tag) = body.split_at_mut(padded);
        let (nonce, tag) = (Nonce::try_from(&head[5..]).unwrap(), Tag::try_from(&*tag).unwrap());
        cipher.decrypt_inout_detached(&nonce, &[1; 5], InOutBuf::from(body), &tag).unwrap();
        black_box(&mut buf);
    };
    let mut ours = || {
        black_box(ours.open(black_box(&value)).unwrap());
    };
    let mut aws = || {
        black_box(aws.open(black_box(&value)).unwrap());
    };
    timing::alternate([&mut bare, &mut ours, &mut aws])
}

/// Cookies of so many epochs, in turns: as it is, and with the key derived for each.
fn open_of_many(epochs: usize) -> [f64; 2] {
    let envelope = Envelope::new(Key::from_bytes([7; 32]), NAME);
    let plaintext = plaintext(288);
    let values: Vec<Vec<u8>> = (0..epochs)
        .map(|n| {
            let mut value = Vec::new();
            // Each a moment before the last, which begins an epoch.
            envelope.seal_at(-(n as i64), &plaintext, &mut value);
            value
        })
        .collect();
    let (mut at, mut at_derived) = (values.iter().cycle(), values.iter().cycle());
    let mut ours = || {
        black_box(envelope.open(at.next().unwrap()).unwrap());
    };
    let mut derived = || {
        black_box(envelope.open_deriving(at_derived.next().unwrap()).unwrap());
    };
    timing::alternate([&mut ours, &mut derived])
}
