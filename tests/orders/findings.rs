//! What is known to be broken, each by a short schedule that shows it. Who mends one takes it off the list.

use crate::programs::{Happening, Program, Start};

pub(crate) struct Finding {
    pub(crate) what: &'static str,
    /// As `ORDERS_REPLAY` takes it.
    pub(crate) schedule: &'static str,
    /// Whether that is what a schedule of this program shows of which this is said.
    shows: fn(&Program, &str) -> bool,
}

pub(crate) const KNOWN: &[Finding] = &[
    Finding {
        what: "of two requests with a cookie that was branched off the one that comes later undoes what the other one \
               has written, though that is over what both began with",
        schedule: "1 default cold branched other increment AAAAAABBBBAAABBBB",
        shows: |program, said| program.start == Start::Branched && said.contains("which is none of"),
    },
    Finding {
        what: "a login over a session that was revoked meanwhile keeps its entries, if its cookie was branched off",
        schedule: "2 default cold branched login-ada revoke AAAAABBBBBBBBAAAAAAAAAA",
        shows: |program, said| program.start == Start::Branched && said.contains("which is none of"),
    },
    Finding {
        what: "a clock that is set back during a request gives a row a shorter life than the cookie that leads to it",
        schedule: "2 default cold stored renew login-bob +back AAAWAAAAAABBBBB",
        shows: |program, said| program.happening == Some(Happening::Back) && said.contains("at its end"),
    },
];

/// Whether nothing else is broken.
pub(crate) fn is_known(program: &Program, broken: &[String]) -> bool {
    broken.iter().all(|said| KNOWN.iter().any(|finding| (finding.shows)(program, said)))
}
