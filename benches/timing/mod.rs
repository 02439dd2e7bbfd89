//! Times candidates against each other: in turns, many short rounds, the best of each.

use std::time::Instant;

const ROUNDS: usize = 400;
const CALLS: u32 = 400;

/// Nanoseconds a call, of each candidate in its best round. Other programs and the clock of the processor disturb
/// whole rounds, and both candidates alike.
pub(crate) fn alternate<const N: usize>(mut candidates: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::MAX; N];
    for _ in 0..ROUNDS {
        for (candidate, best) in candidates.iter_mut().zip(&mut best) {
            let start = Instant::now();
            for _ in 0..CALLS {
                candidate();
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
        }
    }
    best
}
