#!/usr/bin/env python3
"""Drives the examples `devices` and `devices_axum` with two profiles of headless Chromium, as one user with two devices.

usage: tests/devices.py target/debug/examples/devices target/debug/examples/devices_axum

Both are built with the feature `memory`. Needs what tests/login.py needs. The sessions are in cookies and their list in the
memory of one process, so whoever is logged out is out at the next request: nothing here waits for a bound, and a second try is
never made.
"""

import http.client
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import urllib.parse
from datetime import datetime, timezone

import login
from login import Chromium, Failed, check, chromium, equal, free_port, until

COOKIE = login.COOKIE
# What a browser may call itself. No browser is known by it, so it is shown as it is, cut short.
HOSTILE = """<img src=x onerror="window.owned=1">'&amp;</td></table><script>window.owned=2</script>""" + "x" * 40
AGENTS = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": "Firefox on Linux",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0":
        "Edge on Windows",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":
        "Chrome on macOS",
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":
        "Chrome on Android",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/604.1":
        "Safari on iPhone",
    "curl/8.14.1": "curl/8.14.1",
    "": "some browser",
    "Firefox/1 Linux <b>": "Firefox/1 Linux <b>",
    # 120 bytes, and no half of a letter.
    "x" + "é" * 100: "x" + "é" * 59,
}


def ask(port, method, path, agent=None, cookie=None, **form):
    """One request of curl's kind: the answer's status and text, and the cookie that it sets."""
    headers = {}
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if cookie:
        headers["Cookie"] = cookie
    if agent is not None:
        headers["User-Agent"] = agent.encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, urllib.parse.urlencode(form) if form else None, headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    cookies = [line.partition(";")[0] for line in answer.headers.get_all("set-cookie", [])]
    return answer.status, body, cookies[0] if cookies else None


# What is done in a browser.


def press(browser, selector):
    """Clicks, and waits for the page that comes."""
    browser.script("document.documentElement.dataset.old = 1")
    browser.click(selector)
    until(f"{selector} is answered", lambda: browser.script(
        "return document.readyState === 'complete' && !document.documentElement.dataset.old"))


def log_in(browser, url, name="ada"):
    browser.open(url)
    equal("the form", browser.texts("h1"), ["Log in"])
    browser.script("document.querySelector('input[name=name]').value = ''")
    browser.type("input[name=name]", name)
    press(browser, "form[action='/login'] button")


def title(browser, url):
    """At the next request."""
    browser.open(url)
    return browser.texts("h1")[0]


def devices(browser):
    """Of each row the label, and what stands at its end."""
    return sorted(map(tuple, browser.script(
        "return Array.from(document.querySelectorAll('tbody tr'), row => [row.cells[0].innerText, row.cells[3].innerText])")))


def handles(browser):
    """Those that the page has a button for."""
    return browser.script("return Array.from(document.querySelectorAll('input[name=handle]'), one => one.value)")


def post(browser, path, **form):
    """What a script of the page sends, as somebody may who does not keep to the buttons."""
    return browser.script(
        "return fetch(arguments[0], {method: 'POST', body: new URLSearchParams(arguments[1])}).then(it => it.status)", path, form)


# What is checked.


def both_see_both(one, other, url):
    log_in(one, url)
    equal("alone", devices(one), [("Chrome on Linux", "this device")])
    log_in(other, url)
    label = HOSTILE[:120]
    equal("the second sees both", devices(other), sorted([("Chrome on Linux", "Log out"), (label, "this device")]))
    one.reload()
    equal("and so does the first", devices(one), sorted([("Chrome on Linux", "this device"), (label, "Log out")]))
    for browser in (one, other):
        equal("of what a browser calls itself nothing is markup", browser.script(
            "return [document.images.length, document.scripts.length, document.querySelectorAll('table').length,"
            " window.owned ?? null]"), [0, 0, 1, None])
    equal("each handle is another's", len({*handles(one), *handles(other)}), 2)
    signed, seen = one.script("return Array.from(document.querySelectorAll('tbody tr:first-child td'), cell => cell.innerText)")[1:3]
    ago = datetime.now(timezone.utc) - datetime.strptime(signed, "%Y-%m-%d, %H:%M").replace(tzinfo=timezone.utc)
    check("it says when somebody logged in", 0 <= ago.total_seconds() < 180, signed)
    hour = {datetime.fromtimestamp(time.time() - back, timezone.utc).strftime("%Y-%m-%d, %H h") for back in (0, 180)}
    check("and the hour of the last use", seen in hour, seen)
    one.picture("devices-" + os.path.basename(login.binary))


def one_ends_the_other(one, other, url):
    press(one, "form[action='/end'] button")
    equal("the line is gone", devices(one), [("Chrome on Linux", "this device")])
    equal("with memory and one process the other is out at once", title(other, url), "Log in")
    equal("the first goes on", title(one, url), "My devices")
    log_in(other, url)
    equal("the other may log in again", len(devices(other)), 2)


def nobody_ends_what_is_anothers(one, other, port, url):
    press(other, "form[action='/logout'] button")
    equal("logged out", other.texts("h1"), ["Log in"])
    one.reload()
    equal("which takes the line", devices(one), [("Chrome on Linux", "this device")])
    log_in(other, url, name="<b>bob</b>")
    equal("a name is no markup", other.texts("#user"), ["<b>bob</b>"])
    equal("bob sees himself alone", [end for _, end in devices(other)], ["this device"])
    log_in_again = ask(port, "POST", "/login", name="<b>bob</b>")[2]
    other.reload()
    [his] = handles(other)
    for form in [{}, {"subject": "<b>bob</b>"}, {"user": "<b>bob</b>", "name": "<b>bob</b>"}]:
        equal(f"ada's form with bob's handle and {form} is none of her sessions", post(one, "/end", handle=his, **form), 200)
        equal("his goes on", "My devices" in ask(port, "GET", "/", cookie=log_in_again)[1], True)
    equal("nor hers", title(one, url), "My devices")
    equal("a handle without a session", ask(port, "POST", "/end", handle=his)[0], 401)
    equal("all others without a session", ask(port, "POST", "/elsewhere")[0], 401)
    for path in ("/end", "/elsewhere", "/logout"):
        equal(f"GET {path} does nothing", ask(port, "GET", path)[0] in (404, 405), True)
    equal("a handle that is none", post(one, "/end", handle="x"), 200)
    equal("bob's own ends it", post(other, "/end", handle=his), 200)
    equal("at once", "Log in" in ask(port, "GET", "/", cookie=log_in_again)[1], True)


def everywhere_else(one, other, port, url):
    press(other, "form[action='/logout'] button")
    log_in(other, url)
    third = ask(port, "POST", "/login", name="ada")[2]
    one.reload()
    equal("three of them", len(devices(one)), 3)
    press(one, "form[action='/elsewhere'] button")
    equal("one is left, with its name", devices(one), [("Chrome on Linux", "this device")])
    equal("the other is out at once", title(other, url), "Log in")
    equal("so is the third", "Log in" in ask(port, "GET", "/", cookie=third)[1], True)
    equal("this one goes on", title(one, url), "My devices")


def names(port):
    for n, (agent, wanted) in enumerate(AGENTS.items()):
        status, _, cookie = ask(port, "POST", "/login", agent, name=f"user {n}")
        equal(f"a login from {agent[:40]!r}", status, 303)
        page = ask(port, "GET", "/", cookie=cookie)[1]
        label = re.search(r"<tbody><tr><td>(.*?)<td>", page)[1].replace("&lt;", "<").replace("&gt;", ">")
        equal(f"{agent[:40]!r} is called", label, wanted)


def the_older_one_ends(one, other, url):
    log_in(one, url)
    equal("the first is in", devices(one), [("Chrome on Linux", "this device")])
    log_in(other, url)
    equal("the second is alone", [end for _, end in devices(other)], ["this device"])
    equal("because the first was put out by it", title(one, url), "Log in")
    equal("and goes on", title(other, url), "My devices")
    log_in(one, url, name="bob")
    equal("another user puts nobody out", title(other, url), "My devices")


def the_newer_one_is_refused(one, other, url):
    log_in(one, url)
    equal("the first is in", devices(one), [("Chrome on Linux", "this device")])
    log_in(other, url)
    equal("the second is answered", other.call("GET", "/url"), url + "login")
    check("with 403", "403" in other.texts("body")[0], other.texts("body"))
    check("and gets no cookie", COOKIE not in other.cookies(), other.cookies())
    equal("the first goes on", title(one, url), "My devices")
    equal("alone", devices(one), [("Chrome on Linux", "this device")])
    press(one, "form[action='/logout'] button")
    log_in(other, url)
    equal("once the first has left the second gets in", [end for _, end in devices(other)], ["this device"])


def drive(one, other, folder):
    name, port = os.path.basename(login.binary), free_port()

    def run(what, work, *more, **settings):
        before = login.passed
        for browser in (one, other):
            browser.open("data:,")
        with login.login(folder, port, STORE="memory", **settings) as url:
            for browser in (one, other):
                browser.open(url)
                browser.call("DELETE", "/cookie")
            work(url)
        print(f"ok  {name}: {what} ({login.passed - before})", flush=True)

    def any_number(url):
        both_see_both(one, other, url)
        one_ends_the_other(one, other, url)
        nobody_ends_what_is_anothers(one, other, port, url)
        everywhere_else(one, other, port, url)
        names(port)

    run("any number of devices", any_number)
    run("one device, the older is put out", lambda url: the_older_one_ends(one, other, url), MAX_SESSIONS=1, OVERFLOW="end-oldest")
    run("one device, the newer is refused", lambda url: the_newer_one_is_refused(one, other, url), MAX_SESSIONS=1, OVERFLOW="refuse")


def main():
    binaries = [os.path.abspath(binary) for binary in sys.argv[1:]]
    if not binaries or not all(os.access(binary, os.X_OK) for binary in binaries):
        sys.exit(__doc__)
    missing = [program for program in ("chromium", "chromedriver") if not shutil.which(program)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium() as one:
            other = Chromium(one.driver, os.path.join(folder, "other"), [f"--user-agent={HOSTILE}"])
            try:
                for login.binary in binaries:
                    drive(one, other, folder)
            finally:
                other.call("DELETE", "")
    except Exception as failure:
        if not isinstance(failure, Failed):
            traceback.print_exc()
        sys.exit(f"FAILED  {os.path.basename(login.binary)}: {failure}\n{login.passed} passed, 1 failed")
    print(f"{login.passed} passed, 0 failed")


main()
