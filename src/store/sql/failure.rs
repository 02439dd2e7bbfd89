//! What a database's errors mean, by their codes.

use crate::core::error::StoreError;
use crate::store::reach::Unreached;

/// SQLSTATE of PostgreSQL, the number of MySQL or SQLite.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return Some(error.number().to_string());
    }
    error.code().map(|code| code.into_owned())
}

/// Whether the database has rolled back the statement because of another writer: serialization failure, deadlock.
pub(super) fn is_overtaken(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01" | "1213"))
}

/// Whether the server no longer takes statements on this connection: it is read-only, like a primary that has become a
/// standby, it is stopping, it has lost its cluster, or it does not know what was prepared.
pub(super) fn leads_nowhere(error: &sqlx::Error) -> bool {
    let Some(code) = code(error) else { return false };
    match &*code {
        "25006" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "26000" | "0A000" => true,
        "1290" | "1792" | "1836" | "1047" | "1053" | "1927" | "1243" => true,
        // Connection exceptions, as from a proxy.
        code => code.starts_with("08"),
    }
}

/// Whether it is for an operator to mend: the address is wrong, the user is not let in or may not do that, or the database, the
/// schema, the table or a column is not there.
fn is_refused(error: &sqlx::Error) -> bool {
    let by_code = match code(error).as_deref() {
        Some("28000" | "28P01" | "3D000" | "3F000" | "42501" | "42P01" | "42703") => true,
        Some("1044" | "1045" | "1049" | "1054" | "1142" | "1143" | "1146" | "1698") => true,
        // SQLite's for a table that is not there, a file or a folder that may not be written or was moved, and one that cannot be
        // opened, of which it does not say why.
        Some("1" | "8" | "1032" | "1288" | "1544" | "14" | "526") => true,
        _ => false,
    };
    by_code || matches!(error, sqlx::Error::Configuration(_))
}

/// Whether the user may not do that, in PostgreSQL or MySQL.
pub(super) fn is_denied(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("42501" | "1142" | "1044"))
}

pub(super) fn failure(error: sqlx::Error) -> StoreError {
    let error = match error {
        sqlx::Error::Configuration(cause) if cause.is::<Unreached>() => {
            let why = cause.source().and_then(|why| why.downcast_ref());
            return match why.is_some_and(is_refused) {
                true => StoreError::Misconfigured(cause),
                false => StoreError::Unavailable(cause),
            };
        }
        error => error,
    };
    if is_refused(&error) {
        return StoreError::Misconfigured(error.into());
    }
    match (&error, code(&error).as_deref()) {
        // Full: PostgreSQL (disk, memory), MySQL (table, disk, packet), SQLite.
        (_, Some("53100" | "53200" | "1114" | "1021" | "1153" | "13")) => StoreError::Full(error.into()),
        // Locks that were not available in time: SQLite busy or locked, MySQL lock wait. And statements that took longer than the
        // server lets them: PostgreSQL, MariaDB, MySQL, and one that was interrupted.
        (_, Some("5" | "6" | "261" | "517" | "1205" | "55P03" | "57014" | "1969" | "3024" | "1317")) => {
            StoreError::Timeout(error.into())
        }
        (sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }, _) => StoreError::Corrupt(error.into()),
        _ => StoreError::Unavailable(error.into()),
    }
}
