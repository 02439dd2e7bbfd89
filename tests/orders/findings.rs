//! What is known to be broken, each by a short schedule that shows it. Who mends one takes it off the list.

use crate::programs::{Happening, Op, Program};

pub(crate) struct Finding {
    pub(crate) what: &'static str,
    /// As `ORDERS_REPLAY` takes it.
    pub(crate) schedule: &'static str,
    /// Whether that is what a schedule of this program shows of which this is said.
    shows: fn(&Program, &str) -> bool,
}

pub(crate) const KNOWN: &[Finding] = &[Finding {
    what: "a subject is revoked while the keys are rotated: a session that was sealed under the new key meanwhile goes on, \
           because the revocation is written under the keys alone that were there when it began",
    schedule: "2 default cold before-the-move renew revoke-ada +rotate BAAAAAWAAAAAAAAAABBB",
    shows: |program, said| {
        let rotated = matches!(program.happening, Some(Happening::Rotate | Happening::RevokeKey));
        rotated && program.ops.contains(&Op::RevokeSubject) && said.contains("opens a session that is over")
    },
}];

/// Whether nothing else is broken.
pub(crate) fn is_known(program: &Program, broken: &[String]) -> bool {
    broken.iter().all(|said| KNOWN.iter().any(|finding| (finding.shows)(program, said)))
}
