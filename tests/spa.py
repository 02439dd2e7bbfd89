#!/usr/bin/env python3
"""Drives the JSON API of the example `spa`: with its token, without, and as another site would. Then its page, in Chromium.

usage: tests/spa.py target/debug/examples/spa
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from login import chromium, until

COOKIE = "__Host-Http-session"
ADA = {"name": "ada", "password": "difference engine"}
passed = 0


def equal(what, saw, wanted):
    global passed
    if saw != wanted:
        raise SystemExit(f"FAILED: {what}: wanted {wanted!r}, saw {saw!r}")
    passed += 1


class Page:
    """What the script of the page keeps, and the browser's cookie."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}"
        self.cookie = self.token = None
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, path, body=None, token="own", kind="application/json"):
        headers = {"cookie": self.cookie} if self.cookie else {}
        if body is not None:
            headers["content-type"] = kind
            token = self.token if token == "own" else token
            if token is not None:
                headers["x-csrf-token"] = token
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            answer = self.opener.open(request, timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            for line in answer.headers.get_all("set-cookie", []):
                pair, _, attributes = line.partition(";")
                self.cookie = None if "Max-Age=0;" in attributes + ";" else pair
            text = answer.read().decode()
            value = json.loads(text) if "json" in answer.headers.get("content-type", "") else text
            if isinstance(value, dict):
                self.token = value["token"]
            return answer.status, value


def drive(port):
    page = Page(port)
    status, html = page.call("/")
    equal("the page is served without a session", (status, "<title>Notes</title>" in html, page.cookie), (200, True, None))
    status, state = page.call("/api/session")
    equal("a stranger", (status, state["user"], state["notes"]), (200, None, []))
    first = page.token
    equal("another text each time", page.call("/api/session")[1]["token"] != first, True)
    equal("of which all are good", page.call("/api/notes", "x", token=first)[0], 401)

    equal("a stranger adds nothing", page.call("/api/notes", "x")[0], 401)
    equal("a wrong password", page.call("/api/login", {**ADA, "password": "x"})[0], 401)
    status, state = page.call("/api/login", ADA)
    equal("the login", (status, state["user"]), (200, "ada"))
    equal("with a token of the new session", len(page.token), 48)
    status, state = page.call("/api/notes", "buy <b>milk</b>")
    equal("a note", (status, state["notes"]), (200, ["buy <b>milk</b>"]))

    # What another site could make the browser send: the cookie, but not the token, and no JSON without being asked.
    equal("no token", page.call("/api/notes", "evil", token=None)[0], 403)
    equal("a guessed token", page.call("/api/notes", "evil", token="A" * 48)[0], 403)
    equal("the token from before the login", page.call("/api/notes", "evil", token=first)[0], 403)
    equal("a form's content type", page.call("/api/notes", "evil", kind="text/plain")[0], 400)
    equal("a logout without the token", page.call("/api/logout", {}, token=None)[0], 403)
    equal("nothing came of it", page.call("/api/session")[1]["notes"], ["buy <b>milk</b>"])

    equal("a note that does not fit", page.call("/api/notes", "x" * 5_000)[0], 500)
    equal("costs none of the others", page.call("/api/session")[1]["notes"], ["buy <b>milk</b>"])
    equal("the logout", (page.call("/api/logout", {})[0], page.cookie), (204, None))
    equal("after it", page.call("/api/session")[1]["user"], None)


def in_chromium(browser, port):
    browser.open(f"http://localhost:{port}/")
    shown = lambda selector: browser.script("return document.querySelector(arguments[0]).offsetParent !== null", selector)
    until("the form is there", lambda: shown("#login"))
    browser.click("#login button")
    until("it logs in", lambda: shown("#notes") and browser.texts("#user") == ["ada"])
    browser.type("#add input", "<b>milk</b>")
    browser.click("#add button")
    until("the note is text, and nothing else", lambda: browser.texts("#list li") == ["<b>milk</b>"])
    browser.reload()
    until("it is there after a reload", lambda: browser.texts("#list li") == ["<b>milk</b>"])
    equal("the script cannot read the cookie", browser.script("return document.cookie"), "")
    # What another origin would send: no token. The cookie goes along, and it is of no use.
    status = browser.script(
        "const asked = new XMLHttpRequest(); asked.open('POST', '/api/notes', false);"
        "asked.setRequestHeader('content-type', 'application/json'); asked.send('\"evil\"'); return asked.status")
    equal("a request without the token", status, 403)
    browser.click("#logout")
    until("it logs out", lambda: shown("#login") and not shown("#notes"))


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([binary], cwd=folder, env={**os.environ, "PORT": str(port)}, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise SystemExit("the example does not start")
                    time.sleep(0.02)
            drive(port)
            with chromium() as browser:
                in_chromium(browser, port)
        finally:
            server.terminate()
            server.wait(10)
    print(f"spa: {passed} checks passed")


main()
