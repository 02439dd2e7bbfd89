//! The rules, for owners, modes and groups that no test can make without being root.

use super::*;

const APP: Reader = Reader { user: 1000 };
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    ada:x:1000:1000:Ada:/home/ada:/bin/bash\n\
    bob:x:1001:1001::/home/bob:/bin/bash\n\
    eve:x:1002:100::/home/eve:/bin/bash\n\
    broken line\n";
const GROUP: &str = "root:x:0:\nada:x:1000:\nbob:x:1001:eve\nusers:x:100:ada\n";

fn file(reader: Reader, owner: u32, mode: u32, read_only: bool) -> Result<(), String> {
    let facts = Facts { mode, owner, group: 4 };
    reader.file(Path::new("/k"), facts, read_only).map_err(|error| error.to_string())
}

fn folder(owner: u32, group: u32, mode: u32, of_entry: u32) -> Result<(), String> {
    let facts = Facts { mode, owner, group };
    let private = |group| is_private(group, APP.user, PASSWD, GROUP);
    APP.folder(Path::new("/f"), facts, of_entry, private).map_err(|error| error.to_string())
}

#[test]
fn a_file_is_read_where_nobody_else_can_know_the_keys() {
    for (what, owner, mode, read_only) in [
        ("its user's alone", 1000, 0o600, false),
        ("read by its user", 1000, 0o400, false),
        ("root's alone, by a process that may read it", 0, 0o600, false),
        ("Kubernetes with fsGroup, systemd's LoadCredential", 0, 0o440, false),
        ("root's, read by a group", 0, 0o640, false),
        ("Docker's secret", 0, 0o444, true),
        ("Kubernetes' secret", 0, 0o644, true),
        ("another user's, on a read-only mount", 1001, 0o444, true),
    ] {
        assert_eq!(file(APP, owner, mode, read_only), Ok(()), "{what}");
    }
    for (owner, mode, read_only, says) in [
        (1000, 0o644, false, "has mode 0644, so others than its owner can read it; run `chmod 600 /k`"),
        (0, 0o644, false, "has mode 0644, so others than its owner can read it"),
        (0, 0o444, false, "has mode 0444, so others than its owner can read it"),
        (0, 0o604, false, "has mode 0604, so others than its owner can read it"),
        (0, 0o610, false, "has mode 0610, so others than its owner can read it"),
        (1000, 0o640, false, "has mode 0640, so others than its owner can read it"),
        (0, 0o660, false, "has mode 0660, so others than its owner can change it"),
        (0, 0o620, true, "has mode 0620, so others than its owner can change it"),
        (0, 0o446, true, "has mode 0446, so others than its owner can change it"),
        (1001, 0o600, false, "belongs to user 1001, who is neither root nor user 1000"),
        (1001, 0o440, false, "belongs to user 1001, who is neither root nor user 1000"),
    ] {
        let error = file(APP, owner, mode, read_only).unwrap_err();
        assert!(error.contains(says) && error.contains("KeyFile::allow_readable"), "{error}");
    }
    let root = Reader { user: 0 };
    assert_eq!(file(root, 0, 0o600, false), Ok(()));
    assert!(
        file(root, 1000, 0o600, false).unwrap_err().contains("run `chown 0 /k`"),
        "who owns it can change it"
    );
}

#[test]
fn a_folder_is_gone_through_where_nobody_else_can_put_another_file_there() {
    for (what, owner, group, mode, of_entry) in [
        ("the user's", 1000, 1000, 0o700, 1000),
        ("root's", 0, 0, 0o755, 1001),
        ("/tmp", 0, 0, 0o1777, 1000),
        ("/tmp, what is root's", 0, 0, 0o1777, 0),
        ("umask 002, where each user has a group", 1000, 1000, 0o2775, 1000),
    ] {
        assert_eq!(folder(owner, group, mode, of_entry), Ok(()), "{what}");
    }
    for (owner, group, mode, of_entry, says) in [
        (1001, 1001, 0o755, 1000, "belongs to user 1001, who is neither root nor user 1000"),
        (1001, 1001, 0o1777, 1000, "belongs to user 1001, who is neither root nor user 1000"),
        (
            0,
            0,
            0o777,
            1000,
            "has mode 0777, so others can put another file in its place; run `chmod go-w /f`",
        ),
        (0, 0, 0o1777, 1001, "has mode 1777, so others can put another file in its place"),
        (1000, 1000, 0o702, 1000, "has mode 0702"),
        (0, 0, 0o775, 1000, "has mode 0775, so others can put another file in its place"),
        (1000, 1001, 0o770, 1000, "has mode 0770"),
        (1000, 100, 0o770, 1000, "has mode 0770"),
    ] {
        let error = folder(owner, group, mode, of_entry).unwrap_err();
        assert!(error.contains(says) && error.contains("KeyFile::allow_readable"), "{error}");
    }
}

#[test]
fn a_group_is_private_where_the_accounts_say_so() {
    assert!(is_private(1000, 1000, PASSWD, GROUP));
    assert!(is_private(1000, 1000, PASSWD, "ada:x:1000:ada\n"), "its own member");
    for (what, group, user, passwd, groups) in [
        ("somebody else's", 1000, 1001, PASSWD, GROUP),
        ("with a guest", 1001, 1001, PASSWD, GROUP),
        ("of many", 100, 1000, PASSWD, GROUP),
        ("root's", 0, 0, PASSWD, GROUP),
        ("with a second user", 1000, 1000, "ada:x:1000:1000:::\neve:x:1002:1000:::\n", GROUP),
        ("listed twice, once with a guest", 1000, 1000, PASSWD, "ada:x:1000:\nteam:x:1000:eve\n"),
        ("not listed, so kept elsewhere", 1000, 1000, PASSWD, "root:x:0:\n"),
        ("of a user that is kept elsewhere", 1000, 1000, "root:x:0:0:::\n", GROUP),
        ("of nobody", 7, 7, "", ""),
    ] {
        assert!(!is_private(group, user, passwd, groups), "{what}");
    }
}

/// A folder of a test's own, which is gone afterwards.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The way that the system goes is looked at, so what is opened is what was looked at.
#[test]
fn the_walk_comes_to_the_file_that_the_system_opens() {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};

    let temp = fs::canonicalize(std::env::temp_dir()).unwrap();
    let name = u64::from_ne_bytes(crate::core::random::from_system());
    let folder = Folder(temp.join(format!("sealed-session-walk-{name:016x}")));
    let root = &folder.0;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join("keys/inner")).unwrap();
    let file = root.join("keys/session.keys");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../session.keys", root.join("keys/inner/up")).unwrap();
    symlink(root.join("keys/inner/../inner/up"), root.join("round")).unwrap();
    symlink("keys/session.keys", root.join("link1")).unwrap();
    for n in 1..=LINKS {
        symlink(format!("link{n}"), root.join(format!("link{}", n + 1))).unwrap();
    }
    let ino = fs::metadata(&file).unwrap().ino();
    for way in ["keys/session.keys", "keys/inner/../session.keys", "keys/inner/up", "round", "link9"] {
        assert_eq!(opened(&root.join(way)).unwrap().metadata().unwrap().ino(), ino, "{way}");
    }
    let reader = Reader { user: rustix::process::geteuid().as_raw() };
    assert_eq!(reader.walk(&root.join(format!("link{LINKS}"))).unwrap().ino(), ino);
    assert!(matches!(reader.walk(&root.join(format!("link{}", LINKS + 1))), Err(Stop::Io(_))));
}
