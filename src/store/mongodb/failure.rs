//! What the errors of MongoDB's driver mean.

use std::error::Error as _;

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::core::error::StoreError;

/// Server codes: no room is left; the user may not do that, or is not let in.
const FULL: [i32; 2] = [14_031, 12_501];
const REFUSED: [i32; 2] = [13, 18];

/// The code of the server's refusal.
pub(super) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}

pub(super) fn failure(error: Error) -> StoreError {
    let timed_out = match &*error.kind {
        ErrorKind::Io(io) => io.kind() == std::io::ErrorKind::TimedOut,
        // The write was applied, but not acknowledged by enough members in time.
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        _ => false,
    };
    match code(&error) {
        Some(code) if FULL.contains(&code) => StoreError::Full(error.into()),
        Some(code) if REFUSED.contains(&code) => StoreError::Misconfigured(error.into()),
        _ if is_wrong(&error) => StoreError::Misconfigured(error.into()),
        _ if timed_out => StoreError::Timeout(error.into()),
        _ => StoreError::Unavailable(error.into()),
    }
}

/// Whether the address is wrong in what it says of certificates, or of the user. A server that is stopping interrupts an
/// authentication, too.
fn is_wrong(error: &Error) -> bool {
    let why = error.source().and_then(|why| why.downcast_ref::<Error>()).and_then(code);
    match *error.kind {
        ErrorKind::Authentication { .. } => why.is_none_or(|code| REFUSED.contains(&code)),
        ErrorKind::InvalidTlsConfig { .. } => true,
        _ => false,
    }
}
