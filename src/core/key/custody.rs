//! Who else can read a file, or put another one in its place.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::file::failed;
use crate::core::error::KeyError;

/// How often a file is opened again that was replaced while it was looked at.
const TRIES: u32 = 10;
/// As many symbolic links as Linux follows.
const LINKS: u32 = 40;
const ROOT: u32 = 0;

/// The file at `path`, if nobody else can read or replace it.
pub(super) fn opened(path: &Path) -> Result<File, KeyError> {
    let read = failed("read", path);
    let reader = Reader { user: rustix::process::geteuid().as_raw() };
    for _ in 0..TRIES {
        let file = File::open(path).map_err(&read)?;
        let opened = file.metadata().map_err(&read)?;
        // Whoever can change the way while it is gone is one of those who may, or it is refused for them.
        let found = match reader.walk(path) {
            Ok(found) => found,
            Err(Stop::At(error)) => return Err(error),
            Err(Stop::Io(error)) if error.kind() == ErrorKind::NotFound => continue,
            Err(Stop::Io(error)) => return Err(read(error)),
        };
        if (opened.dev(), opened.ino()) == (found.dev(), found.ino()) {
            let read_only = is_read_only(rustix::fs::fstatvfs(&file)).map_err(&read)?;
            reader.file(path, Facts::of(&opened), read_only)?;
            return Ok(file);
        }
    }
    Err(read(io::Error::other("it is replaced faster than it can be read")))
}

/// Gives a file of this process the owner, the group and the mode of another.
pub(super) fn hand_over(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(like.permissions())
}

fn is_read_only(stated: rustix::io::Result<StatVfs>) -> io::Result<bool> {
    Ok(stated?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// What a rule is about.
#[derive(Debug, Clone, Copy)]
struct Facts {
    mode: u32,
    owner: u32,
    group: u32,
}

impl Facts {
    fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.mode() & 0o7777, owner: metadata.uid(), group: metadata.gid() }
    }
}

/// Why a walk does not come to its end.
#[derive(Debug)]
enum Stop {
    Io(io::Error),
    At(KeyError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The user of the process, for whom a file has to be safe.
#[derive(Debug, Clone, Copy)]
struct Reader {
    user: u32,
}

impl Reader {
    /// Goes to a file as the system does, from folder to folder and along each symbolic link, and looks at each folder
    /// before what is in it. What it comes to is no link.
    fn walk(self, path: &Path) -> Result<Metadata, Stop> {
        let names = |path: &Path| -> Vec<OsString> {
            path.components().rev().map(|part| part.as_os_str().to_os_string()).collect()
        };
        let mut folder = PathBuf::from("/");
        let mut ahead = names(&std::path::absolute(path)?);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            match Path::new(&name).components().next() {
                Some(Component::RootDir) => folder = PathBuf::from("/"),
                Some(Component::ParentDir) => drop(folder.pop()),
                Some(Component::Normal(_)) => {
                    let entry = folder.join(&name);
                    let metadata = fs::symlink_metadata(&entry)?;
                    self.check_folder(&folder, &metadata)?;
                    if !metadata.is_symlink() {
                        if ahead.is_empty() {
                            return Ok(metadata);
                        }
                        folder = entry;
                    } else if ahead.is_empty() && folder.starts_with("/proc") {
                        // It names an open file, perhaps one without a name.
                        return Ok(fs::metadata(&entry)?);
                    } else {
                        links += 1;
                        if links > LINKS {
                            return Err(io::Error::other("too many symbolic links").into());
                        }
                        ahead.extend(names(&fs::read_link(&entry)?));
                    }
                }
                _ => {}
            }
        }
        Err(io::Error::from(ErrorKind::IsADirectory).into())
    }

    fn check_folder(self, folder: &Path, entry: &Metadata) -> Result<(), Stop> {
        let facts = Facts::of(&fs::symlink_metadata(folder)?);
        // With an access list the mode's group bits are what all whom it names may do at most (POSIX 1003.1e).
        let private = |group| {
            !has_access_list(folder)
                && matches!(accounts(), Ok((users, groups)) if is_private(group, self.user, &users, &groups))
        };
        match self.folder(folder, facts, entry.uid(), private) {
            Err(_) if is_read_only(rustix::fs::statvfs(folder))? => Ok(()),
            checked => checked.map_err(Stop::At),
        }
    }

    fn trusts(self, owner: u32) -> bool {
        owner == ROOT || owner == self.user
    }

    /// The rule for a folder with an entry that belongs to somebody.
    fn folder(
        self,
        path: &Path,
        facts: Facts,
        of_entry: u32,
        private: impl Fn(u32) -> bool,
    ) -> Result<(), KeyError> {
        let shown = path.display();
        if !self.trusts(facts.owner) {
            return Err(exposed(
                path,
                format!(
                    "the folder {shown}, on the way to the key file, belongs to user {}, who is neither root nor user {}, as which this process runs; run `chown {} {shown}`",
                    facts.owner, self.user, self.user
                ),
            ));
        }
        let by_group = facts.mode & 0o020 != 0 && !private(facts.group);
        let sticky = facts.mode & 0o1000 != 0 && self.trusts(of_entry);
        if (by_group || facts.mode & 0o002 != 0) && !sticky {
            return Err(exposed(
                path,
                format!(
                    "the folder {shown}, on the way to the key file, has mode {:04o}, so others can put another file in its place; run `chmod go-w {shown}`",
                    facts.mode
                ),
            ));
        }
        Ok(())
    }

    /// The rule for the file.
    fn file(self, path: &Path, facts: Facts, read_only: bool) -> Result<(), KeyError> {
        let (shown, mode) = (path.display(), facts.mode);
        if mode & 0o022 != 0 {
            return Err(exposed(
                path,
                format!(
                    "the key file {shown} has mode {mode:04o}, so others than its owner can change it; run `chmod 600 {shown}`, and replace the keys if anyone may have read them"
                ),
            ));
        }
        if read_only {
            return Ok(());
        }
        if !self.trusts(facts.owner) {
            return Err(exposed(
                path,
                format!(
                    "the key file {shown} belongs to user {}, who is neither root nor user {}, as which this process runs; run it as user {}, or run `chown {} {shown}`",
                    facts.owner, self.user, facts.owner, self.user
                ),
            ));
        }
        let by_a_group = facts.owner == ROOT && mode & 0o037 == 0;
        if mode & 0o077 != 0 && !by_a_group {
            return Err(exposed(
                path,
                format!(
                    "the key file {shown} has mode {mode:04o}, so others than its owner can read it; run `chmod 600 {shown}`, and replace the keys if anyone may have read them"
                ),
            ));
        }
        Ok(())
    }
}

fn exposed(path: &Path, reason: String) -> KeyError {
    KeyError::Permissions { path: path.into(), reason }
}

/// Whether others than owner and group have rights of their own; where that cannot be asked, there are none.
fn has_access_list(path: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return match rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 1][..]) {
        Ok(_) | Err(rustix::io::Errno::RANGE) => true,
        Err(_) => false,
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = path;
        false
    }
}

fn accounts() -> io::Result<(String, String)> {
    Ok((fs::read_to_string("/etc/passwd")?, fs::read_to_string("/etc/group")?))
}

/// Whether a group is the user's own: it is the user's first group and nobody else's, and nobody else is listed in it.
fn is_private(group: u32, user: u32, users: &str, groups: &str) -> bool {
    let number = |field: Option<&str>| field.and_then(|field| field.parse::<u32>().ok());
    // name:password:uid:gid:..
    let users = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((name, number(fields.nth(1))?, number(fields.next())?))
    });
    let mut first: Vec<_> = users.filter(|&(_, _, of)| of == group).collect();
    let Some((name, id, _)) = first.pop() else { return false };
    // name:password:gid:member,member
    let mut named = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        (number(fields.nth(2))? == group).then(|| fields.next().unwrap_or(""))
    });
    let alone = |members: &str| members.split(',').all(|member| member.is_empty() || member == name);
    user != ROOT && id == user && first.is_empty() && named.next().is_some_and(alone) && named.all(alone)
}

#[cfg(test)]
mod tests;
