//! The statements, as each database wants them.

use std::sync::Arc;

/// The address schemes that this build knows.
pub(super) const SCHEMES: &[&str] = &[
    #[cfg(feature = "postgres")]
    "postgres:",
    #[cfg(feature = "mysql")]
    "mysql:",
    #[cfg(feature = "sqlite")]
    "sqlite:",
];

// The statements are written for all, whichever features there are.
#[cfg_attr(not(all(feature = "postgres", feature = "mysql", feature = "sqlite")), allow(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
    Sqlite,
}

/// What is sent, with the table's name in it. Arguments are in the order of their placeholders.
pub(super) struct Statements {
    pub(super) dialect: Dialect,
    pub(super) table: Arc<str>,
    pub(super) load: Arc<str>,
    pub(super) create: Arc<str>,
    pub(super) replace_expired: Arc<str>,
    pub(super) replace: Arc<str>,
    pub(super) extend: Arc<str>,
    /// What decides where `extend` has not.
    pub(super) is_extended: Arc<str>,
    pub(super) delete: Arc<str>,
    pub(super) sweep: Arc<str>,
    pub(super) count: Arc<str>,
    pub(super) clear: Arc<str>,
    pub(super) create_table: Arc<str>,
    pub(super) store_plainly: Arc<str>,
    pub(super) create_index: Arc<str>,
    /// PostgreSQL: a row if there is an index by expiry, whatever its name.
    pub(super) is_indexed: Arc<str>,
    pub(super) look: Arc<str>,
}

/// A name that can be used unquoted in a statement.
pub(super) fn is_table_name(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    name.len() <= 120 && name.split('.').count() <= 2 && name.split('.').all(word)
}

impl Statements {
    pub(super) fn new(dialect: Dialect, table: &str) -> Self {
        let text = |text: &str| -> Arc<str> { numbered(dialect, &text.replace("{table}", table)).into() };
        let of = |postgres: &str, mysql: &str, sqlite: &str| match dialect {
            Dialect::Postgres => text(postgres),
            Dialect::MySql => text(mysql),
            Dialect::Sqlite => text(sqlite),
        };
        let later = if dialect == Dialect::Sqlite { "MAX" } else { "GREATEST" };
        let upsert = "INSERT INTO {table} AS t (id, data, revision, expires_at) VALUES (?, ?, ?, ?) \
                      ON CONFLICT (id) DO UPDATE SET data = excluded.data, revision = excluded.revision, \
                      expires_at = excluded.expires_at WHERE t.expires_at <= ?";
        let extend = "UPDATE {table} SET expires_at = GREATEST(expires_at, ?) \
                      WHERE id = ? AND revision = ? AND expires_at > ?";
        let insert = "INSERT INTO {table} (id, data, revision, expires_at) VALUES (?, ?, ?, ?)";
        let index = match (dialect, table.split_once('.')) {
            // SQLite wants the schema before the index's name, and there alone.
            (Dialect::Sqlite, Some((schema, table))) => {
                format!("CREATE INDEX IF NOT EXISTS {schema}.{table}_expires_at ON {table} (expires_at)")
            }
            _ => {
                let name = table.replace('.', "_");
                format!("CREATE INDEX IF NOT EXISTS {name}_expires_at ON {{table}} (expires_at)")
            }
        };
        Self {
            dialect,
            table: table.into(),
            load: text("SELECT data, revision, expires_at FROM {table} WHERE id = ? AND expires_at > ?"),
            create: of(upsert, insert, upsert),
            replace_expired: text(
                "UPDATE {table} SET data = ?, revision = ?, expires_at = ? WHERE id = ? AND expires_at <= ?",
            ),
            replace: text(&format!(
                "UPDATE {{table}} SET data = ?, revision = ?, expires_at = {later}(expires_at, ?) \
                 WHERE id = ? AND revision = ? AND expires_at > ?"
            )),
            // A row that need not move is not written, which would be a sync. MySQL sees that by itself. PostgreSQL answers
            // with 1 where the row is late enough, or has been moved, and with 0 where somebody else was moving it.
            extend: of(
                "WITH moved AS (UPDATE {table} SET expires_at = $1 \
                 WHERE id = $2 AND revision = $3 AND expires_at > $4 AND expires_at < $1 RETURNING 1) \
                 SELECT (CASE WHEN expires_at >= $1 OR EXISTS (SELECT FROM moved) THEN 1 ELSE 0 END)::BIGINT \
                 FROM {table} WHERE id = $2 AND revision = $3 AND expires_at > $4",
                extend,
                "UPDATE {table} SET expires_at = $1 \
                 WHERE id = $2 AND revision = $3 AND expires_at > $4 AND expires_at < $1",
            ),
            is_extended: of(
                extend,
                extend,
                "SELECT 1 FROM {table} WHERE expires_at >= $1 AND id = $2 AND revision = $3 AND expires_at > $4",
            ),
            delete: text("DELETE FROM {table} WHERE id = ? AND expires_at > ?"),
            // The outer condition is checked again on a row that somebody else has just rewritten.
            sweep: of(
                "DELETE FROM {table} WHERE id IN \
                 (SELECT id FROM {table} WHERE expires_at <= ? LIMIT ? FOR UPDATE SKIP LOCKED) AND expires_at <= ?",
                "DELETE FROM {table} WHERE expires_at <= ? LIMIT ?",
                "DELETE FROM {table} WHERE id IN \
                 (SELECT id FROM {table} WHERE expires_at <= ? LIMIT ?) AND expires_at <= ?",
            ),
            count: text("SELECT COUNT(*) FROM {table} WHERE expires_at > ?"),
            clear: text("DELETE FROM {table}"),
            create_table: of(
                "CREATE TABLE IF NOT EXISTS {table} (id BYTEA PRIMARY KEY, revision BYTEA NOT NULL, \
                 expires_at BIGINT NOT NULL, data BYTEA NOT NULL)",
                "CREATE TABLE IF NOT EXISTS {table} (id BINARY(32) PRIMARY KEY, revision BINARY(16) NOT NULL, \
                 expires_at BIGINT NOT NULL, data MEDIUMBLOB NOT NULL, INDEX expires_at (expires_at))",
                // Not WITHOUT ROWID: of a row in an index 1,000 bytes at most are in its page, the rest in pages of its own.
                "CREATE TABLE IF NOT EXISTS {table} (id BLOB PRIMARY KEY, revision BLOB NOT NULL, \
                 expires_at INTEGER NOT NULL, data BLOB NOT NULL)",
            ),
            // What is sealed cannot be compressed, so PostgreSQL need not try. Before version 16 that is a statement of its own.
            store_plainly: text("ALTER TABLE {table} ALTER COLUMN data SET STORAGE EXTERNAL"),
            create_index: of(&index, "SELECT 1", &index),
            is_indexed: of(
                "SELECT 1 FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] \
                 WHERE indrelid = '{table}'::REGCLASS AND indisvalid AND attname = 'expires_at' LIMIT 1",
                "SELECT 1",
                "SELECT 1",
            ),
            look: text("SELECT 1 FROM {table} LIMIT 0"),
        }
    }
}

/// The placeholders as the database wants them: `?`, or `$1`, `$2` and so on.
fn numbered(dialect: Dialect, text: &str) -> String {
    if dialect == Dialect::MySql {
        return text.to_owned();
    }
    let mut parts = text.split('?');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.enumerate().fold(first, |text, (n, part)| format!("{text}${}{part}", n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_where_the_database_wants_it() {
        assert_eq!(numbered(Dialect::Postgres, "a = ? AND b = ?"), "a = $1 AND b = $2");
        assert_eq!(numbered(Dialect::MySql, "a = ?"), "a = ?");
        assert_eq!(numbered(Dialect::Sqlite, "no"), "no");
    }

    #[test]
    fn table_names_that_could_break_out_of_a_statement_are_refused() {
        for good in ["sessions", "app.sessions", "_s1"] {
            assert!(is_table_name(good), "{good}");
        }
        for bad in ["", "1s", "a b", "a;b", "a.b.c", ".a", "a.", "a\"", "ä", &"x".repeat(121)] {
            assert!(!is_table_name(bad), "{bad}");
        }
    }
}
