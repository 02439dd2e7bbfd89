//! Seal and open beside the crate `xaes-256-gcm`, in one run: `cargo bench --bench seal`.
//!
//! The crate derives a key for each message. Around it is what a cookie needs at least: a nonce from the thread's
//! generator and the vectorised base64, into buffers that are there. Ours is the library's envelope with either engine: it
//! looks for the key, pads, and allocates what it returns. Then what opening costs where the epochs are many.
//!
//! Without the feature `aws-lc-rs` it builds itself once more with it, so that one run has all columns.

#![allow(missing_docs)]

#[cfg(feature = "aws-lc-rs")]
#[path = "seal/both.rs"]
mod both;
#[cfg(feature = "aws-lc-rs")]
mod timing;

#[cfg(feature = "aws-lc-rs")]
fn main() {
    both::main();
}

/// The same benchmark, built with the other engine as well.
#[cfg(not(feature = "aws-lc-rs"))]
fn main() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut again = std::process::Command::new(cargo);
    again.args(["bench", "--locked", "--quiet", "--features", "aws-lc-rs", "--bench", "seal"]);
    again.current_dir(env!("CARGO_MANIFEST_DIR"));
    println!("building with aws-lc-rs too: cargo bench --features aws-lc-rs --bench seal");
    match again.status() {
        Ok(status) if status.success() => {}
        outcome => {
            eprintln!("it failed: {outcome:?}");
            std::process::exit(1);
        }
    }
}
