#!/usr/bin/env python3
"""Drives the example `api` from outside, over real sockets: every route, every setting.

usage: tests/api.py target/debug/examples/api

Needs nothing but Python 3. Ends at the first thing that is not as it should be.
"""

import base64
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import datetime, timezone
from urllib.parse import quote, urlencode

SETTINGS = """PORT LOG TLS_CERT TLS_KEY SESSION_KEYS SESSION_KEY_FILE COOKIE_NAME COOKIE_PATH COOKIE_DOMAIN FORMERLY SECURE SAME_SITE CROSS_SITE TRUSTED_ORIGINS PERSISTENT ROLLING
DURATION_MS ACTIVE_MS ABSOLUTE_MS IDLE_MS SPILL_ABOVE RESPONSE_HEAD_BUDGET RESPONSE_HEAD_RESERVE
STORE STORE_TIMEOUT_MS REVOCATION REVOCATION_FAILURE MAX_SESSIONS OVERFLOW DEVICE_BINDING PROOF_MS""".split()
DEFAULT_NAME = "__Host-Http-session"
DAY_MS = 24 * 3600 * 1000
FIELDS = set("id origin rejection placement bytes created_at expires_at remaining_ms subject authenticated_at fresh_ms device entries".split())

binary = None
groups = []
passed = 0


class Failed(Exception):
    pass


def check(what, fine, saw=None):
    global passed
    if not fine:
        raise Failed(f"{what}; saw {saw!r}")
    passed += 1


def equal(what, saw, wanted):
    check(f"{what}: wanted {wanted!r}", saw == wanted, saw)


def group(name):
    def add(f):
        groups.append((name, f))
        return f

    return add


# The server.


def environment(settings):
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return inherited | {name: str(value) for name, value in settings.items()}


@contextmanager
def api(**settings):
    """Runs the example on a free port, and yields the port once it says that it is ready."""
    with tempfile.TemporaryFile() as errors:
        server = subprocess.Popen(
            [binary],
            env=environment({"PORT": 0} | settings),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        too_slow = threading.Timer(20, server.kill)
        too_slow.start()
        try:
            line = server.stdout.readline()
            ready = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)/\n", line)
            errors.seek(0)
            check(f"the line that says it is ready, with {settings}", ready, (line, errors.read().decode()))
            yield int(ready[1])
            check("the server still lives", server.poll() is None, server.returncode)
        finally:
            too_slow.cancel()
            server.kill()
            server.wait()
            server.stdout.close()


def stores():
    """The stores that need no server, as far as this build has them."""
    run = subprocess.Popen([binary], env=environment({"PORT": 0, "STORE": "memory"}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    has_memory = bool(run.stdout.readline())
    run.kill()
    run.wait()
    run.stdout.close()
    return ["none", "memory"] if has_memory else ["none"]


def new_key():
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


# The client.


class Reply:
    def __init__(self, response, body):
        self.status = response.status
        self.body = body
        self.headers = response.getheaders()
        self.elapsed = 0.0

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    def json(self):
        return json.loads(self.body)


class Browser:
    """Keeps one cookie, as the wire has it: no library's opinion on what may be kept or sent."""

    def __init__(self, port, name=DEFAULT_NAME, cookie=None):
        self.port, self.name, self.cookie = port, name, cookie

    def at(self, port):
        return Browser(port, self.name, self.cookie)

    def ask(self, method, path, body=None, headers=None, cookie=None):
        sent = dict(headers or {})
        value = cookie if cookie is not None else self.cookie
        if value is not None:
            sent["Cookie"] = f"{self.name}={value}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        start = time.monotonic()
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        reply = Reply(response, response.read())
        reply.elapsed = time.monotonic() - start
        connection.close()
        for line in reply.all("set-cookie"):
            cookie = Cookie(line)
            if cookie.name == self.name:
                self.cookie = None if cookie.attributes.get("max-age") == "0" else cookie.value
        return reply

    def send(self, method, path, value):
        return self.ask(method, path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def session(self):
        return self.ask("GET", "/session").json()

    def put(self, key, value):
        return self.send("PUT", f"/entries/{quote(key, safe='')}", value)

    def get(self, key):
        return self.ask("GET", f"/entries/{quote(key, safe='')}")


class Cookie:
    def __init__(self, line):
        pair, *attributes = line.split("; ")
        self.name, self.value = pair.split("=", 1)
        split = [attribute.partition("=") for attribute in attributes]
        self.attributes = {name.lower(): value for name, _, value in split}
        self.size = len(self.name) + len(self.value)


def cookie_of(reply):
    lines = reply.all("set-cookie")
    check("there is one Set-Cookie", len(lines) == 1, lines)
    return Cookie(lines[0])


def no_cookie(what, reply):
    equal(f"{what} sets no cookie", reply.all("set-cookie"), [])


def removed(what, reply):
    cookie = cookie_of(reply)
    equal(f"{what} removes the cookie", (cookie.value, cookie.attributes.get("max-age")), ("", "0"))
    return cookie


def error(what, reply, status):
    equal(f"{what}: status", reply.status, status)
    check(f"{what}: a message", isinstance(reply.json().get("error"), str), reply.body)
    return reply.json()


def moment(text):
    """Milliseconds since the epoch."""
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    check("a time is RFC 3339 with milliseconds", re.fullmatch(form, text), text)
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return round(at.timestamp() * 1000)


def life(session):
    """From the birth to the end, in milliseconds."""
    return moment(session["expires_at"]) - moment(session["created_at"])


def until(what, attempt):
    """Asks again until the answer is yes, for at most ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = attempt()
        if answer:
            return answer
    raise Failed(f"{what}: not within ten seconds")


def tick():
    """Lets the clock go on, by a millisecond or two: the precision that sessions have."""
    now = time.time()
    until("a clock that moves", lambda: time.time() > now + 0.002)


# What is checked.


@group("a request that does not use its session")
def untouched():
    with api() as port:
        browser = Browser(port)
        browser.put("a", 1)
        for cookie in [None, browser.cookie, "rubbish"]:
            reply = Browser(port, cookie=cookie).ask("GET", "/untouched")
            equal("/untouched", (reply.status, reply.json()), (200, {}))
            added = [reply.all(name) for name in ("set-cookie", "vary", "cache-control")]
            equal("/untouched gets no header", added, [[], [], []])


@group("the session told about")
def session():
    with api() as port:
        browser = Browser(port)
        reply = browser.ask("GET", "/session")
        new = reply.json()
        equal("GET /session", reply.status, 200)
        equal("Vary", reply.all("vary"), ["Cookie"])
        no_cookie("reading", reply)
        equal("its fields", set(new), FIELDS)
        told = {name: new[name] for name in ["origin", "rejection", "placement", "subject", "entries"]}
        equal(
            "a new session",
            told,
            {"origin": "new", "rejection": None, "placement": "cookie", "subject": None, "entries": {}},
        )
        check("the id is text", isinstance(new["id"], str) and len(new["id"]) >= 22, new["id"])
        equal("it lives a day", life(new), DAY_MS)
        equal("all of it remains", new["remaining_ms"], DAY_MS)
        off = abs(moment(new["created_at"]) - time.time() * 1000)
        check("it was born now", off < 5000, off)

        reply = browser.put("user", "ada")
        equal("PUT", (reply.status, reply.body), (204, b""))
        equal("Cache-Control", reply.all("cache-control"), ["no-store"])
        cookie = cookie_of(reply)
        equal("its name", cookie.name, DEFAULT_NAME)
        attributes = {"path": "/", "httponly": "", "secure": "", "samesite": "Lax", "max-age": "86400"}
        equal("its attributes", cookie.attributes, attributes)
        resumed = browser.session()
        equal("resumed", (resumed["origin"], resumed["rejection"]), ("resumed", None))
        equal("its entries", resumed["entries"], {"user": "ada"})
        equal("its size is that on the wire", resumed["bytes"], cookie.size)
        equal("its end stays", life(resumed), DAY_MS)
        check("a little less remains", DAY_MS - 20_000 < resumed["remaining_ms"] <= DAY_MS, resumed["remaining_ms"])
        again = browser.session()
        for name in ["id", "created_at", "expires_at"]:
            equal(f"{name} stays", again[name], resumed[name])


@group("entries")
def entries():
    with api() as port:
        browser = Browser(port)
        values = {
            "null": None,
            "yes": True,
            "zero": 0,
            "least": -(2**63),
            "most": 2**64 - 1,
            "half": 0.5,
            "text": "grüße \u0000 \U0001f980",
            "list": [1, [2, []], {"a": None}],
            "object": {"b": {"c": "d"}, "": 1},
            "a/b": 1,
            "ü ?#%&;=": 2,
            "..": 3,
            "x" * 200: 4,
        }
        for key, value in values.items():
            equal(f"PUT {key!r}", browser.put(key, value).status, 204)
            reply = browser.get(key)
            equal(f"GET {key!r}", (reply.status, reply.json()), (200, value))
        equal("all of them", browser.session()["entries"], values)
        no_cookie("setting what is there already", browser.put("text", values["text"]))
        no_cookie("reading", browser.get("text"))

        told = error("a key that is not there", browser.get("nobody"), 404)
        equal("which one", told["error"], 'no entry "nobody"')
        equal("DELETE", browser.ask("DELETE", "/entries/text").status, 204)
        error("what was deleted", browser.get("text"), 404)
        reply = browser.ask("DELETE", "/entries/text")
        equal("DELETE of nothing", reply.status, 204)
        no_cookie("DELETE of nothing", reply)

        for body in [b"", b"{", b"nonsense", b'"\xff"', b"1 2", b"[" * 5000]:
            error(f"body {body[:10]!r}", browser.ask("PUT", "/entries/bad", body), 400)
        error("nothing came of them", browser.get("bad"), 404)
        for kind in [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]:
            headers = {"Content-Type": kind} if kind else {}
            equal(f"content type {kind}", browser.ask("PUT", "/entries/kind", b"1", headers).status, 204)
        reply = browser.ask("GET", "/entries/%ff%00%zz")
        check("a key that is no text is the client's mistake", 400 <= reply.status < 500, reply.status)
        equal("a method that is not there", browser.ask("PATCH", "/entries/a").status, 405)
        equal("a path that is not there", browser.ask("GET", "/nowhere").status, 404)

        for key in values:
            browser.ask("DELETE", f"/entries/{quote(key, safe='')}")
        removed("deleting the last one", browser.ask("DELETE", "/entries/kind"))
        equal("a new session follows", browser.session()["origin"], "new")


@group("the size that a browser keeps")
def size():
    with api() as port:
        browser = Browser(port)
        browser.put("small", 1)
        told = error("a value of 5000", browser.put("big", "x" * 5000), 413)
        equal("the limit", told["limit"], 4096)
        check("the size", told["size"] > 4096, told)
        error("the refused value", browser.get("big"), 404)
        largest, refused = 0, 5000
        while refused - largest > 1:
            middle = (largest + refused) // 2
            reply = browser.at(port).put("big", "x" * middle)
            if reply.status == 204:
                largest = middle
                check("name + value are within the limit", cookie_of(reply).size <= 4096, cookie_of(reply).size)
            else:
                refused = middle
                check("the size is over the limit", error("too large", reply, 413)["size"] > 4096, reply.body)
        reply = browser.put("big", "x" * largest)
        size = cookie_of(reply).size
        # Padded to 32 bytes, which are 43 characters, so that the length tells less of what is in it.
        check("the largest comes within a block of the limit", 4096 - 43 < size <= 4096, size)
        told = browser.session()
        equal("bytes", told["bytes"], size)
        error("the old value stays", browser.put("big", "y" * refused), 413)
        equal("it is the old one", browser.get("big").json(), "x" * largest)
        error("a number that does not fit", browser.ask("POST", "/entries/number-with-a-long-name/increment"), 413)
        error("a subject that does not fit", browser.send("POST", "/login", {"subject": "s" * 100}), 413)
        equal("no subject was set", browser.session()["subject"], None)

        told = error("a value of 1 MiB", browser.put("big", "x" * 2**20), 413)
        equal("it is the session's to refuse", told["limit"], 4096)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
            wire.sendall(b"PUT /entries/huge HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
            answer = wire.recv(4096).decode()
        check("a body of 100 MB is refused unread", answer.startswith("HTTP/1.1 413 "), answer)
        check("with its size and the limit", '"size":99999999' in answer and '"limit":' in answer, answer)


@group("counting")
def counting():
    with api() as port:
        browser = Browser(port)
        for n in range(1, 4):
            reply = browser.ask("POST", "/entries/n/increment")
            equal("increment", (reply.status, reply.json()), (200, n))
        equal("GET", browser.get("n").json(), 3)
        for value in ["3", 1.5, None, [], {}, 2**64 - 1]:
            browser.put("odd", value)
            error(f"incrementing {value!r}", browser.ask("POST", "/entries/odd/increment"), 409)
            equal("it stays", browser.get("odd").json(), value)
        browser.put("n", 2**63 - 2)
        equal("up to the end", browser.ask("POST", "/entries/n/increment").json(), 2**63 - 1)
        error("past the end", browser.ask("POST", "/entries/n/increment"), 409)
        browser.put("n", -1)
        equal("up to zero", browser.ask("POST", "/entries/n/increment").json(), 0)


@group("clear, renew, touch, destroy")
def methods():
    with api() as port:
        browser = Browser(port)
        for path in ["/clear", "/renew", "/touch", "/destroy"]:
            reply = browser.ask("POST", path)
            equal(f"{path} on nothing", (reply.status, reply.body), (204, b""))
            no_cookie(f"{path} on nothing", reply)

        browser.put("a", 1)
        before = browser.session()
        tick()
        cookie_of(browser.ask("POST", "/renew"))
        after = browser.session()
        check("renew gives a new id", after["id"] != before["id"], after["id"])
        check("and a new birth", moment(after["created_at"]) > moment(before["created_at"]), after["created_at"])
        equal("and keeps the data", after["entries"], {"a": 1})

        tick()
        cookie_of(browser.ask("POST", "/touch"))
        touched = browser.session()
        equal("touch keeps id and birth", (touched["id"], touched["created_at"]), (after["id"], after["created_at"]))
        check("and moves the end", moment(touched["expires_at"]) > moment(after["expires_at"]), touched["expires_at"])

        cookie = removed("clear", browser.ask("POST", "/clear"))
        kept = {"path": "/", "httponly": "", "secure": "", "samesite": "Lax"}
        check("with the same attributes", kept.items() <= cookie.attributes.items(), cookie.attributes)
        equal("a new session follows", browser.session()["origin"], "new")

        browser.put("a", 1)
        reply = browser.ask("POST", "/destroy")
        equal("destroy", reply.status, 204)
        removed("destroy", reply)
        equal("a new session follows", browser.session()["origin"], "new")


@group("login")
def login():
    with api() as port:
        browser = Browser(port)
        browser.put("basket", ["tea"])
        before = browser.session()
        reply = browser.send("POST", "/login", {"subject": "ada"})
        equal("login", (reply.status, reply.body), (204, b""))
        after = browser.session()
        equal("the subject", after["subject"], "ada")
        check("login renews", after["id"] != before["id"], after["id"])
        equal("and keeps the data", after["entries"], {"basket": ["tea"]})
        check("authenticated just now", 0 <= after["fresh_ms"] < 10_000, after)
        equal("at the birth of the new id", after["authenticated_at"], after["created_at"])
        for path in ["/login", "/authenticate"]:
            before = browser.session()
            equal(path, browser.send("POST", path, {"subject": "ada"}).status, 204)
            again = browser.session()
            check(f"{path} as the same user renews", again["id"] != before["id"], again)
            check("and stamps anew", moment(again["authenticated_at"]) >= moment(before["authenticated_at"]), again)
            equal("and keeps the data", again["entries"], {"basket": ["tea"]})
        no_cookie("set_subject with who is there", browser.send("POST", "/subject", {"subject": "ada"}))
        browser.ask("POST", "/renew")
        equal("renewing is no authentication", browser.session()["authenticated_at"], again["authenticated_at"])

        for path, fresh in [("/login", True), ("/authenticate", True), ("/subject", False)]:
            browser.send("POST", "/login", {"subject": "ada"})
            browser.put("secret", "hers")
            browser.send("POST", path, {"subject": "bob"})
            his = browser.session()
            equal(f"{path} as another user: nothing of hers", (his["subject"], his["entries"]), ("bob", {}))
            equal(f"{path}: authenticated", (his["authenticated_at"] is not None, his["fresh_ms"] is not None), (fresh, fresh))
        browser.send("POST", "/subject", {"subject": "ada"})
        back = browser.session()
        equal("who comes back is not fresh", (back["subject"], back["authenticated_at"]), ("ada", None))
        browser.send("POST", "/login", {"subject": "bob"})
        browser.put("basket", ["coffee"])
        reply = browser.ask("POST", "/clear")
        check("clear keeps the subject", browser.session()["subject"] == "bob" and cookie_of(reply).value)
        for path in ["/login", "/authenticate", "/subject"]:
            for body in [{"subject": ""}, {"subject": 1}, {}, []]:
                error(f"{path} with {body}", browser.send("POST", path, body), 400)


@group("a login that is sent twice")
def login_twice():
    for store in stores():
        # At once, as by a double click; and again with the same cookie, because the answer was lost on its way.
        for at_once in [True, False]:
            with api(STORE=store) as port:
                browser = Browser(port)
                browser.put("basket", ["tea"])
                tabs = [browser.at(port) for _ in range(2)]
                answers = []
                clicks = [threading.Thread(target=lambda tab=tab: answers.append(tab.send("POST", "/login", {"subject": "ada"}))) for tab in tabs]
                for click in clicks:
                    click.start()
                    if not at_once:
                        click.join()
                for click in clicks:
                    click.join()
                equal(f"both logins succeed, store {store}", [answer.status for answer in answers], [204] * 2)
                told = [tab.session() for tab in tabs]
                equal(f"and have the basket, at once: {at_once}", [(one["subject"], one["entries"]) for one in told], [("ada", {"basket": ["tea"]})] * 2)
                check("in sessions of their own", told[0]["id"] != told[1]["id"])
                thief = browser.at(port)
                origin = thief.session()["origin"]
                equal("with a store the visitor's is over", origin, "resumed" if store == "none" else "rejected")
                if store != "none":
                    thief.send("POST", "/login", {"subject": "bob"})
                    bob = thief.session()
                    equal("nothing for another user", (bob["subject"], bob["entries"]), ("bob", {}))
                    equal("a logout with the cookie that is refused", browser.at(port).ask("POST", "/destroy").status, 204)
                    again = browser.at(port)
                    again.send("POST", "/login", {"subject": "ada"})
                    equal("leaves nothing to whoever logs in with it", again.session()["entries"], {})


@group("the list of a subject's sessions")
def roster():
    def logged_in(port, label=None, subject="ada"):
        browser = Browser(port)
        equal(f"a login of {subject}", browser.send("POST", "/login", {"subject": subject}).status, 204)
        if label is not None:
            equal("a label", browser.send("POST", "/label", {"label": label}).status, 204)
        return browser

    def listed(browser):
        reply = browser.ask("GET", "/sessions")
        equal("GET /sessions", reply.status, 200)
        return reply.json()

    def labels(browser):
        return sorted(line["label"] or "" for line in listed(browser))

    def own(browser):
        """Its own line."""
        lines = [line for line in listed(browser) if line["current"]]
        equal("one line is marked as its own", len(lines), 1)
        return lines[0]

    def end(browser, handle):
        return browser.send("POST", "/sessions/end", {"handle": handle})

    def out(browser):
        """At its next request: in this process whoever is ended is out at once."""
        told = browser.session()
        return (told["origin"], told["rejection"], told["subject"]) == ("rejected", "revoked", None)

    with api() as port:
        browser = logged_in(port, "x" * 120)
        told = error("without a store there is no list", browser.ask("GET", "/sessions"), 409)
        check("what there would have to be", ".store(..)" in told["error"], told)
        error("and nothing to end", end(browser, "x" * 22), 409)
        told = error("a label that is too long", browser.send("POST", "/label", {"label": "x" * 121}), 413)
        equal("by how much", (told["size"], told["limit"]), (121, 120))
        error("the list of nobody", Browser(port).ask("GET", "/sessions"), 401)
    if "memory" not in stores():
        return

    for revocation in ["every-request", "60000"]:
        with api(STORE="memory", REVOCATION=revocation) as port:
            phone, laptop = logged_in(port, "phone"), logged_in(port, "laptop")
            bob = logged_in(port, "bob's", "bob")
            lines = listed(phone)
            equal("its fields", set(lines[0]), {"handle", "label", "authenticated_at", "seen_at", "current"})
            equal("both are there", labels(phone), ["laptop", "phone"])
            equal("in both", labels(laptop), ["laptop", "phone"])
            equal("bob has his own", labels(bob), ["bob's"])
            equal("each is marked in its own", (own(phone)["label"], own(laptop)["label"]), ("phone", "laptop"))
            handles = [line["handle"] for line in lines]
            equal("for all alike", sorted(handles), sorted(line["handle"] for line in listed(laptop)))
            check("a handle is text", all(re.fullmatch(r"[\w-]{22}", handle) for handle in handles), handles)
            check("and no id", not {phone.session()["id"], laptop.session()["id"]} & set(handles), handles)
            equal("when it logged in", own(phone)["authenticated_at"], phone.session()["authenticated_at"])
            check("the hour of the last use", own(phone)["seen_at"].endswith(":00:00.000Z"), own(phone))
            check("is this one", 0 <= time.time() * 1000 - moment(own(phone)["seen_at"]) < 2 * 3600 * 1000, own(phone))

            # What is in nobody's power.
            stranger = Browser(port)
            error("the list of nobody", stranger.ask("GET", "/sessions"), 401)
            error("ended by nobody", end(stranger, handles[0]), 401)
            no_cookie("being told so", stranger.ask("GET", "/sessions"))
            error("ended by another subject", end(bob, own(phone)["handle"]), 404)
            for handle in ["", "x", "x" * 22, phone.session()["id"], own(phone)["handle"] + "=", "\0", "x" * 5000]:
                error(f"the handle {handle[:30]!r}", end(phone, handle), 404)
            for body in [{}, {"handle": 1}, [], {"label": "x"}]:
                error(f"POST /sessions/end {body}", phone.send("POST", "/sessions/end", body), 400)
            for body in [{}, {"label": 1}, {"label": None}, []]:
                error(f"POST /label {body}", phone.send("POST", "/label", body), 400)
            equal("nobody is out by all this", [out(phone), out(laptop), out(bob)], [False] * 3)

            # What a session is called.
            for label in ["", "é" * 60, "<b>\u202e\r\n\0\u001b[2J'\"", "phone"]:
                equal(f"called {label!r}", phone.send("POST", "/label", {"label": label}).status, 204)
                equal("it is", own(phone)["label"], label or None)
            told = error("too long", phone.send("POST", "/label", {"label": "é" * 61}), 413)
            equal("in bytes", (told["size"], told["limit"]), (122, 120))
            equal("it stays as it was", own(phone)["label"], "phone")
            phone.ask("POST", "/renew")
            equal("renew keeps it", labels(phone), ["laptop", "phone"])
            check("under another handle", own(phone)["handle"] not in handles, handles)

            # The end of one.
            handle = own(laptop)["handle"]
            equal("ended", end(phone, handle).status, 204)
            equal("the line is gone", labels(phone), ["phone"])
            check("it is out at once", out(laptop))
            error("a second time", end(phone, handle), 404)
            equal("the others go on", [out(phone), out(bob)], [False, False])
            tablet = logged_in(port, "tablet")
            equal("one more", labels(phone), ["phone", "tablet"])
            tablet.ask("POST", "/destroy")
            equal("which logs out", labels(phone), ["phone"])
            logged_in(port, "stolen")
            phone.send("POST", "/revoke", {"subject": "ada"})
            check("all of them", out(phone))
            equal("begin again", labels(logged_in(port, "new")), ["new"])
            here = logged_in(port, "here")
            equal("it ends itself", end(here, own(here)["handle"]).status, 204)
            check("and is out", out(here))

    with api(STORE="memory", MAX_SESSIONS=1) as port:
        phone, bob = logged_in(port, "phone"), logged_in(port, "bob's", "bob")
        laptop = logged_in(port, "laptop")
        check("one is permitted: the older is out at once", out(phone))
        equal("the newer stays", (labels(laptop), out(laptop)), (["laptop"], False))
        equal("of another subject nobody goes", out(bob), False)
        equal("the same browser once more", laptop.send("POST", "/login", {"subject": "ada"}).status, 204)
        equal("does not count twice", labels(laptop), ["laptop"])
    with api(STORE="memory", MAX_SESSIONS=2, OVERFLOW="end-oldest") as port:
        first, second = logged_in(port, "first"), logged_in(port, "second")
        tick()
        first.send("POST", "/login", {"subject": "ada"})
        tick()
        third = logged_in(port, "third")
        equal("the oldest is the one whose login is longest ago", (out(first), out(second)), (False, True))
        equal("two are left", labels(third), ["first", "third"])
    with api(STORE="memory", MAX_SESSIONS=1, OVERFLOW="refuse") as port:
        phone, laptop = logged_in(port, "phone"), Browser(port)
        laptop.put("cart", 1)
        what = lambda: {name: value for name, value in laptop.session().items() if name != "remaining_ms"}
        before = (what(), laptop.cookie)
        support = Browser(port)
        equal("who goes on as somebody is no login", support.send("POST", "/subject", {"subject": "ada"}).status, 204)
        equal("and is listed", len(listed(support)), 2)
        support.ask("POST", "/destroy")
        for path in ["/login", "/authenticate"]:
            reply = laptop.send("POST", path, {"subject": "ada"})
            equal(f"{path}: one is permitted, and there", (reply.status, reply.body), (403, b""))
            no_cookie("the refusal", reply)
        equal("who is refused has what they had", (what(), laptop.cookie), before)
        equal("the first goes on", (labels(phone), out(phone)), (["phone"], False))
        equal("and may log in again", phone.send("POST", "/login", {"subject": "ada"}).status, 204)
        phone.ask("POST", "/destroy")
        equal("after its logout there is room", laptop.send("POST", "/login", {"subject": "ada"}).status, 204)
        equal("for one", len(listed(laptop)), 1)
        error("not two", end(laptop, "x"), 404)
        equal("ended from the list", end(laptop, own(laptop)["handle"]).status, 204)
        equal("there is room as well", labels(logged_in(port, "next")), ["next"])

    with api(STORE="memory", REVOCATION="off") as port:
        browser = logged_in(port, "phone")
        error("with revocation off there is no list", browser.ask("GET", "/sessions"), 409)
        error("and nothing to end", end(browser, "x"), 409)


@group("tokens for forms")
def csrf():
    store = stores()[-1]
    with api(STORE=store) as port, api(COOKIE_NAME="other") as elsewhere:
        browser, thief = Browser(port), Browser(port)

        def token(of):
            reply = of.ask("GET", "/csrf")
            check("a token", reply.status == 200 and re.fullmatch(r"[\w-]{48}", reply.json()), reply.body)
            return reply.json()

        def verify(of, text):
            reply = of.send("POST", "/csrf", {"token": text})
            if reply.status != 204:
                error("a token that is none", reply, 403)
            return reply.status == 204

        first = token(browser)
        check("who had no session has one", browser.cookie and browser.session()["origin"] == "resumed")
        check("it holds nothing", browser.session()["entries"] == {} and browser.session()["subject"] is None)
        check("its token is good", verify(browser, first) and verify(browser, first))
        kept = browser.cookie
        no_cookie("another token of the same session", browser.ask("GET", "/csrf"))
        check("each is another one", len({token(browser) for _ in range(20)}) == 20)
        check("nobody else's session takes it", not verify(thief, first) and not verify(Browser(elsewhere, "other"), first))
        check("not even one with a session", token(thief) and not verify(thief, first))
        for bad in ["", "x", first[:-1], first + "A", first[:-1] + ("A" if first[-1] != "A" else "B"), first.lower(), "\u00e9" * 48]:
            check("what is no token", not verify(browser, bad), bad)
        for body in [{}, {"token": 1}, {"token": None}, []]:
            error("no text", browser.send("POST", "/csrf", body), 400)

        browser.send("POST", "/login", {"subject": "ada"})
        check("a login ends it", not verify(browser, first))
        second = token(browser)
        # Without a store nothing tells that the session from before the login is over.
        of_before = verify(Browser(port, cookie=kept), first)
        equal("one from before a login, with the cookie from before it", of_before, store == "none")
        browser.ask("POST", "/renew")
        check("so does renew", not verify(browser, second))
        third = token(browser)
        browser.ask("POST", "/destroy")
        check("and logout", not verify(browser, third))
    key, new = new_key(), new_key()
    with api(SESSION_KEYS=key) as before, api(SESSION_KEYS=f"{new},{key}") as rotated, api(SESSION_KEYS=new) as revoked:
        browser = Browser(before)
        text = browser.ask("GET", "/csrf").json()
        equal("after a rotation", browser.at(rotated).send("POST", "/csrf", {"token": text}).status, 204)
        equal("without the key", browser.at(revoked).send("POST", "/csrf", {"token": text}).status, 403)


@group("flash messages")
def flash():
    with api(STORE=stores()[-1]) as port:
        jar = {}

        def ask(method, path, value=None, send=None):
            sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in (jar if send is None else send).items())}
            body = None if value is None else json.dumps(value).encode()
            reply = Browser(port).ask(method, path, body, sent)
            for line in reply.all("set-cookie"):
                cookie = Cookie(line)
                jar.pop(cookie.name, None)
                if cookie.attributes.get("max-age") != "0":
                    jar[cookie.name] = cookie.value
            return reply

        name = DEFAULT_NAME + "-flash"
        equal("nothing to read", ask("GET", "/flash").json(), [])
        reply = ask("POST", "/flash", {"text": "saved"})
        equal("a message", (reply.status, [*jar]), (204, [name]))
        check("sealed", "saved" not in jar[name] and cookie_of(reply).attributes.keys() >= {"httponly", "secure"}, jar)
        equal("no session begins for it", ask("GET", "/session").json()["origin"], "new")
        ask("POST", "/flash", {"text": "again"})
        equal("read", ask("GET", "/flash").json(), ["saved", "again"])
        equal("once", (ask("GET", "/flash").json(), jar), ([], {}))

        ask("POST", "/login", {"subject": "ada"})
        session = jar[DEFAULT_NAME]
        ask("POST", "/flash", {"text": "hers"})
        equal("the session is not issued", jar[DEFAULT_NAME], session)
        hers = jar[name]
        for path, value in [("/login", {"subject": "bob"}), ("/subject", {"subject": "bob"}), ("/destroy", None)]:
            jar.clear()
            ask("POST", "/login", {"subject": "ada"})
            jar[name] = hers
            ask("POST", path, value)
            equal(f"nothing of hers after {path} as another", ask("GET", "/flash").json(), [])
            check("and it is gone", name not in jar, jar)
        equal("the old cookies", ask("GET", "/flash", send={DEFAULT_NAME: session, name: hers}).json(), ["hers"])
        equal("her message for nobody", ask("GET", "/flash", send={name: hers}).json(), [])
        equal("is no session", ask("GET", "/session", send={DEFAULT_NAME: hers}).json()["rejection"], "tampered")
        equal("rubbish", ask("GET", "/flash", send={name: "x" * 500}).json(), [])
        error("too much", ask("POST", "/flash", {"text": "x" * 2000}), 413)
        for body in [{}, {"text": 1}, []]:
            error(f"{body}", ask("POST", "/flash", body), 400)


@group("two cookies of one name")
def twice():
    for store in stores():
        with api(STORE=store) as port:
            old, new = Browser(port), Browser(port)
            old.send("POST", "/login", {"subject": "ada"})
            time.sleep(0.01)
            new.send("POST", "/login", {"subject": "ada"})
            both = {"Cookie": f"{DEFAULT_NAME}={old.cookie}; {DEFAULT_NAME}={new.cookie}"}
            cookies = [old.cookie, new.cookie]
            removed("a logout", Browser(port).ask("POST", "/destroy", headers=both))
            alone = [Browser(port, cookie=cookie).session() for cookie in cookies]
            wanted = "rejected" if store == "memory" else "resumed"
            equal(f"each alone then, store {store}", [session["origin"] for session in alone], [wanted] * 2)


@group("a session's own duration and persistence")
def own():
    with api() as port:
        browser = Browser(port)
        browser.put("a", 1)
        birth = browser.session()["created_at"]
        for ms in [3_600_000, 1_500_500, 400 * DAY_MS]:
            reply = browser.send("POST", "/duration", {"ms": ms})
            equal(f"duration {ms}", reply.status, 204)
            seconds = int(cookie_of(reply).attributes["max-age"])
            equal("Max-Age, rounded up", seconds, -(-ms // 1000))
            told = browser.session()
            equal("the birth stays", told["created_at"], birth)
            check("the end is that far away", ms - 20_000 < told["remaining_ms"] <= ms, told["remaining_ms"])
            end = moment(told["expires_at"])
            check("the end is the birth and that, or a little later", ms <= life(told) < ms + 20_000, end)
        for ms in [0, 400 * DAY_MS + 1, 2**64 - 1, 2**64, -1, 0.5, "1", None]:
            error(f"duration {ms!r}", browser.send("POST", "/duration", {"ms": ms}), 400)
        other = Browser(port)
        other.put("a", 1)
        equal("another session has the configured one", life(other.session()), DAY_MS)

        reply = browser.send("POST", "/persistent", {"on": False})
        check("persistent off", reply.status == 204 and "max-age" not in cookie_of(reply).attributes, reply.headers)
        check("it stays off", "max-age" not in cookie_of(browser.put("a", 2)).attributes)
        check("not for others", "max-age" in cookie_of(other.put("a", 2)).attributes)
        reply = browser.send("POST", "/persistent", {"on": True})
        check("persistent on", "max-age" in cookie_of(reply).attributes, reply.headers)
        error("persistent without a word", browser.send("POST", "/persistent", {"on": 1}), 400)


@group("slow requests")
def slow():
    with api() as port:
        browser = Browser(port)
        browser.put("a", "first")
        reply = browser.at(port).ask("GET", "/slow?" + urlencode({"ms": 30, "key": "b", "value": "ä&="}))
        equal("/slow", reply.status, 204)
        check("it waits", reply.elapsed >= 0.030, reply.elapsed)
        check("it writes", cookie_of(reply).value)

        late = browser.at(port)
        request = threading.Thread(target=lambda: late.ask("GET", "/slow?ms=400&key=b&value=late"))
        request.start()
        quick = browser.put("a", "second")
        check("a quick request does not wait for it", quick.elapsed < 0.4, quick.elapsed)
        request.join()
        equal("the slow one knows what its cookie said", late.session()["entries"], {"a": "first", "b": "late"})
        for query in ["", "?ms=1", "?ms=x&key=a&value=b", "?ms=-1&key=a&value=b"]:
            error(f"/slow{query}", browser.ask("GET", f"/slow{query}"), 400)


@group("responses of every status")
def statuses():
    with api() as port:
        for code in [200, 201, 204, 301, 304, 400, 401, 404, 418, 500, 503]:
            browser = Browser(port)
            reply = browser.ask("GET", f"/status/{code}?key=a&value=b")
            equal("its status", reply.status, code)
            equal(f"{code} forbids caching", reply.all("cache-control"), ["no-store"])
            equal(f"{code} keeps the session", browser.session()["entries"], {"a": "b"})
        browser = Browser(port)
        reply = browser.ask("GET", "/status/0?key=a&value=b")
        equal("a handler that fails", reply.status, 500)
        equal("it keeps the session too", browser.session()["entries"], {"a": "b"})
        for code in [1, 100, 101, 199, 600, 65535]:
            error(f"status {code}", browser.ask("GET", f"/status/{code}?key=a&value=b"), 400)
        for path in ["/status/x?key=a&value=b", "/status/99999?key=a&value=b"]:
            equal(path, browser.ask("GET", path).status, 404)
        error("without a key", browser.ask("GET", "/status/200"), 400)


@group("a response head of a given size")
def head():
    with api() as port:
        browser = Browser(port)
        for n, size in enumerate([0, 11, 12, 1024, 1025, 2048, 4096, 10_241, 65_536], 1):
            reply = browser.ask("GET", f"/head?bytes={size}")
            equal("/head", (reply.status, reply.json()), (200, n))
            pads = [(name, value) for name, value in reply.headers if name.lower().startswith("x-pad-")]
            equal("bytes of headers", sum(len(f"{name}: {value}\r\n") for name, value in pads), size)
            check("none is long", all(len(value) <= 1024 for _, value in pads))
        equal("it counts", browser.get("head").json(), 9)
        for size in ["1", "10", "65537", "-1", "x", ""]:
            error(f"bytes={size}", browser.ask("GET", f"/head?bytes={size}"), 400)
    if "memory" not in stores():
        return
    # What others add to the head later leaves less room for the cookie.
    for settings, expected in [({}, "cookie"), ({"RESPONSE_HEAD_RESERVE": 1200}, "store")]:
        with api(STORE="memory", RESPONSE_HEAD_BUDGET=2048, **settings) as port:
            browser = Browser(port)
            browser.put("a", "x" * 600)
            equal(f"{settings}: placement", browser.session()["placement"], expected)


@group("cookies that are refused")
def refused():
    key = new_key()
    with api(SESSION_KEYS=key) as port, api() as stranger, api(SESSION_KEYS=key, COOKIE_NAME="other") as other:
        browser = Browser(port)
        browser.put("a", 1)
        good = browser.cookie

        def told(cookie, wanted):
            for path in ["/session", "/entries/a", "/untouched"]:
                check("no 5xx", browser.at(port).ask("GET", path, cookie=cookie).status < 500, cookie)
            reply = browser.at(port).ask("GET", "/session", cookie=cookie)
            saw = reply.json()
            equal(f"{cookie[:20]!r}..", (saw["origin"], saw["rejection"], saw["entries"]), ("rejected", wanted, {}))
            return reply

        for at in [20, len(good) // 2, len(good) - 1]:
            swapped = "A" if good[at] != "A" else "B"
            saw = browser.at(port).ask("GET", "/session", cookie=good[:at] + swapped + good[at + 1 :]).json()
            check("a character changed", saw["rejection"] in ("tampered", "malformed"), saw["rejection"])
        at = len(good) // 2
        removed("a tampered cookie", told(good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :], "tampered"))
        for cookie in ["", "x", "AAAA", good + "=", "A B", "\u00e9"]:
            told(cookie, "malformed")
        for cookie in [f'"{good}', f'{good}"', f'""{good}""', f'" {good}"', f"'{good}'", '"', '""']:
            told(cookie, "malformed")
        for line in ['{0}="{1}"', 'a="b"; {0}="{1}"; c=d', '{0}="{1}"; {0}={1}', '{0}={1}; {0}="{1}"']:
            line = line.format(DEFAULT_NAME, good)
            reply = Browser(port).ask("GET", "/session", headers={"Cookie": line})
            saw = reply.json()
            equal("a cookie in quotes", (saw["origin"], saw["entries"]), ("resumed", {"a": 1}))
            no_cookie("it", reply)
        told("_" + good[1:], "unknown_suite")

        elsewhere = browser.at(stranger)
        reply = elsewhere.ask("GET", "/session")
        equal("a cookie of another key", reply.json()["rejection"], "unknown_key")
        no_cookie("it is left alone, as it", reply)
        elsewhere.put("b", 2)
        equal("and can be replaced", elsewhere.session()["entries"], {"b": 2})
        renamed = Browser(other, name="other", cookie=good)
        equal("a cookie under another name", renamed.session()["rejection"], "tampered")
        check("the good one still is", browser.session()["origin"] == "resumed")

        pairs = [f"{DEFAULT_NAME}={good}", f"{DEFAULT_NAME}=rubbish", "theme=dark"]
        for line in ["; ".join(pairs), "; ".join(reversed(pairs)), ";;" + ";".join(pairs) + ";="]:
            saw = Browser(port).ask("GET", "/session", headers={"Cookie": line}).json()
            equal("the good one among others", (saw["origin"], saw["entries"]), ("resumed", {"a": 1}))
        for raw in [b"=", b";;;", b"\xff\xfe", b"a" * 7000, DEFAULT_NAME.encode() + b"=\xff", DEFAULT_NAME.encode()]:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
                wire.sendall(b"GET /session HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: " + raw + b"\r\n\r\n")
                answer = wire.recv(64)
            check(f"Cookie: {raw[:20]!r}", re.match(rb"HTTP/1.1 [24]", answer), answer)


@group("lifetimes")
def lifetimes():
    with api(DURATION_MS=90_000, ACTIVE_MS=10_000) as port:
        browser = Browser(port)
        equal("Max-Age", cookie_of(browser.put("a", 1)).attributes["max-age"], "90")
        told = browser.session()
        equal("DURATION_MS", life(told), 90_000)
        reply = browser.ask("GET", "/session")
        no_cookie("a use with more than ACTIVE_MS left", reply)
        browser.put("a", 2)
        equal("writing does not extend", browser.session()["expires_at"], told["expires_at"])

    with api(DURATION_MS=60_000, ACTIVE_MS=60_000) as port:
        browser = Browser(port)
        browser.put("a", 1)
        old = browser.cookie

        def extended():
            reply = browser.ask("GET", "/session", cookie=old)
            return reply if reply.all("set-cookie") else None

        reply = until("a use with less than ACTIVE_MS left extends", extended)
        equal("by ACTIVE_MS", life(reply.json()), 120_000)
        seconds = -(-reply.json()["remaining_ms"] // 1000)
        equal("and the browser is told", int(cookie_of(reply).attributes["max-age"]), seconds)
        equal("the next one goes on from there", life(browser.session()), 120_000)

    with api(DURATION_MS=60_000, ACTIVE_MS=0) as port:
        browser = Browser(port)
        browser.put("a", 1)
        tick()
        no_cookie("with ACTIVE_MS=0 a use", browser.ask("GET", "/session"))
        equal("it extends nothing", life(browser.session()), 60_000)

    with api(DURATION_MS=30 * DAY_MS - 1, ROLLING="true") as port:
        browser = Browser(port)
        browser.put("a", 1)
        tick()
        equal("use ends after 30 days, without ABSOLUTE_MS", life(browser.session()), 30 * DAY_MS)
        browser.send("POST", "/duration", {"ms": 29 * DAY_MS})
        check("a shorter duration is a shorter one", life(browser.session()) < 30 * DAY_MS)
        browser.send("POST", "/duration", {"ms": 60 * DAY_MS})
        tick()
        equal("a longer one is all of it", life(browser.session()), 60 * DAY_MS)
    with api(DURATION_MS=40 * DAY_MS) as port:
        browser = Browser(port)
        browser.put("a", 1)
        tick()
        browser.ask("POST", "/touch")
        equal("a configured one as well", life(browser.session()), 40 * DAY_MS)
    with api(ABSOLUTE_MS=40 * DAY_MS) as port:
        browser = Browser(port)
        browser.put("a", 1)
        browser.send("POST", "/duration", {"ms": 60 * DAY_MS})
        equal("ABSOLUTE_MS may be more than 30 days, and holds", life(browser.session()), 40 * DAY_MS)

    with api(ABSOLUTE_MS=5_000) as port:
        browser = Browser(port)
        equal("Max-Age", cookie_of(browser.put("a", 1)).attributes["max-age"], "5")
        browser.ask("POST", "/touch")
        browser.send("POST", "/duration", {"ms": 3_600_000})
        equal("ABSOLUTE_MS holds whatever happens", life(browser.session()), 5_000)

    with api(IDLE_MS=50_000) as port:
        browser = Browser(port)
        equal("Max-Age", cookie_of(browser.put("a", 1)).attributes["max-age"], "50")
        told = browser.session()
        check("IDLE_MS", 50_000 <= life(told) < 60_000, life(told))
        no_cookie("a use within a tenth of it", browser.ask("GET", "/session"))
        tick()
        browser.put("a", 2)
        check("a new cookie moves the end", life(browser.session()) > life(told))

    with api(IDLE_MS=5, DURATION_MS=600_000) as port:
        expires(port, "IDLE_MS")
    with api(DURATION_MS=3) as port:
        expires(port, "DURATION_MS")
    with api(ABSOLUTE_MS=3) as port:
        expires(port, "ABSOLUTE_MS")

    with api(ROLLING="true", DURATION_MS=80_000) as port:
        browser = Browser(port)
        reply = browser.ask("GET", "/session")
        no_cookie("ROLLING with nothing in the session", reply)
        browser.put("a", 1)
        end = moment(browser.session()["expires_at"])
        tick()
        for path in ["/session", "/entries/a", "/entries/b"]:
            reply = browser.ask("GET", path)
            equal(f"ROLLING sets a cookie on {path}", cookie_of(reply).attributes["max-age"], "80")
        equal("not on a request that does not use it", browser.ask("GET", "/untouched").all("set-cookie"), [])
        told = browser.session()
        check("ROLLING moves the end", moment(told["expires_at"]) > end, told["expires_at"])
        equal("to all of it", told["remaining_ms"], 80_000)
    with api(ROLLING="false") as port:
        browser = Browser(port)
        browser.put("a", 1)
        no_cookie("without ROLLING a use", browser.ask("GET", "/session"))


def expires(port, what):
    """Asks with one old cookie, whatever new ones come back, so that no use keeps it alive."""
    browser = Browser(port)
    browser.put("a", 1)
    old = browser.cookie

    def over():
        told = browser.at(port).ask("GET", "/session", cookie=old).json()
        return told if told["origin"] == "rejected" else None

    told = until(f"{what} ends the session", over)
    equal(f"{what}: why", (told["rejection"], told["entries"]), ("expired", {}))


@group("settings of the cookie")
def settings():
    def issued(headers=None, name=DEFAULT_NAME, **settings):
        with api(**settings) as port:
            browser = Browser(port, name=name)
            reply = browser.ask("PUT", "/entries/a", b"1", headers)
            cookie = cookie_of(reply)
            told = browser.session()
            equal("resumed", (told["origin"], told["bytes"]), ("resumed", cookie.size))
            removal = removed("destroy", browser.ask("POST", "/destroy", headers=headers))
            equal("the removal has the name", removal.name, cookie.name)
            return cookie

    equal("COOKIE_NAME", issued(name="sid", COOKIE_NAME="sid").name, "sid")
    check("SECURE=always", "secure" in issued(name="sid", COOKIE_NAME="sid", SECURE="always").attributes)
    check("SECURE=never", "secure" not in issued(name="sid", COOKIE_NAME="sid", SECURE="never").attributes)
    check("SECURE=auto over HTTP", "secure" not in issued(name="sid", COOKIE_NAME="sid", SECURE="auto").attributes)
    https = {"X-Forwarded-Proto": "https"}
    check("SECURE=auto over HTTPS", "secure" in issued(https, name="sid", COOKIE_NAME="sid", SECURE="auto").attributes)
    for value in ["Strict", "Lax", "None"]:
        # With SameSite=None a request has to say where it comes from.
        from_here = {"Sec-Fetch-Site": "same-origin"}
        equal("SAME_SITE", issued(from_here, SAME_SITE=value.lower()).attributes["samesite"], value)
    check("PERSISTENT=false", "max-age" not in issued(PERSISTENT="false").attributes)
    check("PERSISTENT=0", "max-age" not in issued(PERSISTENT="0").attributes)
    check("PERSISTENT=true", "max-age" in issued(PERSISTENT="true").attributes)
    equal("STORE=none, REVOCATION=off", issued(STORE="none", REVOCATION="off").name, DEFAULT_NAME)


@group("keys that outlive a process, or are shared")
def keys():
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "session.keys")
        with api(SESSION_KEY_FILE=file) as port:
            browser = Browser(port)
            browser.put("a", 1)
            before = browser.session()
        equal("the key file is its owner's", stat.S_IMODE(os.stat(file).st_mode), 0o600)
        with api(SESSION_KEY_FILE=file) as port:
            after = browser.at(port).session()
            equal("after a restart", (after["origin"], after["entries"]), ("resumed", {"a": 1}))
            equal("it is the same session", after["id"], before["id"])
        with api() as port:
            equal("without the key file", browser.at(port).session()["rejection"], "unknown_key")

    old, new = new_key(), new_key()
    with api(SESSION_KEYS=old) as one, api(SESSION_KEYS=old) as two, api(SESSION_KEYS=f"{new}, {old}") as three:
        with api(SESSION_KEYS=new) as four:
            browser = Browser(one)
            browser.put("a", 1)
            for n, port in enumerate([two, one] * 3, 2):
                browser.port = port
                equal("two processes, one session", browser.ask("POST", "/entries/a/increment").json(), n)
            equal("the retired key's session", browser.at(four).session()["rejection"], "unknown_key")
            browser.port = three
            reply = browser.ask("GET", "/session")
            equal("the ring of both reads it", reply.json()["entries"], {"a": 7})
            check("and seals it again, under the primary", cookie_of(reply).value)
            no_cookie("the next use", browser.ask("GET", "/session"))
            browser.port = four
            equal("which alone reads it now", browser.session()["entries"], {"a": 7})
            equal("the other one no more", browser.at(one).session()["rejection"], "unknown_key")


@group("settings that are refused")
def bad_settings():
    key = new_key()
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory() as folder:
        busy = taken.getsockname()[1]
        open_file = os.path.join(folder, "open.keys")
        odd_file = os.path.join(folder, "odd.keys")
        for path, mode in [(open_file, 0o644), (odd_file, 0o600)]:
            with open(path, "w") as file:
                file.write("{}")
            os.chmod(path, mode)
        store = "there is no store"
        for settings, right in [
            ({"PORT": "http"}, "0 to 65535"),
            ({"PORT": "65536"}, "0 to 65535"),
            ({"PORT": ""}, "0 to 65535"),
            ({"PORT": busy}, "free"),
            ({"LOG": "loud"}, "error, warn, info, debug or trace"),
            ({"TLS_CERT": odd_file}, "TLS_KEY is not set"),
            ({"TLS_KEY": odd_file}, "TLS_CERT is not set"),
            ({"SESSION_KEYS": ""}, "at least one"),
            ({"SESSION_KEYS": "short"}, "43 characters"),
            ({"SESSION_KEYS": f"{key},{key}"}, "once"),
            ({"SESSION_KEYS": key, "SESSION_KEY_FILE": "x"}, "unset one"),
            ({"SESSION_KEY_FILE": os.path.join(folder, "no", "file")}, "cannot create"),
            ({"SESSION_KEY_FILE": open_file}, "chmod 600"),
            ({"SESSION_KEY_FILE": odd_file}, "a valid key document looks like"),
            ({"COOKIE_NAME": "a;b"}, "only letters"),
            ({"COOKIE_NAME": ""}, "name"),
            ({"SECURE": "yes"}, "always, never or auto"),
            ({"SECURE": "never"}, "__Host-Http-"),
            ({"COOKIE_NAME": "__Secure-s", "SECURE": "auto"}, "__Secure-"),
            ({"COOKIE_NAME": "s", "SECURE": "never", "SAME_SITE": "none"}, "Secure::Always"),
            ({"SAME_SITE": "Lax"}, "strict, lax or none"),
            ({"CROSS_SITE": "deny"}, "refuse, allow-same-site, anonymous or allow"),
            ({"FORMERLY": "app"}, "paths such as /app, or example.com/app"),
            ({"FORMERLY": "/app,,/"}, "paths such as /app, or example.com/app"),
            ({"COOKIE_NAME": "session", "FORMERLY": "/"}, "that is the cookie itself"),
            ({"FORMERLY": "/app"}, "`__Host-` never had another path"),
            ({"COOKIE_PATH": "/app"}, "the path is `/`"),
            ({"COOKIE_DOMAIN": "example.com"}, "no domain is set"),
            ({"TRUSTED_ORIGINS": "app.example.com"}, "https://app.example.com"),
            ({"PERSISTENT": "maybe"}, "true or false"),
            ({"ROLLING": ""}, "true or false"),
            ({"DURATION_MS": "1h"}, "whole number of milliseconds"),
            ({"DURATION_MS": "-1"}, "whole number of milliseconds"),
            ({"DURATION_MS": "0"}, "from 1 ms"),
            ({"DURATION_MS": str(400 * DAY_MS + 1)}, "must not be longer"),
            ({"ACTIVE_MS": "1.5"}, "whole number of milliseconds"),
            ({"ACTIVE_MS": "2000", "DURATION_MS": "1000"}, "must not be longer"),
            ({"ABSOLUTE_MS": "x"}, "whole number of milliseconds"),
            ({"ABSOLUTE_MS": "0"}, "from 1 ms"),
            ({"IDLE_MS": "x"}, "whole number of milliseconds"),
            ({"IDLE_MS": "0"}, "from 1 ms"),
            ({"STORE": "memcached://127.0.0.1/"}, "begins with memory, redb:PATH"),
            ({"STORE": "redis://127.0.0.1:port/"}, "cannot be used as it is configured|lacks the store"),
            ({"STORE": "sqlite:/no/such/folder/file"}, "cannot be used as it is configured|lacks the store"),
            ({"STORE": "memory", "SPILL_ABOVE": "4097"}, "from 2[0-9]{2} to 4096|lacks the store"),
            ({"REVOCATION": "often"}, "off, every-request or a whole number"),
            ({"REVOCATION_FAILURE": "ajar"}, "open or closed"),
            ({"REVOCATION": "every-request"}, store),
            ({"REVOCATION": "1000"}, store),
            ({"REVOCATION_FAILURE": "open"}, store),
            ({"STORE": "memory", "REVOCATION": "0"}, "from 1 ms to 24 h|lacks"),
            ({"SPILL_ABOVE": "1000"}, store),
            ({"RESPONSE_HEAD_BUDGET": "4096"}, store),
            ({"RESPONSE_HEAD_RESERVE": "512"}, store),
            ({"RESPONSE_HEAD_RESERVE": "x"}, "whole number"),
            ({"DEVICE_BINDING": "maybe"}, "off, "),
            ({"PROOF_MS": "x"}, "whole number of milliseconds"),
            ({"STORE_TIMEOUT_MS": "1000"}, store),
            ({"MAX_SESSIONS": "1"}, store),
            ({"MAX_SESSIONS": "one"}, "a whole number"),
            ({"OVERFLOW": "drop"}, "end-oldest or refuse"),
            ({"OVERFLOW": "refuse"}, "MAX_SESSIONS is not set"),
            ({"STORE": "memory", "MAX_SESSIONS": "0"}, "from 1 to 1000|lacks"),
            ({"STORE": "memory", "MAX_SESSIONS": "1001"}, "from 1 to 1000|lacks"),
            ({"STORE": "memory", "MAX_SESSIONS": "1", "REVOCATION": "off"}, "revocation|lacks"),
        ]:
            run = subprocess.run(
                [binary], env=environment({"PORT": 0} | settings), capture_output=True, text=True, timeout=20
            )
            equal(f"{settings}: exit code", run.returncode, 2)
            equal(f"{settings}: stdout", run.stdout, "")
            check(f"{settings}: one line", run.stderr.count("\n") == 1, run.stderr)
            check(f"{settings}: says {right!r}", re.search(right, run.stderr), run.stderr)
            lacking = "lacks the store" in run.stderr
            for name, value in {"STORE": ""}.items() if lacking else settings.items():
                check(f"{settings}: names {name}", name in run.stderr, run.stderr)
                # Keys are secret, and so is the password that an address may have.
                if name not in ("SESSION_KEYS", "STORE"):
                    check(f"{settings}: shows {value!r}", str(value) in run.stderr, run.stderr)
            check(f"{settings}: no key is shown", key not in run.stderr, run.stderr)


def main():
    global binary
    if len(sys.argv) != 2:
        sys.exit("usage: tests/api.py target/debug/examples/api")
    binary = os.path.abspath(sys.argv[1])
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} is no program; run `cargo build --example api`")
    for name, run in groups:
        before = passed
        try:
            run()
        except Exception as failure:
            if not isinstance(failure, Failed):
                traceback.print_exc()
            print(f"FAILED  {name}: {failure}", flush=True)
            sys.exit(f"{passed} passed, 1 failed")
        print(f"ok  {name} ({passed - before})", flush=True)
    print(f"{passed} passed, 0 failed")


main()
