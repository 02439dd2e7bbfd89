//! The key file: a JSON document that only its owner can read.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Key, KeyRing};
use crate::error::KeyError;

/// The version of the key file's document.
const DOCUMENT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    version: u32,
    #[serde(borrow)]
    keys: Vec<DocumentKey<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentKey<'a> {
    key: &'a str,
    state: State,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum State {
    Primary,
    Retired,
}

pub(super) fn read(path: &Path) -> Result<KeyRing, KeyError> {
    let io = |source| KeyError::Io { action: "read", path: path.into(), source };
    let document = |reason: String| KeyError::Document { path: path.into(), reason };
    let file = fs::File::open(path).map_err(io)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path: path.into(), mode });
        }
    }
    let text = Zeroizing::new(io::read_to_string(file).map_err(io)?);
    // serde_json's message may quote a string of the document, so only the place is passed on.
    let parsed: Document<'_> = serde_json::from_str(&text)
        .map_err(|e| document(format!("unexpected content at line {}, column {}", e.line(), e.column())))?;
    if parsed.version != DOCUMENT_VERSION {
        return Err(document(format!(
            "its version is {}, and this library reads {DOCUMENT_VERSION}",
            parsed.version
        )));
    }
    let (primary, retired): (Vec<_>, Vec<_>) = parsed.keys.iter().partition(|k| k.state == State::Primary);
    if primary.len() != 1 {
        return Err(document(format!("it has {} primary keys instead of one", primary.len())));
    }
    let keys =
        primary.into_iter().chain(retired).map(|k| k.key.parse::<Key>()).collect::<Result<Vec<_>, _>>();
    keys.and_then(KeyRing::from_keys).map_err(|e| document(e.to_string()))
}

/// Writes a file with one primary key. It appears under its name complete or not at all; one that is there stays.
pub(super) fn create(path: &Path, key: &Key) -> io::Result<()> {
    let exported = key.export();
    let keys = vec![DocumentKey { key: exported.as_str(), state: State::Primary }];
    let text = Zeroizing::new(serde_json::to_string_pretty(&Document { version: DOCUMENT_VERSION, keys })?);

    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(format!(".{:016x}.tmp", rand::rng().next_u64()));
    let draft = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    });
    let removed = fs::remove_file(&draft);
    linked.and(removed)
}
