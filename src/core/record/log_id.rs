//! What stands for a session's id in logs.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::SessionId;

const LOG_ID_LEN: usize = 8;

/// Names a session in logs, of the library's and of the application's own: 64 bits of a hash of its id, as 16 hexadecimal
/// digits. The field `session` of each log line is this, and `sealed-session inspect` shows it of a cookie.
///
/// ```
/// # use sealed_session::Session;
/// fn log_order(session: &Session, order: u64) {
///     println!("order {order} was placed, session={}", session.log_id());
/// }
/// ```
///
/// # Security
/// An id is 128 random bits, which nobody finds by trying, so nothing leads from here back to it, nor to the row of a store,
/// which another hash names. What it does tell is which lines are of one session: it is a pseudonym. Among two million sessions
/// two have the same with a chance of one in ten million.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId([u8; LOG_ID_LEN]);

impl SessionId {
    /// What stands for it in logs.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        let hash = Sha256::new().chain_update(b"sealed-session/1 log id\0").chain_update(self.0).finalize();
        LogId(*hash.first_chunk().expect("a hash is longer"))
    }
}

/// A session's id, shown as its [`LogId`]: hashed where somebody writes it down, and not in every request.
pub(crate) struct InLog(pub(crate) SessionId);

impl fmt::Display for InLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.log_id().fmt(f)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::row_name::RowKey;

    #[test]
    fn a_log_id_is_that_of_the_formula_and_neither_of_the_id_nor_of_its_row() {
        let id = SessionId(std::array::from_fn(|n| n as u8));
        // printf 'sealed-session/1 log id\0\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17' | sha256sum
        assert_eq!(id.log_id().to_string(), "3b11dc903c0920bd");
        assert_eq!(format!("{:?}", id.log_id()), "LogId(3b11dc903c0920bd)");
        let row = RowKey::hash("row", &id.0);
        let of_row = row.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(!of_row.contains(&id.log_id().to_string()[..4]), "{of_row}");
    }

    #[test]
    fn zeros_in_front_are_written() {
        assert_eq!(LogId([0, 0, 0, 0, 0, 0, 1, 0xab]).to_string(), "00000000000001ab");
    }
}
