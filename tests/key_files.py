#!/usr/bin/env python3
"""Key files as platforms hand them out: Kubernetes, Docker, systemd, Vault; and as they must not be. The YAML and the unit
of the documentation are set up as they say.

usage: tests/key_files.py target/debug/examples/api target/debug/sealed-session      (built with --all-features)

Owners and mounts need root, in a mount namespace of its own; without root only what needs neither is looked at. Needs
PyYAML, which scripts/test installs. Ends at the first thing that is not as it should be.
"""

import atexit
import configparser
import itertools
import json
import os
import pathlib
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time

import yaml

import stores
from stores import Browser, check, new_key

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The application's user and group, another user, and a group that both are in.
APP, EVE, TEAM = 10001, 10002, 10003
PASSWD = f"root:x:0:0:root:/root:/bin/sh\napp:x:{APP}:{APP}::/:/bin/sh\neve:x:{EVE}:{EVE}::/:/bin/sh\n"
GROUP = f"root:x:0:\napp:x:{APP}:\neve:x:{EVE}:\nteam:x:{TEAM}:app,eve\n"
is_root = os.getuid() == 0
work = binary = tool = None


class Api(stores.Api):
    """The example in a process of its own, as some user; `refusal` is what it says where it does not start."""

    def __init__(self, key_file, user=APP, **settings):
        self.errors = tempfile.TemporaryFile()
        self.user = user
        environment = {"PATH": os.environ["PATH"], "PORT": "0", "SESSION_KEY_FILE": str(key_file)} | settings
        self.process = subprocess.Popen(
            as_user(user, binary), env=environment, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        atexit.register(self.process.kill)
        line = self.process.stdout.readline()
        self.port = int(line.rstrip("/\n").rsplit(":", 1)[1]) if line.startswith("listening on") else None
        if self.port is None:
            self.process.wait(timeout=20)
        self.refusal = None if self.port else self.log()


def as_user(user, *command):
    if not is_root or user == 0:
        return [str(word) for word in command]
    groups = f"{user},{TEAM}"
    return ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={groups}", "--", *map(str, command)]


def run(*words, user=0, text="", fine=True):
    done = subprocess.run(as_user(user, tool, *words), input=text, capture_output=True, text=True, timeout=60)
    if fine:
        check(f"sealed-session {' '.join(map(str, words))}", done.returncode == 0, done.stderr)
    return done


def until(what, happened, seconds=20):
    end = time.monotonic() + seconds
    while not happened():
        check(what, time.monotonic() < end)
        time.sleep(0.02)


def told(*words, **options):
    return json.loads(run(*words, "--json", **options).stdout)


numbers = itertools.count(1)


def folder(owner=0, group=None, mode=0o755, at=None):
    """A new one, in a way that is safe."""
    path = (at or work) / f"f{next(numbers)}"
    path.mkdir()
    own(path, owner, group, mode)
    return path


def own(path, owner, group=None, mode=0o600):
    if is_root:
        os.chown(path, owner, owner if group is None else group, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(mode)


def keys(at, owner=None, group=None, mode=0o600, text=None, name="session.keys"):
    path = at / name
    path.write_text(text or new_key())
    own(path, (APP if is_root else os.getuid()) if owner is None else owner, group, mode)
    return path


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def read_only(path):
    """The same folder or file once more, where nobody can write it."""
    copy = folder() if path.is_dir() else folder() / path.name
    if path.is_file():
        copy.touch()
    mount("--bind", path, copy)
    mount("-o", "remount,bind,ro", copy)
    return copy


def let_read(path, user, permissions):
    """`setfacl -m u:USER:PERMISSIONS`, as systemd does it; the mode's group bits then show the mask."""
    mode = path.stat().st_mode
    nobody = 0xFFFFFFFF
    entries = [(1, mode >> 6 & 7, nobody), (2, permissions, user), (4, 0, nobody), (16, permissions, nobody), (32, 0, nobody)]
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))


class Secret:
    """A secret's volume as the kubelet makes it: root's, on a file system in memory, swapped by a symbolic link."""

    def __init__(self, mode=0o644, group=None, mode_of_folder=0o1777):
        self.mode, self.group = (mode | 0o440, group) if group else (mode, 0)
        self.volume = folder()
        mount("-t", "tmpfs", "-o", f"mode={mode_of_folder:o}", "tmpfs", self.volume)
        self.round = 0

    def put(self, **files):
        self.round += 1
        new = self.volume / f"..2026_11_28_10_00_{self.round:02}.1"
        new.mkdir(mode=0o755)
        for name, text in files.items():
            keys(new, owner=0, group=self.group, mode=self.mode, text=text, name=name)
            if not (self.volume / name).is_symlink():
                (self.volume / name).symlink_to(f"..data/{name}")
        old = (self.volume / "..data").resolve() if self.round > 1 else None
        (self.volume / "..data_tmp").symlink_to(new.name)
        os.rename(self.volume / "..data_tmp", self.volume / "..data")
        if old:
            shutil.rmtree(old)
        return self


def served(what, path, user=APP):
    """The application starts with it, and keeps a session."""
    api = Api(path, user)
    check(f"{what}: it starts", api.refusal is None, api.refusal)
    browser = Browser(api)
    for n in (1, 2):
        status, body = browser.ask("POST", "/entries/n/increment")
        check(f"{what}: a session", (status, body) == (200, b"%d" % n), (status, body))
    api.stop()
    print(f"read     {what}")


def refused(what, path, *words, user=APP):
    """It does not, and says what is wrong, of what, and what to do."""
    api = Api(path, user)
    check(f"{what}: it does not start", api.port is None)
    for word in (*words, "SESSION_KEY_FILE", "KeyFile::allow_readable"):
        check(f"{what}: {word!r} is said", str(word) in api.refusal, api.refusal)
    check(f"{what}: in one line", api.refusal.count("\n") == 1, api.refusal)
    check(f"{what}: without the key", path.read_text() not in api.refusal, api.refusal)
    print(f"refused  {what}")


def without_root():
    me = APP if is_root else os.getuid()
    served("the user's own file", keys(folder(me, mode=0o700)))
    served("one that only can be read", keys(folder(me, mode=0o700), mode=0o400))
    slip = keys(folder(), mode=0o644)
    refused("a file after chmod 644", slip, slip, "has mode 0644", f"chmod 600 {slip}")
    shared = keys(folder(), mode=0o660)
    refused("a file that its group can write", shared, shared, "has mode 0660", f"chmod 600 {shared}")
    open_to_all = folder(mode=0o777)
    refused("a folder that others can write", keys(open_to_all), open_to_all, "0777", f"chmod go-w {open_to_all}")
    aside = folder()
    (aside / "session.keys").symlink_to(keys(open_to_all, name="elsewhere"))
    refused("a link into a folder that others can write", aside / "session.keys", open_to_all, "0777")
    (aside / "secrets").symlink_to(open_to_all)
    refused("a folder's link to one that others can write", aside / "secrets/session.keys", open_to_all, "0777")
    (aside / "back").symlink_to(f"../{open_to_all.name}/../{open_to_all.name}")
    refused("and by a way with dots", aside / "back/session.keys", open_to_all, "0777")


def own_files():
    served("root's file, which a group can read", keys(folder(), owner=0, group=APP, mode=0o640))
    sticky = folder(mode=0o1777)
    served("a file in a sticky folder, such as /tmp", keys(sticky))
    served("a home under umask 002", keys(folder(owner=APP, mode=0o2775)))
    listed = folder(owner=APP)
    let_read(listed, EVE, 7)
    refused("the same where an access list lets somebody else write", keys(listed), listed, "mode 0770", f"chmod go-w {listed}")
    group = folder(owner=APP, group=TEAM, mode=0o770)
    refused("a folder that a group can write", keys(group), group, "mode 0770", f"chmod go-w {group}")
    roots = folder(owner=0, group=APP, mode=0o775)
    refused("the same in root's hand and with root's process", keys(roots, owner=0, group=0), roots, "mode 0775", user=0)
    refused("root's file, which a group can write", keys(folder(), owner=0, group=APP, mode=0o660), "mode 0660")
    refused("the application's own file, which a group can read", keys(folder(), group=TEAM, mode=0o640), "mode 0640")
    eves = folder(owner=EVE)
    refused("a folder of somebody else", keys(eves), eves, f"belongs to user {EVE}", f"chown {APP} {eves}")
    hers = keys(folder(), owner=EVE, group=TEAM, mode=0o640)
    refused("a file of somebody else", hers, hers, f"belongs to user {EVE}", f"chown {APP} {hers}")
    hers = folder(owner=EVE, at=sticky)
    refused("somebody else's folder in a sticky one", keys(hers), sticky, "mode 1777")
    (sticky / "link").symlink_to(keys(folder()))
    own(sticky / "link", EVE)
    refused("somebody else's link in a sticky folder", sticky / "link", sticky, "mode 1777")
    refused("a secret's file where it can be written", keys(folder(), owner=0, mode=0o444), "mode 0444", "chmod 600")


def kubernetes():
    old, new = new_key(), new_key()
    secret = Secret().put(**{"session.keys": old})
    mounted = read_only(secret.volume)
    path = mounted / "session.keys"
    served("Kubernetes' secret", path)
    served("Kubernetes' secret, for root in the container", path, user=0)
    served("Kubernetes' secret with defaultMode 0400 and fsGroup", read_only(
        Secret(0o400, APP).put(**{"session.keys": old}).volume) / "session.keys")
    served("the same on a mount that can be written", Secret(0o400, APP, 0o755).put(**{"session.keys": old}).volume / "session.keys")
    served("Kubernetes' secret by subPath", read_only((secret.volume / "session.keys").resolve()))

    # Swapped under the running server, which sees it at the next look.
    api = Api(path)
    visitors = [Browser(api) for _ in range(3)]
    counts = [0] * len(visitors)

    def visit():
        for n, visitor in enumerate(visitors):
            status, body = visitor.ask("POST", "/entries/n/increment")
            counts[n] += 1
            check("nobody is logged out", (status, body) == (200, b"%d" % counts[n]), (status, body))

    def sealed_by(key):
        fresh = Browser(api)
        fresh.ask("POST", "/entries/n/increment")
        return run("inspect", "--file", key, text=fresh.cookie, fine=False).returncode == 0

    visit()
    of_old, of_new = keys(folder(), owner=0, text=old), keys(folder(), owner=0, text=new)
    check("the old key seals", sealed_by(of_old))
    secret.put(**{"session.keys": f"{new},{old}"})
    until("the new key seals", lambda: sealed_by(of_new))
    visit()
    secret.put(**{"session.keys": new})
    until("the old key is gone", lambda: not sealed_by(of_old))
    visit()
    # Slips are told, and cost nobody anything.
    secret.put(**{"session.keys": "hunter2"})
    until("the slip is told", lambda: visit() or "keys_failed" in api.log())
    secret.mode = 0o666
    secret.put(**{"session.keys": new})
    until("and the next", lambda: visit() or "has mode 0666" in api.log())
    check("no key is in the log", "hunter2" not in api.log() and new not in api.log())
    api.stop()
    print("swapped  Kubernetes' secret, under a running server")


def docker():
    secret = keys(folder(), owner=0, mode=0o444)
    served("Docker's secret", read_only(secret))
    served("a file from the host, mounted with :ro", read_only(keys(folder(), owner=EVE, mode=0o644)))
    served("a folder from the host, mounted with :ro", read_only(keys(folder(owner=EVE, mode=0o777), owner=EVE, mode=0o644).parent) / "session.keys")
    theirs = read_only(keys(folder(), owner=EVE, mode=0o664))
    refused("the same where its group can write it", theirs, theirs, "mode 0664")


def systemd():
    """`LoadCredential`: for the user alone; where systemd cannot give files away, root's with an entry for the user."""
    source = keys(folder(), owner=0).read_text()
    for what, owner in [("its user's", APP), ("root's, with an access list", 0)]:
        run_folder = folder()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", run_folder)
        credentials = folder(at=run_folder)
        path = keys(credentials, owner=owner, mode=0o400, text=source)
        own(credentials, owner, mode=0o500)
        if owner == 0:
            try:
                let_read(path, APP, 4)
                let_read(credentials, APP, 5)
            except OSError as error:
                print(f"SKIPPED: {what}: {error}")
                continue
        served(f"systemd's LoadCredential, {what}", path)
        mount("-o", "remount,ro", run_folder)
        served(f"systemd's LoadCredential, {what}, mounted to be read", path)


def vault():
    """An agent beside the application, which writes as another user into a volume that both can write."""
    shared = folder(mode=0o777)
    secret = keys(shared, owner=EVE, group=TEAM, mode=0o640)
    refused("Vault's agent, unless it is said", secret, shared, "mode 0777")
    done = run("keys", "list", "--file", secret, user=APP, fine=False)
    check("the tool refuses it as well", done.returncode == 2 and "--allow-readable" in done.stderr, done.stderr)
    run("keys", "list", "--file", secret, "--allow-readable", user=APP)
    served("Vault's agent as the same user, in a folder of its own", keys(folder(owner=APP, mode=0o700), mode=0o400))
    print("read     Vault's agent, where it is said")


def changed_by_root():
    """Who rotates as root does not take the file away from the application, nor replace a link."""
    for owner, group, mode in [(APP, APP, 0o600), (0, APP, 0o440)]:
        real = keys(folder(owner=APP if owner else 0), owner=owner, group=group, mode=mode)
        link = folder() / "session.keys"
        link.symlink_to(real)
        api = Api(link)
        browser = Browser(api)
        browser.ask("POST", "/entries/n/increment")
        # For root the application's own folder is somebody else's.
        if owner:
            done = run("keys", "rotate", "--file", link, fine=False)
            check("as root's only where it is said", f"belongs to user {APP}" in done.stderr, done.stderr)
        run("keys", "rotate", "--file", link, *(["--allow-readable"] if owner else []))
        found = real.stat()
        check("owner, group and mode stay", (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, group, mode), found)
        check("the link stays", link.is_symlink())
        check("nothing is left behind", [path.name for path in real.parent.iterdir()] == ["session.keys"])

        def by_the_new_key():
            browser.ask("POST", "/entries/n/increment")
            return told("inspect", "--file", link, "--allow-readable", text=browser.cookie)["key"] == primary(link)

        until("the application goes on with the new key", by_the_new_key)
        check("without a slip", "keys_failed" not in api.log(), api.log())
        api.stop()
    print("rotated  by root, under a running server of another user")


def primary(path):
    listed = told("keys", "list", "--file", path, "--allow-readable")["keys"]
    return next(key["id"] for key in listed if key["state"] == "primary")


def fences(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def documented():
    """What the pages say is what is set up, and the application starts in it."""
    documents = [d for text in fences("docs/kubernetes.md", "yaml") for d in yaml.safe_load_all(text)]
    (deployment,) = [d for d in documents if d["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"].get("fsGroup")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for point in container["volumeMounts"]:
        spec = volumes[point["name"]]["secret"]
        check("no subPath, which is not updated", "subPath" not in point)
        secret = Secret(spec.get("defaultMode", 0o644), group).put(**{"session.keys": new_key()})
        at = pathlib.Path(point["mountPath"])
        check("under /run, which is this test's", at.is_relative_to("/run"), at)
        at.mkdir(parents=True)
        mount("--bind", secret.volume, at)
        mount("-o", "remount,bind,ro", at)
    given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    check("the key file is where the secret is mounted", given["SESSION_KEY_FILE"].startswith(str(at)), given)
    served("docs/kubernetes.md", given["SESSION_KEY_FILE"], user)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    check("it selects its pods", deployment["spec"]["selector"]["matchLabels"].items() <= labels.items())
    for service in [d for d in documents if d["kind"] == "Service"]:
        check("the service selects them, too", service["spec"]["selector"].items() <= labels.items())
    ports = {port["name"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        if probe in container:
            check(f"{probe} asks a port that there is", next(iter(container[probe].values()))["port"] in ports)

    (compose,) = [yaml.safe_load(text) for text in fences("docs/operations.md", "yaml")]
    (service,) = compose["services"].values()
    (name,) = service["secrets"]
    check("the secret is declared", name in compose["secrets"])
    at = pathlib.Path("/run/secrets")
    at.mkdir(exist_ok=True)
    # The host's file as it is, given to the user of the container as the page says.
    (chown,) = [line for text in fences("docs/operations.md", "sh") for line in text.splitlines() if "chown" in line]
    check("it is given to the container's user", chown.split()[-2:] == [service["user"], name], chown)
    secret = keys(folder(), owner=int(service["user"]), name=name)
    (at / name).touch()
    mount("--bind", secret, at / name)
    mount("-o", "remount,bind,ro", at / name)
    served("docs/operations.md, Docker", service["environment"]["SESSION_KEY_FILE"], int(service["user"]))

    (text,) = fences("docs/operations.md", "ini")
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read_string(text)
    name, _ = unit["Service"]["LoadCredential"].split(":", 1)
    variable, value = unit["Service"]["Environment"].split("=", 1)
    check("the variable", variable == "SESSION_KEY_FILE", variable)
    credentials = folder()
    path = keys(credentials, mode=0o400, name=name)
    own(credentials, APP, mode=0o500)
    check("the credential", pathlib.Path(value.replace("%d", str(credentials))) == path, value)
    served("docs/operations.md, systemd", path)


def main():
    global work, binary, tool
    given = [pathlib.Path(argument).resolve() for argument in sys.argv[1:3]]
    work = pathlib.Path(tempfile.mkdtemp(prefix="sealed-session-keys-"))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    work.chmod(0o755)
    binary, tool = given
    if not is_root:
        without_root()
        print("SKIPPED: key files of other users, on mounts of their own, need root")
        return
    # Where the application's user finds them, whatever folder this is.
    binary, tool = (pathlib.Path(shutil.copy(path, work)) for path in given)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for path, text in [("/etc/passwd", PASSWD), ("/etc/group", GROUP)]:
        mount("--bind", keys(folder(), owner=0, mode=0o644, text=text), path)
    for group in (without_root, own_files, kubernetes, docker, systemd, vault, changed_by_root, documented):
        group()
    print("key files: all as it should be")


if __name__ == "__main__":
    if is_root and "KEY_FILES_INSIDE" not in os.environ:
        inside = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvpe(inside[0], inside, os.environ | {"KEY_FILES_INSIDE": "1"})
    main()
