//! What is known to be broken, each by a short schedule that shows it. Who mends one takes it off the list.

pub(crate) struct Finding {
    pub(crate) what: &'static str,
    /// As `ORDERS_REPLAY` takes it.
    pub(crate) schedule: &'static str,
    /// What is said of each schedule that shows it.
    sentence: &'static str,
}

pub(crate) const KNOWN: &[Finding] = &[Finding {
    what: "a client that goes away keeps its session from being ended, though the commit had begun",
    schedule: "2 default cold cookie read destroy BBBBBdBAAAAA",
    sentence: "opens a session whose end was begun and dropped",
}];

/// Whether nothing else is broken.
pub(crate) fn is_known(broken: &[String]) -> bool {
    broken.iter().all(|sentence| KNOWN.iter().any(|finding| sentence.contains(finding.sentence)))
}
