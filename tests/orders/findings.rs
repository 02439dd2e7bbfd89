//! What is known to be broken, each by a short schedule that shows it. Who mends one takes it off the list.

use crate::programs::Program;

pub(crate) struct Finding {
    pub(crate) what: &'static str,
    /// As `ORDERS_REPLAY` takes it.
    pub(crate) schedule: &'static str,
    /// Whether that is what a schedule of this program shows of which this is said.
    shows: fn(&Program, &str) -> bool,
}

pub(crate) const KNOWN: &[Finding] = &[];

/// Whether nothing else is broken.
pub(crate) fn is_known(program: &Program, broken: &[String]) -> bool {
    broken.iter().all(|said| KNOWN.iter().any(|finding| (finding.shows)(program, said)))
}
