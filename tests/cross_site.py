#!/usr/bin/env python3
"""What pages of another site, and of another origin of the same site, can make the example `api` do, in real Chromium.

usage: tests/cross_site.py target/debug/examples/api...

The application is at http://localhost, pages of another origin at another port of it, those of another site at
http://127.0.0.1. Each tries with forms, with scripts, by navigation and through a redirect that keeps the method. Against
`CROSS_SITE=allow` all of it must succeed from another origin, and from another site the forms with `SameSite=None`: what a
browser keeps back by itself, a `Lax` cookie and scripts of another site, shows nothing of the guard.
"""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import login
from login import Failed, chromium, direct, equal, until


class Foreign(BaseHTTPRequestHandler):
    """Pages that are empty but for what a test does in them, and redirects to wherever the query says."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title><h1>foreign</h1>")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(307)
        self.send_header("location", self.path.partition("?")[2])
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def foreign():
    server = ThreadingHTTPServer(("", 0), Foreign)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


@contextmanager
def api(binary, **settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_")}
    server = subprocess.Popen([binary], env=environment | {"PORT": "0"} | settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = int(server.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        yield f"http://localhost:{port}"
    finally:
        server.kill()
        server.wait()


def own(url, path, value, **headers):
    """What a program without a browser asks."""
    data = json.dumps(value).encode()
    headers = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    try:
        with direct.open(urllib.request.Request(url + path, data, headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as failure:
        with failure:
            return failure.code


# How a page has an address asked by POST.
FORM = """const form = document.createElement('form');
    form.method = 'post'; form.action = arguments[0];
    const field = document.createElement('input');
    field.name = field.value = 'x'; form.append(field);
    document.body.append(form); form.submit()"""
FETCH = "await fetch(arguments[0], { method: 'POST', mode: 'no-cors', credentials: 'include' })"


class Browser:
    def __init__(self, driver, url):
        self.driver, self.url = driver, url

    def session(self):
        """The session as the application's own page sees it."""
        self.driver.open(self.url + "/session")
        return json.loads(self.driver.texts("body")[0])

    def log_in(self):
        """As ada, by the application's own page, with a number that others would like to change."""
        self.driver.open(self.url + "/untouched")
        statuses = self.driver.script(
            """const post = async (path, value) => (await fetch(path, { method: 'POST', body: JSON.stringify(value),
                headers: { 'content-type': 'application/json' } })).status;
            return (async () => [await post('/login', { subject: 'ada' }), await post('/entries/n/increment', {})])()"""
        )
        equal("its own page logs in", [status // 100 for status in statuses], [2, 2])
        equal("as ada", self.state(), ("ada", 1))

    def state(self):
        session = self.session()
        return session["subject"], session["entries"].get("n")

    def forget(self):
        self.driver.open(self.url + "/untouched")
        self.driver.call("DELETE", "/cookie")

    def form(self, page, action, end):
        """Sends a form, and waits for the page that comes of it."""
        self.driver.open(page)
        self.driver.script(FORM, action)
        until("the form is sent", lambda: self.driver.call("GET", "/url") == end, pause=0.02)

    def fetch(self, page, target):
        self.driver.open(page)
        self.driver.script(f"return (async () => {{ {FETCH} }})()", target)


def attack(browser, page, bounce):
    """Every way that a page has; yields what it was, the state that it left, and that which it was after."""
    count = browser.url + "/entries/n/increment"
    tries = [
        ("a form counts", lambda: browser.form(page, count, count), ("ada", 2)),
        # The browser takes the method, the body and its cookies along.
        ("a form counts through a redirect", lambda: browser.form(page, f"{bounce}?{count}", count), ("ada", 2)),
        ("a script counts", lambda: browser.fetch(page, count), ("ada", 2)),
        ("a script ends the session", lambda: browser.fetch(page, browser.url + "/destroy"), (None, None)),
    ]
    for what, attempt, wanted in tries:
        browser.log_in()
        attempt()
        yield what, browser.state(), wanted
        browser.forget()


def drive(binary, driver, port):
    other_site, other_origin = f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"
    for same_site in ("lax", "none"):
        with api(binary, SAME_SITE=same_site, CROSS_SITE="allow") as url:
            browser = Browser(driver, url)
            for page in (other_site, other_origin):
                reached = [what for what, saw, wanted in attack(browser, page, page) if saw == wanted]
                # Browsers keep a Lax cookie from every POST of another site by themselves, and some every cookie from
                # its scripts.
                by_form = ["a form counts", "a form counts through a redirect"]
                by_script = ["a script counts", "a script ends the session"]
                if page == other_origin:
                    equal(f"unguarded, SameSite={same_site}, another origin succeeds", reached, by_form + by_script)
                elif same_site == "none":
                    equal("unguarded, SameSite=None, another site succeeds", reached[:2], by_form)
        for policy in ("refuse", "allow-same-site", "anonymous"):
            with api(binary, SAME_SITE=same_site, CROSS_SITE=policy) as url:
                browser = Browser(driver, url)
                for what, saw, _ in attack(browser, other_site, other_site):
                    equal(f"{policy}, SameSite={same_site}, another site: {what}", saw, ("ada", 1))
                for what, saw, wanted in attack(browser, other_origin, other_origin):
                    allowed = wanted if policy == "allow-same-site" else ("ada", 1)
                    equal(f"{policy}, SameSite={same_site}, another origin: {what}", saw, allowed)
    # A link from anywhere works, or nobody could be linked to.
    with api(binary, SAME_SITE="none") as url:
        browser = Browser(driver, url)
        browser.log_in()
        driver.open(other_site)
        driver.script("location.href = arguments[0]", url + "/session")
        until("the link is followed", lambda: driver.call("GET", "/url") == url + "/session", pause=0.02)
        equal("a link from another site", json.loads(driver.texts("body")[0])["subject"], "ada")
        # And one's own page is let in by its name, where it is at another origin.
    with api(binary, SAME_SITE="none", TRUSTED_ORIGINS=other_site.rstrip("/")) as url:
        browser = Browser(driver, url)
        browser.log_in()
        count = url + "/entries/n/increment"
        browser.form(other_site, count, count)
        equal("a trusted site counts", browser.state(), ("ada", 2))
        browser.form(other_origin, count, count)
        equal("one that is not named does not", browser.state(), ("ada", 2))


def log_in_from_elsewhere(binary):
    """A foreign form that logs the visitor in: what a browser would send with it, by hand, since the body is JSON."""
    ada = {"subject": "ada"}
    with api(binary) as url:
        equal("no browser logs in", own(url, "/login", ada) // 100, 2)
        equal("nor is one's own page kept out", own(url, "/login", ada, sec_fetch_site="same-origin") // 100, 2)
        for site in ("cross-site", "same-site"):
            equal(f"{site} logs nobody in", own(url, "/login", ada, sec_fetch_site=site), 403)
        equal("nor does a page without an origin", own(url, "/login", ada, origin="null"), 403)
        equal("nor another port", own(url, "/login", ada, origin="http://localhost:1"), 403)
        equal("but one's own", own(url, "/login", ada, origin=url) // 100, 2)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        with foreign() as port, chromium() as driver:
            for binary in sys.argv[1:]:
                log_in_from_elsewhere(os.path.abspath(binary))
                drive(os.path.abspath(binary), driver, port)
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
    print(f"{login.passed} checks of what other sites can do passed")


main()
