//! What the store has answered, and what this process knows to be newer.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::core::clock::Millis;

/// The number of groups of keys: an answer is discarded if this process changes another session of its group.
const EPOCHS: usize = 256;

/// Answers with the moments at which they were given. Bounded: when one half is full, the older half is dropped.
pub(crate) struct AnswerCache<K, A> {
    capacity: usize,
    known: Mutex<Halves<K, A>>,
}

struct Halves<K, A> {
    halves: [HashMap<K, (A, Millis)>; 2],
    /// How often this process has overridden answers of the store that were under way: counted for groups of keys.
    epochs: Box<[u64; EPOCHS]>,
    hasher: RandomState,
}

impl<K: Eq + Hash + Copy, A: Copy> AnswerCache<K, A> {
    pub(crate) fn new(capacity: usize) -> Self {
        let halves = [HashMap::new(), HashMap::new()];
        let known = Halves { halves, epochs: Box::new([0; EPOCHS]), hasher: RandomState::new() };
        Self { capacity, known: Mutex::new(known) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<(A, Millis)> {
        self.with(|known| known.halves.iter().find_map(|half| half.get(key)).copied())
    }

    /// To be read before the store is asked, for [`learn`](Self::learn).
    pub(crate) fn epoch(&self, key: &K) -> u64 {
        self.with(|known| *known.epoch(key))
    }

    /// Keeps what the store answered, unless something was put or forgotten since it was asked: then the answer may be
    /// from before that.
    pub(crate) fn learn(&self, key: K, answer: A, now: Millis, epoch: u64) {
        self.with(|known| {
            if *known.epoch(&key) == epoch {
                known.insert(key, answer, now, self.capacity);
            }
        });
    }

    /// Keeps what follows from what is known, and from whether nothing was put or forgotten since the store was asked. An answer of
    /// the store that is under way does not undo it.
    pub(crate) fn decide(
        &self,
        key: K,
        epoch: u64,
        answer: impl FnOnce(Option<(A, Millis)>, bool) -> (A, Millis),
    ) {
        self.with(|known| {
            let is_newest = *known.epoch(&key) == epoch;
            let present = known.halves.iter().find_map(|half| half.get(&key)).copied();
            *known.epoch(&key) += 1;
            let (answer, at) = answer(present, is_newest);
            known.insert(key, answer, at, self.capacity);
        });
    }

    /// Keeps what this process has done itself.
    pub(crate) fn put(&self, key: K, answer: A, now: Millis) {
        self.with(|known| {
            *known.epoch(&key) += 1;
            known.insert(key, answer, now, self.capacity);
        });
    }

    pub(crate) fn forget_if(&self, key: &K, may_go: impl Fn(&A) -> bool) {
        self.with(|known| {
            *known.epoch(key) += 1;
            for half in &mut known.halves {
                if half.get(key).is_some_and(|(answer, _)| may_go(answer)) {
                    half.remove(key);
                }
            }
        });
    }

    fn with<R>(&self, f: impl FnOnce(&mut Halves<K, A>) -> R) -> R {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Eq + Hash, A> Halves<K, A> {
    fn epoch(&mut self, key: &K) -> &mut u64 {
        &mut self.epochs[self.hasher.hash_one(key) as usize % EPOCHS]
    }

    fn insert(&mut self, key: K, answer: A, now: Millis, capacity: usize) {
        let halves = &mut self.halves;
        if halves[0].len() >= capacity && !halves[0].contains_key(&key) {
            halves.swap(0, 1);
            halves[0].clear();
        }
        halves[0].insert(key, (answer, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_under_way_does_not_undo_what_was_known_meanwhile() {
        let answers = AnswerCache::new(10);
        let asked = answers.epoch(&1);
        answers.put(1, true, Millis(0));
        answers.learn(1, false, Millis(1), asked);
        assert_eq!(answers.get(&1), Some((true, Millis(0))));
        let asked = answers.epoch(&1);
        answers.forget_if(&1, |_| true);
        answers.learn(1, false, Millis(2), asked);
        assert_eq!(answers.get(&1), None);
        answers.learn(1, false, Millis(3), answers.epoch(&1));
        assert_eq!(answers.get(&1), Some((false, Millis(3))));
    }

    #[test]
    fn what_was_decided_is_not_undone_by_an_answer_that_was_under_way_either() {
        let answers = AnswerCache::new(10);
        let asked = answers.epoch(&1);
        answers.decide(1, asked, |known, is_newest| {
            assert_eq!((known, is_newest), (None, true));
            ("decided", Millis(0))
        });
        answers.learn(1, "learnt", Millis(1), asked);
        assert_eq!(answers.get(&1), Some(("decided", Millis(0))));
        answers.decide(1, asked, |known, is_newest| {
            assert_eq!((known, is_newest), (Some(("decided", Millis(0))), false));
            ("again", Millis(2))
        });
        assert_eq!(answers.get(&1), Some(("again", Millis(2))));
    }

    #[test]
    fn an_answer_for_one_key_is_not_disturbed_by_what_becomes_of_another() {
        let answers = AnswerCache::new(1_000);
        let asked: Vec<u64> = (0..100_u32).map(|n| answers.epoch(&n)).collect();
        answers.forget_if(&1_000, |_| true);
        (0..100_u32).for_each(|n| answers.learn(n, false, Millis(1), asked[n as usize]));
        let kept = (0..100_u32).filter(|n| answers.get(n).is_some()).count();
        assert!(kept >= 90, "{kept}");
    }

    #[test]
    fn answers_are_bounded_and_the_newest_are_kept() {
        let answers = AnswerCache::new(10);
        (1_000..1_100_u32).for_each(|n| answers.put(n, n, Millis(0)));
        for n in 0..1_000_u32 {
            assert!(answers.with(|halves| halves.halves.iter().map(HashMap::len).sum::<usize>()) <= 20);
            answers.put(n, n, Millis(i64::from(n)));
            answers.put(n, n + 1, Millis(0));
            assert!(answers.with(|halves| halves.halves.iter().map(HashMap::len).sum::<usize>()) <= 20);
            assert_eq!(answers.get(&n), Some((n + 1, Millis(0))));
            assert!(n < 10 || answers.get(&(n - 9)).is_some());
        }
        assert_eq!(answers.get(&100), None);
        answers.forget_if(&999, |_| true);
        assert_eq!(answers.get(&999), None);
    }
}
