//! What browsers keep of cookies.

use std::time::Duration;

/// The largest name + value that browsers keep (draft RFC 6265bis, section 5.7, and measured in Chromium).
pub const MAX_NAME_VALUE_BYTES: usize = 4096;
/// Browsers ignore attributes with longer values (draft RFC 6265bis, section 5.6).
pub(crate) const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// Browsers keep no cookie for longer than 400 days (draft RFC 6265bis, section 5.5).
pub(crate) const MAX_AGE: Duration = Duration::from_secs(400 * 24 * 3600);
