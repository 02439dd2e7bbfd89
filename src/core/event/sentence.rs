//! Each event as a sentence.

use std::fmt;

use super::Event;
use crate::core::cross_site::CrossSiteReason;

impl fmt::Display for Event {
    /// A sentence for people, which may change: what happened, and for what somebody should look into, what helps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started { .. } => "a session began",
            Self::Resumed { .. } => "a session goes on",
            Self::Rejected { reason, .. } => return write!(f, "a cookie was refused, {reason}"),
            Self::CrossSite { reason: CrossSiteReason::PlainHttp, .. } => {
                "a page of this host over plain HTTP asked for a session, and got nothing of it, because browsers keep no `Secure` \
                 cookie there; use HTTPS or http://localhost, or `.secure(Secure::Never)` and a `cookie_name` without a prefix"
            }
            Self::CrossSite { reason: CrossSiteReason::Unnamed, .. } => {
                "a request that may change something asked for a session, and got nothing of it, because it has neither `Origin` nor \
                 `Sec-Fetch-Site`, as `SameSite=None` requires; what is no browser can send the `Origin` of a page of yours"
            }
            Self::CrossSite { reason: CrossSiteReason::OtherSite, .. } => {
                "another site's page asked for a session, and got nothing of it; name its origin by `trusted_origin` if it is \
                 yours, and your own where a proxy rewrites `Host`"
            }
            Self::Ambiguous { live, .. } => {
                return write!(
                    f,
                    "{live} live cookies of this name came at once, and the newest was taken; is one left over of \
                     another path or domain, or does somebody plant them?"
                );
            }
            Self::Reissued { .. } => "a session's cookie was issued with changes",
            Self::Extended { .. } => "a session was prolonged",
            Self::Resealed { from, .. } => {
                return write!(f, "a session that the retired key {from} had sealed was sealed under the primary");
            }
            Self::Renewed { .. } => "a session got a new id",
            Self::Authenticated { again: false, .. } => "somebody logged in",
            Self::Authenticated { again: true, .. } => "a session's subject was authenticated again",
            Self::Spilled { .. } => "a session outgrew its cookie and moved into the store",
            Self::Written { .. } => "a session in the store was written",
            Self::Returned { .. } => "a session moved from the store back into its cookie",
            Self::Lost { .. } => "a change was lost, because the session had ended meanwhile",
            Self::Conflicted { .. } => {
                "requests of one session kept overtaking each other, and one was answered with 503"
            }
            Self::HeadOverBudget { bytes, budget, .. } => {
                return write!(
                    f,
                    "the response's head comes to {bytes} bytes, over a budget of {budget}, although the session is in \
                     the store; send fewer or shorter headers, or raise `response_head_budget` and the proxy's buffer"
                );
            }
            Self::StoreFailed { operation, .. } => {
                return write!(f, "the store failed ({operation}); sessions in cookies go on, unless the failure policy is `Closed`");
            }
            Self::Unconfirmed { .. } => {
                "a session was used without knowing whether it was revoked, because the store does not answer"
            }
            Self::Displaced { .. } => "a session was ended for a newer one of its subject's",
            Self::LoginRefused { .. } => "a login was refused, because its subject has as many sessions as it may have",
            Self::Revoked { .. } => "a session was revoked",
            Self::SubjectRevoked => "all sessions of a subject were revoked",
            Self::KeysReloaded { primary } => {
                return write!(f, "the keys have changed; {primary} seals from now on");
            }
            Self::KeysFailed { .. } => {
                "the keys cannot be read again, and those from before go on; mend that before the next restart"
            }
            Self::DeviceOffered { .. } => "a login asked its browser to bind the session to the device",
            Self::DeviceProved { registered: true, .. } => "a device was registered",
            Self::DeviceProved { registered: false, .. } => "a device has proved itself again",
            Self::DeviceBound { .. } => "a session is bound to its device",
            Self::DeviceRefused { reason, .. } => return write!(f, "a device was refused: {reason}"),
            Self::Ended { destroyed: true, .. } => "a session was destroyed",
            Self::Ended { destroyed: false, .. } => "a session became empty, and its cookie was removed",
        })
    }
}
