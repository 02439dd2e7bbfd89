#!/usr/bin/env python3
"""A browser that holds two cookies of one name, after a release has changed the path or the domain: who logs out is logged out,
in real Chromium. Without `formerly` and a store the same logout leaves the user logged in, so that the test can fail.

usage: tests/formerly.py target/debug/examples/api...
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import login
from login import Failed, check, chromium, equal

NAME = "session"
HOST = "www.shop.test"


@contextmanager
def release(binary, keys, **settings):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_")}
    settings = {"PORT": "0", "SESSION_KEYS": keys, "COOKIE_NAME": NAME, "SECURE": "never"} | settings
    server = subprocess.Popen([binary], env=inherited | settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = int(server.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        yield f"http://{HOST}:{port}"
    finally:
        server.kill()
        server.wait()


def post(browser, url, path, value=None):
    """By a page of the application itself."""
    browser.open(url + "/untouched")
    source = """return fetch(arguments[0], { method: 'POST', body: JSON.stringify(arguments[1]),
        headers: { 'content-type': 'application/json' } }).then(answer => answer.status)"""
    status = browser.script(source, path, value)
    check(f"{path} is answered well", status in (200, 204), status)


def subject(browser, url):
    browser.open(url + "/session")
    return json.loads(browser.texts("body")[0])["subject"]


def held(browser, url):
    """How many cookies of the name the browser sends to /session."""
    browser.open(url + "/session")
    return sum(cookie["name"] == NAME for cookie in browser.call("GET", "/cookie"))


# What a release had, what the next one has, and how that says what was before.
CHANGES = [
    ("the path, from one page to all", {"COOKIE_PATH": "/session"}, {}, "/session"),
    ("the domain, from one host to all", {}, {"COOKIE_DOMAIN": "shop.test"}, "/"),
    ("the domain, from all hosts to one", {"COOKIE_DOMAIN": "shop.test"}, {}, "shop.test/"),
    ("both", {"COOKIE_DOMAIN": "shop.test", "COOKIE_PATH": "/session"}, {}, "shop.test/session"),
]


def drive(binary, browser):
    keys = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    for what, before, after, formerly in CHANGES:
        both_are_sent = before.get("COOKIE_PATH") is None
        for store in ["none", "memory"]:
            for named in [False, True]:
                told = f"{what}, store {store}, {'named' if named else 'not named'}"
                settings = after | {"STORE": store} | ({"FORMERLY": formerly} if named else {})
                with (
                    release(binary, keys, **before) as old,
                    # With a store a login ends the session that it finds. Here it is to be the logout that does.
                    release(binary, keys, **after) as storeless,
                    release(binary, keys, **settings) as new,
                ):
                    post(browser, old, "/login", {"subject": "ada"})
                    equal(f"{told}: logged in before the release", subject(browser, old), "ada")
                    post(browser, storeless, "/login", {"subject": "ada"})
                    equal(f"{told}: and after it", subject(browser, new), "ada")
                    equal(f"{told}: two cookies", held(browser, new), 2)
                    # Where the browser sends both, the old one goes with the next cookie that is issued.
                    post(browser, new, "/entries/n/increment")
                    gone = named and both_are_sent
                    equal(f"{told}: after an issue", held(browser, new), 1 if gone else 2)
                    post(browser, new, "/destroy")
                    out = named or (store == "memory" and both_are_sent)
                    equal(f"{told}: after the logout", subject(browser, new), None if out else "ada")
                    if named:
                        equal(f"{told}: no cookie is left", held(browser, new), 0)
                    browser.open(new + "/session")
                    browser.call("DELETE", "/cookie")
                    equal(f"{told}: the jar is empty for the next", held(browser, new), 0)


def main():
    binaries = [os.path.abspath(binary) for binary in sys.argv[1:]]
    if not binaries or not all(os.access(binary, os.X_OK) for binary in binaries):
        sys.exit("usage: tests/formerly.py target/debug/examples/api...")
    missing = [program for program in ("chromium", "chromedriver") if not shutil.which(program)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    with chromium("--host-resolver-rules=MAP *.shop.test 127.0.0.1") as browser:
        for binary in binaries:
            before = login.passed
            try:
                drive(binary, browser)
            except Failed as failure:
                print(f"FAILED  {os.path.basename(binary)}: {failure}", flush=True)
                sys.exit(f"{login.passed} passed, 1 failed")
            print(f"ok  {os.path.basename(binary)} ({login.passed - before})", flush=True)
    print(f"{login.passed} passed, 0 failed")


main()
