#!/usr/bin/env python3
"""Drives the example interface against each networked engine: two processes over one store, on every framework.

usage: tests/servers.py python3 tests/engines.py target/debug/examples/api...

What stands in the store has to be the same for both processes: a session that outgrows its cookie, parallel writes, a login, a
token, a logout of everybody, the list of somebody's sessions. tests/stores has what a store alone has to do, and tests/stores.py what happens when one dies.
"""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

NAME = "__Host-Http-session"
ENGINES = ["TEST_REDIS", "TEST_REDIS_CLUSTER", "TEST_MONGODB", "TEST_POSTGRES", "TEST_MYSQL"]
passed = 0


def equal(what, saw, wanted):
    global passed
    if saw != wanted:
        sys.exit(f"FAILED  {what}: wanted {wanted!r}; saw {saw!r}\n{passed} passed, 1 failed")
    passed += 1


@contextmanager
def api(binary, **settings):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_")}
    server = subprocess.Popen([binary], env=inherited | {"PORT": "0"} | settings, stdout=subprocess.PIPE, text=True)
    too_slow = threading.Timer(60, server.kill)
    too_slow.start()
    try:
        line = server.stdout.readline()
        if not line.startswith("listening on"):
            sys.exit(f"FAILED  {os.path.basename(binary)} with {settings['STORE']} did not start")
        too_slow.cancel()
        yield int(line.strip().rstrip("/").rpartition(":")[2])
    finally:
        too_slow.cancel()
        server.kill()
        server.wait()


class Browser:
    def __init__(self, cookies=None):
        self.cookies = dict(cookies or {})

    def ask(self, port, method, path, value=None):
        """Status and value, with the cookies kept."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        connection.request(method, path, None if value is None else json.dumps(value), headers)
        answer = connection.getresponse()
        body = answer.read()
        for line in answer.headers.get_all("set-cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if "; Max-Age=0;" not in line:
                self.cookies[name] = value
        connection.close()
        return answer.status, json.loads(body) if body else None


def drive(binary, engine, address):
    told = lambda what: f"{os.path.basename(binary)}, {engine}: {what}"
    keys = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    settings = {"SESSION_KEYS": keys, "STORE": address, "REVOCATION": "every-request"}
    with api(binary, **settings) as one, api(binary, **settings) as two:
        browser = Browser()
        large = "x" * 6_000
        equal(told("a large value"), browser.ask(one, "PUT", "/entries/large", large)[0], 204)
        session = browser.ask(two, "GET", "/session")[1]
        equal(told("is in the store, for the other node too"), (session["placement"], session["entries"]["large"]), ("store", large))

        # Sixteen at once, on both nodes, of one session: none is lost.
        def count(port):
            Browser(browser.cookies).ask(port, "POST", "/entries/n/increment")

        threads = [threading.Thread(target=count, args=(port,)) for port in [one, two] * 8]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        equal(told("parallel increments"), browser.ask(one, "GET", "/entries/n"), (200, 16))

        token = browser.ask(one, "GET", "/csrf")[1]
        equal(told("a token of the other node"), browser.ask(two, "POST", "/csrf", {"token": token})[0], 204)
        before = Browser(browser.cookies)
        equal(told("a login"), browser.ask(one, "POST", "/login", {"subject": "ada"})[0], 204)
        session = browser.ask(two, "GET", "/session")[1]
        equal(told("keeps what is there"), (session["subject"], session["entries"]), ("ada", {"large": large, "n": 16}))
        equal(told("the cookie from before it"), before.ask(two, "GET", "/session")[1]["rejection"], "revoked")
        equal(told("the token from before it"), browser.ask(two, "POST", "/csrf", {"token": token})[0], 403)
        equal(told("a message"), browser.ask(one, "POST", "/flash", {"text": "saved"})[0], 204)
        equal(told("read on the other node"), browser.ask(two, "GET", "/flash")[1], ["saved"])
        equal(told("and nowhere again"), browser.ask(one, "GET", "/flash")[1], [])

        small = Browser()
        small.ask(two, "POST", "/login", {"subject": "ada"})
        equal(told("a second session, in its cookie"), small.ask(one, "GET", "/session")[1]["placement"], "cookie")
        both = Browser({NAME: f"{small.cookies[NAME]}; {NAME}={browser.cookies[NAME]}"})
        equal(told("a logout with both"), both.ask(one, "POST", "/destroy")[0], 204)
        equal(told("leaves no cookie"), both.cookies, {})
        for other, where in [(small, "in its cookie"), (browser, "in the store")]:
            equal(told(f"ends that {where}"), other.ask(two, "GET", "/session")[1]["rejection"], "revoked")
        other = Browser()
        other.ask(one, "POST", "/login", {"subject": "bob"})
        equal(told("everybody of a subject"), other.ask(two, "POST", "/revoke", {"subject": "bob"})[0], 204)
        equal(told("is out on the other node"), other.ask(one, "GET", "/session")[1]["rejection"], "revoked")


def devices(binary, engine, address):
    """The list of a subject's sessions, from both nodes; and a bound in time, because they ask now and then."""
    told = lambda what: f"{os.path.basename(binary)}, {engine}: {what}"
    keys = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    bound = 0.3
    settings = {"SESSION_KEYS": keys, "STORE": address, "REVOCATION": str(round(bound * 1000))}

    def logged_in(port, label):
        browser = Browser()
        equal(told(f"{label} logs in"), browser.ask(port, "POST", "/login", {"subject": "ada"})[0], 204)
        equal(told(f"{label} has a name"), browser.ask(port, "POST", "/label", {"label": label})[0], 204)
        return browser

    def labels(browser, port):
        return sorted(line["label"] for line in browser.ask(port, "GET", "/sessions")[1])

    def goes_on(browser, port):
        return browser.ask(port, "GET", "/session")[1]["rejection"] is None

    def rejection(browser, port, ended):
        """Why it is out, or none. Asks with one cookie until it is, or until what was asked after the bound was let in."""
        while True:
            asked = time.monotonic()
            reason = Browser(browser.cookies).ask(port, "GET", "/session")[1]["rejection"]
            if reason is not None or asked - ended > bound:
                return reason

    with api(binary, **settings) as one, api(binary, **settings) as two:
        phone, laptop = logged_in(one, "phone"), logged_in(two, "laptop")
        for port in (one, two):
            for browser in (phone, laptop):
                equal(told("both nodes list both"), labels(browser, port), ["laptop", "phone"])
        [handle] = [line["handle"] for line in phone.ask(one, "GET", "/sessions")[1] if not line["current"]]
        # So that this node knows by now that it goes on.
        equal(told("both go on"), (goes_on(phone, one), goes_on(laptop, two)), (True, True))
        equal(told("ended from the other node"), phone.ask(one, "POST", "/sessions/end", {"handle": handle})[0], 204)
        equal(told("out within the bound"), rejection(laptop, two, time.monotonic()), "revoked")
        equal(told("and out of the list"), (labels(phone, one), labels(phone, two)), (["phone"], ["phone"]))
        equal(told("the other goes on"), (goes_on(phone, one), goes_on(phone, two)), (True, True))
        equal(told("nothing to end twice"), phone.ask(two, "POST", "/sessions/end", {"handle": handle})[0], 404)

    with api(binary, **settings, MAX_SESSIONS="1") as one, api(binary, **settings, MAX_SESSIONS="1") as two:
        equal(told("after a restart it stands there"), labels(phone, two), ["phone"])
        laptop = logged_in(two, "laptop")
        ended = time.monotonic()
        equal(told("a limit of one: where the login was the older is out at once"), goes_on(phone, two), False)
        equal(told("elsewhere within the bound"), rejection(phone, one, ended), "revoked")
        equal(told("one is left"), (labels(laptop, one), labels(laptop, two)), (["laptop"], ["laptop"]))

        # Logins at the same time, on both nodes: one of them is left.
        racing = [Browser() for _ in range(6)]
        threads = [
            threading.Thread(target=browser.ask, args=(port, "POST", "/login", {"subject": "ada"}))
            for browser, port in zip(racing, [one, two] * 3)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        ended = time.monotonic()
        left = [browser for browser in racing if browser.cookies and rejection(browser, one, ended) is None]
        equal(told("of logins at the same time one is left"), len(left), 1)
        equal(told("and it is listed"), len(left[0].ask(two, "GET", "/sessions")[1]), 1)


def main():
    binaries = [os.path.abspath(binary) for binary in sys.argv[1:]]
    addresses = {engine: os.environ.get(engine) for engine in ENGINES}
    if not binaries or None in addresses.values():
        sys.exit("usage: tests/servers.py python3 tests/engines.py target/debug/examples/api...")
    for binary in binaries:
        before = passed
        for engine, address in addresses.items():
            drive(binary, engine.removeprefix("TEST_").lower(), address)
            devices(binary, engine.removeprefix("TEST_").lower(), address)
        print(f"ok  {os.path.basename(binary)} over {len(addresses)} engines ({passed - before})", flush=True)
    print(f"{passed} passed, 0 failed")


main()
