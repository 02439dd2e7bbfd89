#!/usr/bin/env python3
"""What an operator does to running servers: rotating keys, revoking one, ending sessions and subjects.

usage: tests/servers.py tests/operations.py target/debug/examples/api target/debug/sealed-session
       (both built with --all-features)

Three processes of the example `api` serve browsers that ask any of them, while the tool changes keys and sessions.
Ends at the first thing that is not as it should be.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

import stores
from stores import Api, Browser, check, new_key

REVOCATION_MS = 1000
tool = None


def run(*words, text="", **environment):
    """The tool's JSON answer."""
    done = subprocess.run(
        [tool, *words, "--json"], input=text, capture_output=True, text=True, env=os.environ | environment, timeout=60
    )
    check(f"sealed-session {' '.join(words)}", done.returncode in (0, 1), done.stderr)
    return json.loads(done.stdout)


def until(what, happened, seconds=20):
    """Waits for other processes to notice, and no longer than it takes."""
    end = time.monotonic() + seconds
    while not happened():
        check(what, time.monotonic() < end)
        time.sleep(0.02)


class Visitor(threading.Thread):
    """Counts in one session, at any of the nodes, and knows what it must find there."""

    def __init__(self, nodes, seed):
        super().__init__(daemon=True)
        self.nodes, self.random = nodes, random.Random(seed)
        self.cookie, self.count, self.lost, self.going = None, 0, [], True
        self.step()

    def step(self):
        browser = Browser(self.random.choice(self.nodes), self.cookie)
        status, body = browser.ask("POST", "/entries/n/increment")
        self.count += 1
        if status != 200 or json.loads(body) != self.count:
            self.lost.append((status, body, self.count))
            self.count = json.loads(body) if status == 200 else 0
        self.cookie = browser.cookie

    def run(self):
        while self.going:
            self.step()


def key_of(browser, ring):
    return run("inspect", "--file", ring, text=browser.cookie)["key"]


def rotations(folder):
    """A scheduled rotation and an emergency one, with a key file per node, brought to one after the other."""
    files = [str(folder / f"node-{n}.keys") for n in range(3)]
    run("keys", "rotate", "--file", files[0])
    for other in files[1:]:
        pathlib.Path(other).write_bytes(pathlib.Path(files[0]).read_bytes())
        os.chmod(other, 0o600)
    nodes = [Api("none", SESSION_KEY_FILE=file) for file in files]
    visitors = [Visitor(nodes, seed) for seed in range(6)]
    for visitor in visitors:
        visitor.start()
    idle = [Browser(nodes[0]) for _ in range(2)]
    for browser in idle:
        browser.put("n", 1)
    first = key_of(idle[0], files[0])

    def everywhere(*words, text="", pause=0.3):
        for file in files:
            run("keys", *words, "--file", file, text=text)
            time.sleep(pause)

    def seals(key):
        fresh = [Browser(node) for node in nodes]
        for browser in fresh:
            browser.put("n", 1)
        return all(key_of(browser, file) == key for browser, file in zip(fresh, files))

    # Scheduled: every node has it before any seals with it.
    secret = new_key()
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    everywhere("rotate", "--key-stdin", "--at", at, text=secret)
    second = next(key["id"] for key in run("keys", "list", "--file", files[0])["keys"] if key["state"] == "pending")
    until("the pending key seals in time", lambda: seals(second))

    # In an emergency: brought to all as pending, then made the primary at once, one node after the other.
    secret = new_key()
    everywhere("rotate", "--key-stdin", "--at", "2999-01-01T00:00:00Z", text=secret)
    # A node looks when requests come in, of which there are plenty, once a second.
    time.sleep(1.2)
    everywhere("rotate", "--key-stdin", text=secret)
    third = run("keys", "list", "--file", files[0])["keys"][0]["id"]
    until("the emergency's key seals", lambda: seals(third))

    # The key before it has leaked: what it had sealed is worth nothing, and nobody else notices.
    held = idle[1].cookie
    idle[0].get("/session")
    check("re-sealed when it came back", key_of(idle[0], files[0]) == third)
    everywhere("revoke", first, pause=0)
    for node in nodes:
        until("the revoked key opens nothing", lambda: Browser(node, held).get("/session")["rejection"] == "revoked_key")
    for visitor in visitors:
        visitor.going = False
    for visitor in visitors:
        visitor.join()
        check("no session was lost", visitor.lost == [], visitor.lost)
        check("there was load", visitor.count > 50, visitor.count)
    check("who was re-sealed goes on", Browser(nodes[2], idle[0].cookie).get("/session")["origin"] == "resumed")
    for node in nodes:
        node.stop()
    total = sum(visitor.count for visitor in visitors)
    print(f"ok  two rotations under load over three nodes: {total} requests of {len(visitors)} sessions, none lost", flush=True)


def leaked(folder):
    """The primary of a shared key file has leaked."""
    file = str(folder / "shared.keys")
    run("keys", "rotate", "--file", file)
    nodes = [Api("none", SESSION_KEY_FILE=file) for _ in range(3)]
    older = [Browser(node) for node in nodes]
    for browser in older:
        browser.put("n", 1)
    older_key = key_of(older[0], file)
    # Cookies of an older key, whose browsers are away while the primary leaks.
    done = run("keys", "rotate", "--file", file)
    leak = next(key["id"] for key in done["keys"] if key["state"] == "primary")
    held = [Browser(node) for node in nodes]
    for browser in held:
        until("the new key seals", lambda: browser.put("n", 1) or key_of(browser, file) == leak or setattr(browser, "cookie", None))
    run("keys", "revoke", leak, "--file", file)
    began = time.monotonic()
    for node in nodes:
        for browser in held:
            until("refused", lambda: Browser(node, browser.cookie).get("/session")["rejection"] == "revoked_key")
    delay = time.monotonic() - began
    check("within a reload interval and a moment", delay < 3, delay)
    for node, browser in zip(nodes[1:] + nodes[:1], older):
        there = Browser(node, browser.cookie)
        seen = there.get("/session")
        check("sealed by another key", (seen["origin"], seen["entries"]) == ("resumed", {"n": 1}), seen)
        check("and now by the fresh one", key_of(there, file) not in (leak, older_key))
    for node in nodes:
        node.stop()
    print(f"ok  a leaked primary is revoked: refused by all three nodes after {delay:.1f} s, and nobody else noticed", flush=True)


def ended(name, store):
    """Log out, then replay every cookie of the session's life; then the same for all sessions of a subject."""
    keys = new_key()
    here, there = [Api(store, keys, REVOCATION=str(REVOCATION_MS), SPILL_ABOVE="1000") for _ in range(2)]

    def life(subject, spills=True):
        browser, cookies = Browser(here), []

        def issued(*request):
            status, body = browser.ask(*request)
            check(f"{name}: {request}", status in (200, 204), (status, body))
            if browser.cookie not in cookies:
                cookies.append(browser.cookie)

        issued("PUT", "/entries/n", 1)
        issued("POST", "/login", {"subject": subject})
        issued("PUT", "/entries/n", 2)
        issued("POST", "/touch")
        if spills:
            issued("PUT", "/entries/large", "x" * 2000)
        issued("POST", "/duration", {"ms": 3_600_000})
        check(f"{name}: many cookies", len(cookies) >= 5 - (not spills), len(cookies))
        return browser, cookies

    def refused(node, cookie):
        return Browser(node, cookie).get("/session")["rejection"] == "revoked"

    for spills in (True, False):
        browser, cookies = life("eve", spills)
        live = [cookie for cookie in cookies if not refused(there, cookie)]
        check(f"{name}: the other process knows them", len(live) >= len(cookies) - 1, len(live))
        check(f"{name}: logged out", browser.ask("POST", "/destroy")[0] == 204)
        began = time.monotonic()
        for cookie in cookies:
            check(f"{name}: refused at once where it happened", refused(here, cookie))
        for cookie in cookies:
            until(f"{name}: refused elsewhere", lambda: refused(there, cookie))
        delay = time.monotonic() - began
        check(f"{name}: within the bound", delay < REVOCATION_MS / 1000 + 1, delay)

    lives = [life("ada") for _ in range(10)]
    bob, _ = life("bob")
    for browser, _ in lives:
        check(f"{name}: alive", Browser(there, browser.cookie).get("/session")["origin"] == "resumed")
    check(f"{name}: revoked", bob.ask("POST", "/revoke", {"subject": "ada"})[0] == 204)
    for browser, cookies in lives:
        for cookie in cookies:
            check(f"{name}: the subject's, at once", refused(here, cookie))
    for browser, cookies in lives:
        for cookie in cookies:
            until(f"{name}: the subject's, elsewhere", lambda: refused(there, cookie))
    for node in (here, there):
        check(f"{name}: another subject", Browser(node, bob.cookie).get("/session")["subject"] == "bob")
    again = Browser(there)
    check(f"{name}: and in again", again.ask("POST", "/login", {"subject": "ada"})[0] == 204)
    check(f"{name}: that is good", Browser(here, again.cookie).get("/session")["subject"] == "ada")

    # The same by the tool, which is a process of its own.
    seen = again.get("/session")
    run("revoke", "--session", seen["id"], SESSION_KEYS=keys, SEALED_SESSION_STORE=store)
    until(f"{name}: ended by the tool", lambda: refused(there, again.cookie) and refused(here, again.cookie))
    why = run("why", text=again.cookie, SESSION_KEYS=keys, SEALED_SESSION_STORE=store)
    check(f"{name}: the tool says so", why["reason"] == "revoked", why)

    phone, laptop = Browser(here), Browser(there)
    for browser, label in [(phone, "phone"), (laptop, "laptop")]:
        check(f"{name}: dan logs in", browser.ask("POST", "/login", {"subject": "dan"})[0] == 204)
        check(f"{name}: with a label", browser.ask("POST", "/label", {"label": label})[0] == 204)
    listed = lambda: run("list", "--subject", "dan", SESSION_KEYS=keys, SEALED_SESSION_STORE=store)["sessions"]
    handles = {line["label"]: line["handle"] for line in listed()}
    check(f"{name}: the tool lists both", sorted(handles) == ["laptop", "phone"], handles)
    run("revoke", "--subject", "dan", "--handle", handles["phone"], SESSION_KEYS=keys, SEALED_SESSION_STORE=store)
    until(f"{name}: the one is ended by the tool", lambda: refused(there, phone.cookie) and refused(here, phone.cookie))
    check(f"{name}: the other is listed", [line["handle"] for line in listed()] == [handles["laptop"]])
    check(f"{name}: and goes on", Browser(here, laptop.cookie).get("/session")["subject"] == "dan")

    run("revoke", "--subject", "bob", SESSION_KEYS=keys, SEALED_SESSION_STORE=store)
    until(f"{name}: the subject by the tool", lambda: refused(there, bob.cookie) and refused(here, bob.cookie))
    check(f"{name}: counted", run("count", SEALED_SESSION_STORE=store)["rows"] > 20)
    run("sweep", SEALED_SESSION_STORE=store)
    for node in (here, there):
        node.stop()
    print(f"ok  {name}: ended at once here, {delay:.1f} s later elsewhere, with a bound of {REVOCATION_MS / 1000} s", flush=True)


def main():
    global tool
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    stores.binary, tool = (os.path.abspath(path) for path in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        rotations(pathlib.Path(folder))
        leaked(pathlib.Path(folder))
    for name, variable in [("Redis", "TEST_REDIS"), ("PostgreSQL", "TEST_POSTGRES"), ("MariaDB", "TEST_MYSQL"), ("MongoDB wire", "TEST_MONGODB")]:
        check(f"{variable} is set; run tests/servers.py tests/operations.py ..", variable in os.environ)
        ended(name, os.environ[variable])


if __name__ == "__main__":
    main()
