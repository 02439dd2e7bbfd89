//! Servers that may be down: callers share the connection attempt under way, and after one that failed there is a pause.

pub(super) mod background;

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

/// How long stores with a server wait for it by default. Requests give up after 2 s by default, and then nobody would
/// learn what they waited for.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// That a server cannot be reached, and why. It contains the host and port of the address, and no secret.
#[cfg_attr(
    not(any(feature = "redis", feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, reason = "MongoDB's driver says it by itself")
)]
#[derive(Debug, Clone)]
pub(super) struct Unreached {
    what: Arc<str>,
    why: Arc<dyn Error + Send + Sync>,
}

#[cfg_attr(
    not(any(feature = "redis", feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, reason = "MongoDB's driver says it by itself")
)]
impl Unreached {
    pub(super) fn new(what: String, why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), why: why.into().into() }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Unreached {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.why)
    }
}

impl From<io::Error> for Unreached {
    fn from(why: io::Error) -> Self {
        Self::new("no connection".into(), why)
    }
}

/// A call that gives up after waiting longer than this abandons its connection; one that gives up earlier has the
/// connection probed for this long. A machine that has hung or lost its power closes nothing, and only a new connection
/// reaches its replacement at the same address.
#[cfg(any(feature = "redis", feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub(super) const SILENT: Duration = Duration::from_millis(500);

/// A call on a connection. Dropped without an answer, as when the caller gave up, it reports that, and whether it was
/// after [`SILENT`].
#[cfg(feature = "redis")]
pub(super) struct Waiting<F: FnMut(bool)> {
    since: Instant,
    gives_up: F,
    is_over: bool,
}

#[cfg(feature = "redis")]
impl<F: FnMut(bool)> Waiting<F> {
    pub(super) fn or_else(gives_up: F) -> Self {
        Self { since: Instant::now(), gives_up, is_over: false }
    }

    pub(super) fn over(mut self) {
        self.is_over = true;
    }
}

#[cfg(feature = "redis")]
impl<F: FnMut(bool)> Drop for Waiting<F> {
    fn drop(&mut self) {
        if !self.is_over {
            (self.gives_up)(self.since.elapsed() >= SILENT);
        }
    }
}

/// After the first failure, doubled with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Connection attempts to one server, shared by callers.
#[derive(Clone)]
pub(super) struct SharedConnect<E> {
    state: Arc<Mutex<State<E>>>,
}

struct State<E> {
    running: Option<Attempt<E>>,
    failed: Option<Failed<E>>,
    succeeded: Option<Instant>,
}

type Attempt<E> = Shared<BoxFuture<'static, Result<(), E>>>;

struct Failed<E> {
    at: Instant,
    pause: Duration,
    why: E,
}

impl<E: Clone + From<io::Error> + Send + Sync + 'static> SharedConnect<E> {
    pub(super) fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State { running: None, failed: None, succeeded: None })) }
    }

    /// Joins the attempt under way, or else begins this one; within the pause after a failed one, returns its failure. An
    /// attempt is a task, so that it completes even if its caller is gone, and even if the caller's runtime is: what the
    /// driver spawns lives where the attempt does.
    pub(super) async fn join<F>(&self, attempt: impl FnOnce() -> F) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let running = {
            let mut state = lock(&self.state);
            match (&state.running, &state.failed) {
                (Some(running), _) => running.clone(),
                (None, Some(failed)) if failed.at.elapsed() < failed.pause => return Err(failed.why.clone()),
                _ => state.running.insert(self.begin(attempt())).clone(),
            }
        };
        let outcome = running.clone().await;
        // Nothing else reports a task that has ended with its runtime.
        lock(&self.state).running.take_if(|other| other.ptr_eq(&running));
        outcome
    }

    /// Begins this attempt without waiting for it, unless another one is under way, has just failed, or has succeeded
    /// within the last second.
    #[cfg(feature = "redis")]
    pub(super) fn launch<F>(&self, attempt: impl FnOnce() -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let mut state = lock(&self.state);
        let is_running = state.running.clone().is_some_and(|running| running.now_or_never().is_none());
        let has_failed = state.failed.as_ref().is_some_and(|failed| failed.at.elapsed() < failed.pause);
        let has_succeeded = state.succeeded.is_some_and(|at| at.elapsed() < LONGEST_PAUSE);
        if !is_running && !has_failed && !has_succeeded {
            state.running = Some(self.begin(attempt()));
        }
    }

    fn begin(&self, attempt: impl Future<Output = Result<(), E>> + Send + 'static) -> Attempt<E> {
        let state = Arc::clone(&self.state);
        let task = background::spawn(async move {
            let outcome = attempt.await;
            let mut state = lock(&state);
            state.running = None;
            state.settle(&outcome);
            outcome
        });
        task.map(|joined| joined.unwrap_or_else(|lost| Err(io::Error::from(lost).into()))).boxed().shared()
    }

    /// Whether the last attempt failed.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(super) fn failed(&self) -> bool {
        lock(&self.state).failed.is_some()
    }

    /// An attempt of another kind has failed.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(super) fn fail(&self, why: E) {
        lock(&self.state).settle(&Err(why));
    }
}

impl<E: Clone> State<E> {
    fn settle(&mut self, outcome: &Result<(), E>) {
        self.succeeded = outcome.is_ok().then(Instant::now);
        self.failed = outcome.as_ref().err().map(|why| {
            let pause = match &self.failed {
                Some(failed) => failed.pause.saturating_mul(2).min(LONGEST_PAUSE),
                None => FIRST_PAUSE,
            };
            Failed { at: Instant::now(), pause, why: why.clone() }
        });
    }
}

fn lock<E>(state: &Mutex<State<E>>) -> MutexGuard<'_, State<E>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn refused() -> Unreached {
        Unreached::new("no connection to db:5432".into(), io::Error::from(io::ErrorKind::ConnectionRefused))
    }

    #[tokio::test]
    async fn many_share_one_attempt_and_its_failure_and_a_pause_comes_after_it() {
        let (attempts, made) = (SharedConnect::new(), Arc::new(AtomicU32::new(0)));
        let (allow, allowed) = tokio::sync::watch::channel(false);
        let fails = {
            let made = Arc::clone(&made);
            move || {
                made.fetch_add(1, Ordering::Relaxed);
                let mut allowed = allowed.clone();
                async move {
                    allowed.wait_for(|is| *is).await.unwrap();
                    Err(refused())
                }
            }
        };
        let mut all: Vec<_> = (0..50).map(|_| attempts.join(fails.clone()).boxed()).collect();
        for one in &mut all {
            assert!(one.now_or_never().is_none());
        }
        allow.send(true).unwrap();
        for outcome in futures_util::future::join_all(all).await {
            assert_eq!(
                crate::core::error::in_full(&outcome.unwrap_err()),
                crate::core::error::in_full(&refused())
            );
        }
        assert!(attempts.failed());
        let lasts = |pause| lock(&attempts.state).failed.as_mut().unwrap().pause = pause;
        lasts(Duration::from_secs(3_600));
        attempts.join(fails.clone()).await.unwrap_err();
        assert_eq!(made.load(Ordering::Relaxed), 1);
        lasts(Duration::ZERO);
        attempts.join(async || Ok(())).await.unwrap();
        assert!(!attempts.failed());
    }

    #[tokio::test]
    async fn pauses_grow_to_a_second_and_begin_anew_after_a_success() {
        let attempts = SharedConnect::new();
        let pause =
            |attempts: &SharedConnect<Unreached>| lock(&attempts.state).failed.as_ref().unwrap().pause;
        for expected in [100, 200, 400, 800, 1_000, 1_000] {
            attempts.fail(refused());
            assert_eq!(pause(&attempts), Duration::from_millis(expected));
        }
        lock(&attempts.state).settle(&Ok(()));
        attempts.fail(refused());
        assert_eq!(pause(&attempts), FIRST_PAUSE);
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun_within_a_second_of_a_success() {
        let (attempts, made) = (SharedConnect::<Unreached>::new(), Arc::new(AtomicU32::new(0)));
        let began = Instant::now();
        let mut firsts = 0;
        while made.load(Ordering::Relaxed) < 2 {
            assert!(began.elapsed() < Duration::from_secs(20));
            attempts.launch(|| {
                let made = Arc::clone(&made);
                async move {
                    made.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            });
            firsts += u32::from(made.load(Ordering::Relaxed) == 1);
            tokio::task::yield_now().await;
        }
        assert!(began.elapsed() >= LONGEST_PAUSE && firsts > 1, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_attempt_goes_on_when_who_began_it_has_gone_and_one_that_panics_is_not_waited_for() {
        let (attempts, made) = (SharedConnect::<Unreached>::new(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&made);
        let (allow, allowed) = tokio::sync::oneshot::channel();
        let mut begun = attempts
            .join(|| async move {
                allowed.await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .boxed();
        assert!((&mut begun).now_or_never().is_none());
        drop(begun);
        allow.send(()).unwrap();
        let began = Instant::now();
        while made.load(Ordering::Relaxed) == 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "it has gone as well");
            tokio::task::yield_now().await;
        }
        attempts.join(async || panic!("it is told as an error")).await.unwrap_err();
        attempts.join(async || Ok(())).await.unwrap();
    }
}
