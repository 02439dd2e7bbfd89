#!/usr/bin/env python3
"""Drives the example `login`, or `login_axum`, with curl and with headless Chromium, over plain HTTP on localhost.

usage: tests/login.py target/debug/examples/login [screenshots/]

Needs Python 3, curl, chromium and chromedriver. Into the folder, if one is given, go pictures of the pages.
"""

import base64
import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

COOKIE = "__Host-Http-session"
NAME, PASSWORD = "ada", "difference engine"
EXPIRED = "Your session has expired, please log in again."
LOGGED_IN = "You are logged in."
LOGGED_OUT = "You are logged out."
CHANGED = "The address is changed."

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
binary = None
pictures = None
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


# The server.


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def login(folder, port, **settings):
    """Runs the example in a folder, and yields its URL once it says that it is ready."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("SESSION_SECONDS", "FRESH_SECONDS")}
    server = subprocess.Popen(
        [binary],
        cwd=folder,
        env=inherited | {"PORT": str(port)} | {name: str(value) for name, value in settings.items()},
        stdout=subprocess.PIPE,
        text=True,
    )
    too_slow = threading.Timer(20, server.kill)
    too_slow.start()
    try:
        url = server.stdout.readline().strip()
        equal("the line that says it is ready", url, f"http://localhost:{port}/")
        too_slow.cancel()
        yield url
        check("the server still lives", server.poll() is None, server.returncode)
    finally:
        too_slow.cancel()
        server.kill()
        server.wait()
        server.stdout.close()


# What a page says, for curl.


class Page:
    def __init__(self, head, body):
        self.status = int(head.split(" ", 2)[1])
        self.head = head
        self.body = body
        self.title = self.first(r"<h1>(.*?)</h1>")
        self.notice = self.first(r"<p id=notice role=status>(.*?)</p>")
        self.visits = self.first(r"<dd id=visits>(\d+)</dd>")
        self.email = self.first(r"<dd id=email>(.*?)</dd>")

    def first(self, pattern):
        found = re.search(pattern, self.body, re.S)
        return html.unescape(found[1]) if found else None

    def cookie(self, name=COOKIE):
        """The line that sets it."""
        [line] = [line for line in self.header("set-cookie") if line.startswith(name + "=")]
        return line

    def header(self, name):
        return re.findall(rf"(?im)^{name}: (.*?)\r?$", self.head)


def curl(*arguments):
    run = subprocess.run(
        ["curl", "--disable", "--noproxy", "*", "--silent", "--show-error", "-m20", "--include", *arguments],
        capture_output=True,
    )
    if run.returncode != 0:
        raise Failed(f"curl {' '.join(arguments)}: {run.stderr.decode()}")
    head, _, body = run.stdout.decode().rpartition("\r\n\r\n")
    return Page(head.split("\r\n\r\n")[-1], body)


def with_curl(folder):
    port = free_port()
    jar = os.path.join(folder, "jar")
    keep = ["--cookie", jar, "--cookie-jar", jar]
    form = ["--data-urlencode", f"name={NAME}", "--data-urlencode", f"password={PASSWORD}"]

    with login(folder, port) as url:
        page = curl(url, *keep)
        equal("the first page", (page.status, page.title, page.notice), (200, "Log in", None))
        equal("it sets no cookie", page.header("set-cookie"), [])

        wrong = ["--data-urlencode", "name=<b>&'\"", "--data-urlencode", "password=x"]
        page = curl(url + "login", *keep, *wrong)
        equal("a wrong password redirects", (page.status, page.header("location")), (303, ["/"]))
        page = curl(url, *keep)
        equal("and is told on the next page", page.notice, "Wrong name or password for “<b>&'\"”.")
        check("where nothing is markup", "&lt;b&gt;&amp;&#39;&quot;" in page.body, page.body)
        page = curl(url, *keep)
        equal("once", (page.title, page.notice), ("Log in", None))
        long = ["--data-urlencode", "name=" + "ü" * 2000, "--data-urlencode", "password=x"]
        equal("a very long name redirects too", curl(url + "login", *keep, *long).status, 303)
        check("and is told in short", 0 < len(curl(url, *keep).notice) < 100)
        # By the framework.
        status = curl(url + "login", *keep, "--data", "name=x").status
        check("a form without a password: wanted 400 or 422", status in (400, 422), status)
        page = curl(url + f"login?name={NAME}&password=difference+engine", *keep)
        equal("login by GET shows the form", (page.status, page.title), (200, "Log in"))
        equal("and logs nobody in", curl(url, *keep).title, "Log in")

        page = curl(url + "login", *keep, *form)
        equal("login redirects", (page.status, page.header("location")), (303, ["/"]))
        equal("no cache keeps it", page.header("cache-control"), ["no-store"])
        line = page.cookie()
        equal("the cookie's attributes", sorted(line.split("; ")[1:]), ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"])
        page = curl(url, *keep)
        equal("the page after it", (page.title, page.notice, page.visits), ("Hello, ada", LOGGED_IN, "1"))
        check("it says when the session ends", re.search(r"<dd id=end>20\d\d-.*? UTC</dd>", page.body), page.body)
        page = curl(url, *keep)
        equal("its flash is gone", (page.notice, page.visits), (None, "2"))

    with login(folder, port) as url:
        page = curl(url, *keep)
        equal("after a restart", (page.title, page.visits), ("Hello, ada", "3"))

        with open(jar) as file:
            value = re.search(rf"{COOKIE}\t(\S+)", file.read())[1]
        middle = len(value) // 2
        other = "A" if value[middle] != "A" else "B"
        for tampered in [value[:middle] + other + value[middle + 1 :], value[:-8], "rubbish"]:
            page = curl(url, "--header", f"Cookie: {COOKIE}={tampered}")
            equal("a tampered cookie", (page.status, page.title, page.notice), (200, "Log in", None))
            check("is removed", "Max-Age=0" in page.header("set-cookie")[0], page.head)

        status = curl(url + "logout", *keep).status
        check("logout by GET: wanted 404 or 405", status in (404, 405), status)
        equal("it did nothing", curl(url, *keep).title, "Hello, ada")
        page = curl(url + "logout", *keep, "--request", "POST")
        equal("logout redirects", (page.status, page.header("location")), (303, ["/"]))
        page = curl(url, *keep)
        equal("and logs out", (page.title, page.notice), ("Log in", LOGGED_OUT))
        equal("which is told once", curl(url, *keep).notice, None)
        with open(jar) as file:
            check("curl forgot the cookie", COOKIE not in file.read())

    the_way_back(folder, port, form)

    with tempfile.TemporaryDirectory() as elsewhere, login(elsewhere, port) as url:
        page = curl(url, "--header", f"Cookie: {COOKIE}={value}")
        equal("with another key", (page.status, page.title, page.notice), (200, "Log in", None))

    with login(folder, port, SESSION_SECONDS=1) as url:
        cookie = curl(url + "login", *form).cookie().split(";")[0]

        def over():
            # With one old cookie, so that being asked does not keep it alive.
            page = curl(url, "--header", f"Cookie: {cookie}")
            return page if page.title == "Log in" else None

        page = until("the session expires", over)
        equal("which is told", page.notice, EXPIRED)


def the_way_back(folder, port, form):
    """The guard sends visitors to log in and back, also users who have given their password too long ago."""
    keep = ["--cookie", os.path.join(folder, "jar"), "--cookie-jar", os.path.join(folder, "jar")]
    html = ["--header", "Accept: text/html"]
    sent = lambda page: (page.status, page.header("location"))

    with login(folder, port, FRESH_SECONDS=2) as url:
        equal("a page for users", sent(curl(url + "email", *keep, *html)), (303, ["/login?next=%2Femail"]))
        equal("with a query", sent(curl(url + "email?a=b&c=%2F", *keep, *html)), (303, ["/login?next=%2Femail%3Fa%3Db%26c%3D%252F"]))
        equal("asked for by a program", sent(curl(url + "email", *keep)), (401, []))
        equal("a form without a session", sent(curl(url + "email", *keep, "--data", "email=eve@evil.example")), (401, []))
        wrong = ["--data-urlencode", "name=eve", "--data-urlencode", "password=x"]
        here = url + "login?next=%2Femail"
        equal("a wrong password", sent(curl(here, *keep, *wrong)), (303, ["/login?next=%2Femail"]))
        page = curl(here, *keep)
        equal("is told there", (page.title, page.notice), ("Log in", "Wrong name or password for “eve”."))
        for next in ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "", "%2F%2Fevil.example"]:
            where = url + "login?" + urllib.parse.urlencode({"next": next})
            equal(f"next={next}", sent(curl(where, *form)), (303, ["/"]))
        equal("a right one", sent(curl(here, *keep, *form)), (303, ["/email"]))
        page = curl(url + "email", *keep, *html)
        equal("the page itself", (page.status, page.title, page.notice), (200, "E-mail address", LOGGED_IN))
        equal("a change", sent(curl(url + "email", *keep, "--data-urlencode", "email=ada@new.example")), (303, ["/"]))
        page = curl(url, *keep)
        equal("is told and shown", (page.notice, page.email), (CHANGED, "ada@new.example"))

        def stale():
            page = curl(url + "email", *keep, *html)
            return page if page.status == 303 else None

        page = until("the password is asked for again", stale)
        equal("with the way back", page.header("location"), ["/login?next=%2Femail"])
        equal("still logged in", curl(url, *keep).title, "Hello, ada")
        equal("a form is refused too", curl(url + "email", *keep, "--data", "email=eve@evil.example").status, 401)
        equal("and changes nothing", curl(url, *keep).email, "ada@new.example")
        equal("the page that asks", curl(here, *keep).title, "Log in again")
        equal("once more", sent(curl(here, *keep, *form)), (303, ["/email"]))
        equal("and it is open", curl(url + "email", *keep, *html).status, 200)
        curl(url + "logout", *keep, "--request", "POST")
        curl(url, *keep)


def until(what, attempt, pause=0.05):
    """Asks again until the answer is yes, for at most ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = attempt()
        if answer:
            return answer
        time.sleep(pause)
    raise Failed(f"{what}: not within ten seconds")


# The browser: WebDriver, as far as it is needed here. https://www.w3.org/TR/webdriver2/


ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Chromium:
    def __init__(self, driver, profile, more=(), **capabilities):
        self.driver = driver
        switches = """--headless=new --disable-gpu --disable-quic --no-first-run --disable-background-networking
            --disable-component-update --disable-sync --no-proxy-server --window-size=900,700""".split()
        switches += [f"--user-data-dir={profile}", *more]
        if os.geteuid() == 0:
            switches.append("--no-sandbox")
        options = {"binary": shutil.which("chromium"), "args": switches}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options} | capabilities
        self.session = ""
        self.session = "/" + self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def call(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.driver}/session{self.session}{path}", data, method=method)
        try:
            with direct.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as failure:
            raise Failed(f"WebDriver {method} {path}: {failure.read().decode()[:500]}") from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def reload(self):
        self.call("POST", "/refresh")

    def one(self, selector):
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return f"/element/{found[ELEMENT]}"

    def texts(self, *selectors):
        """The texts of these elements, all of one moment; none where there is no such element."""
        source = "return Array.from(arguments, one => document.querySelector(one)?.innerText ?? null)"
        return self.script(source, *selectors)

    def type(self, selector, text):
        self.call("POST", self.one(selector) + "/value", {"text": text})

    def click(self, selector):
        self.call("POST", self.one(selector) + "/click")

    def cookies(self):
        return {cookie["name"]: cookie for cookie in self.call("GET", "/cookie")}

    def script(self, source, *arguments):
        return self.call("POST", "/execute/sync", {"script": source, "args": arguments})

    def picture(self, name):
        if pictures:
            with open(os.path.join(pictures, name + ".png"), "wb") as file:
                file.write(base64.b64decode(self.call("GET", "/screenshot")))


@contextmanager
def chromedriver():
    """What browsers are started by, and a folder for their profiles."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        driver = subprocess.Popen(
            ["chromedriver", f"--port={port}", "--log-level=SEVERE"],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": folder},
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}"

        def ready():
            if driver.poll() is not None:
                raise Failed(f"chromedriver ended with {driver.returncode}")
            try:
                with direct.open(url + "/status", timeout=5) as answer:
                    return json.load(answer)["value"]["ready"]
            except OSError:
                return False

        try:
            until("chromedriver starts", ready)
            yield url, folder
        finally:
            # The whole group: Chromium is many processes.
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()


@contextmanager
def chromium(*switches):
    with chromedriver() as (driver, folder):
        browser = Chromium(driver, os.path.join(folder, "profile"), switches)
        try:
            yield browser
        finally:
            browser.call("DELETE", "")


def with_chromium(folder):
    port = free_port()

    def shows(what, *wanted):
        """Title, notice and visits. A click returns before the page that it leads to is there."""
        saw = None

        deadline = time.monotonic() + 10
        while saw != wanted and time.monotonic() < deadline:
            try:
                saw = tuple(browser.texts("h1", "#notice", "#visits"))
            except Failed as between_two_pages:
                saw = between_two_pages
        equal(what, saw, wanted)

    def log_in(name=NAME, password=PASSWORD):
        browser.type("input[name=name]", name)
        browser.type("input[name=password]", password)
        browser.click("form button")

    with chromium() as browser:
        with login(folder, port) as url:
            browser.open(url)
            shows("the first page", "Log in", None, None)
            equal("it sets no cookie", browser.cookies(), {})
            browser.picture("1-log-in")
            # A page of another site, whose form would log the visitor in. Its origin is none that has a name.
            browser.open("data:text/html,<form method=post><input name=name value=ada>"
                         "<input name=password value='difference engine'><button>")
            browser.script("document.forms[0].action = arguments[0]; document.forms[0].submit()", url + "login")
            until("the foreign form is answered", lambda: browser.call("GET", "/url") == url + "login")
            check("with 403", "403" in browser.texts("body")[0], browser.texts("body"))
            browser.open(url)
            shows("nobody is logged in by it", "Log in", None, None)
            equal("it sets no cookie either", browser.cookies(), {})
            log_in(name="<i>eve</i>")
            shows("a wrong password", "Log in", "Wrong name or password for “<i>eve</i>”.", None)
            browser.picture("2-wrong")
            equal("with its flash gone, nothing is left to keep", browser.cookies(), {})

            log_in()
            shows("login", "Hello, ada", LOGGED_IN, "1")
            browser.picture("3-hello")
            equal("after POST comes GET", browser.call("GET", "/url"), url)
            cookie = browser.cookies().get(COOKIE)
            check("the browser stored the cookie", cookie, browser.cookies())
            attributes = {"httpOnly": True, "secure": True, "sameSite": "Lax", "path": "/", "domain": "localhost"}
            equal("its attributes", {name: cookie[name] for name in attributes}, attributes)
            check("it ends with the browser", "expiry" not in cookie, cookie)
            equal("scripts do not see it", browser.script("return document.cookie"), "")
            browser.reload()
            shows("the flash is shown once", "Hello, ada", None, "2")

        with login(folder, port) as url:
            browser.reload()
            shows("after a restart", "Hello, ada", None, "3")
            browser.click("form button")
            shows("logout", "Log in", LOGGED_OUT, None)
            equal("the cookies are gone", browser.cookies(), {})
            browser.reload()
            shows("it stays so", "Log in", None, None)

        with login(folder, port, FRESH_SECONDS=3) as url:
            browser.open(url + "email")
            shows("a page for users", "Log in", None, None)
            equal("by way of the login", browser.call("GET", "/url"), url + "login?next=%2Femail")
            log_in(name="eve")
            shows("a wrong password", "Log in", "Wrong name or password for “eve”.", None)
            log_in()
            shows("back again", "E-mail address", LOGGED_IN, None)
            equal("where it wanted to go", browser.call("GET", "/url"), url + "email")
            browser.script("document.querySelector('input').value = ''")
            browser.type("input[name=email]", "ada@new.example")
            browser.click("form button")
            shows("the change", "Hello, ada", CHANGED, "1")
            equal("is there", browser.texts("#email"), ["ada@new.example"])

            def asked():
                browser.open(url + "email")
                return browser.texts("h1") == ["Log in again"]

            until("the password is asked for again", asked, pause=0.3)
            browser.picture("5-again")
            # What a script of the page asks for is no page: no redirect to follow.
            equal("a script", browser.script("return fetch('/email').then(answer => answer.status)"), 401)
            log_in()
            shows("once more", "E-mail address", LOGGED_IN, None)
            browser.open(url)
            browser.click("form button")
            shows("logout", "Log in", LOGGED_OUT, None)

        with login(folder, port, SESSION_SECONDS=1) as url:
            browser.open(url)
            log_in()
            shows("a short session begins", "Hello, ada", LOGGED_IN, "1")

            def over():
                browser.reload()
                return browser.texts("h1") == ["Log in"]

            # A use prolongs the session, so the pause between two has to be longer than that.
            until("the session expires", over, pause=2.1)
            shows("which is told", "Log in", EXPIRED, None)
            browser.picture("4-expired")
            log_in()
            shows("and login works again", "Hello, ada", LOGGED_IN, "1")


def main():
    global binary, pictures
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: tests/login.py target/debug/examples/login [screenshots/]")
    binary = os.path.abspath(sys.argv[1])
    pictures = sys.argv[2] if len(sys.argv) == 3 else None
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} is no program; run `cargo build --example login`")
    missing = [program for program in ("curl", "chromium", "chromedriver") if not shutil.which(program)]
    if missing:
        install = "apt-get update && apt-get install -y --no-install-recommends curl chromium chromium-driver"
        sys.exit(f"missing: {', '.join(missing)}; on Debian run: {install}")
    for name, run in [("curl", with_curl), ("chromium", with_chromium)]:
        before = passed
        try:
            with tempfile.TemporaryDirectory() as folder:
                run(folder)
        except Exception as failure:
            if not isinstance(failure, Failed):
                traceback.print_exc()
            print(f"FAILED  {name}: {failure}", flush=True)
            sys.exit(f"{passed} passed, 1 failed")
        print(f"ok  {name} ({passed - before})", flush=True)
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
