#!/usr/bin/env python3
"""Drives the example `playground` in headless Chromium, as a visitor would: every button, two browsers, a restart.

usage: tests/playground.py target/debug/examples/playground [screenshots/]      (built with --features redb)
"""

import os
import re
import subprocess
import sys
import tempfile

import login
from login import Chromium, check, equal, free_port, until

COOKIE = "__Host-Http-session"
# What the second browser calls itself; the page is filled in where it has such words in braces.
HOSTILE = "<img src=x onerror=alert(1)> {id}{cookie}"
binary = None


class Server:
    def __init__(self, folder, port, **settings):
        self.folder, self.port, self.settings = folder, port, settings
        self.start()

    def start(self):
        environment = os.environ | {"PORT": str(self.port)} | self.settings
        self.process = subprocess.Popen([binary, self.folder], env=environment, stdout=subprocess.PIPE, text=True)
        check("the server says where it is", f":{self.port}/" in self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()


def submit(browser, action, **fields):
    """Fills a form in and sends it, then waits for the page that comes back."""
    browser.script("document.documentElement.dataset.old = 1")
    for name, value in fields.items():
        selector = f'form[action="{action}"] input[name="{name}"]'
        browser.script("document.querySelector(arguments[0]).value = ''", selector)
        browser.type(selector, value)
    browser.click(f'form[action="{action}"] button')
    until(f"{action} answers", lambda: browser.script(
        "return document.readyState === 'complete' && !document.documentElement.dataset.old"))
    # The script has shown the state.
    until("the script runs", lambda: re.match(r"\d\d:\d\d:\d\d$", browser.texts("#now")[0]))


def seen(browser, name):
    return browser.texts(f"#{name}")[0]


def rows(browser):
    return dict(browser.script(
        "return Array.from(document.querySelectorAll('#rows tr')).filter(r => r.querySelector('th'))"
        ".map(r => [r.querySelector('th').innerText, r.querySelector('code').innerText])"))


def devices(browser):
    """The label of each session of the subject, and what stands beside it."""
    return sorted(map(tuple, browser.script(
        "return Array.from(document.querySelectorAll('#devices tr')).filter(r => r.querySelector('th'))"
        ".map(r => [r.cells[0].innerText, r.cells[2].innerText])")))


def words(browser):
    return browser.script("return Array.from(document.querySelectorAll('#events b'), b => b.innerText)")


def picture(browser, name):
    for width, height in ((1280, 1500), (390, 2600)):
        browser.call("POST", "/window/rect", {"width": width, "height": height})
        fits = browser.script("return document.documentElement.scrollWidth <= window.innerWidth")
        check(f"nothing is cut off at {width} pixels", fits)
        browser.picture(f"{name}-{width}")
    # Light and dark, with text that stands out from what is behind it.
    for scheme in ("light", "dark"):
        browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]}})
        for selector in ("body", "section p", "button", "#id"):
            text, behind = browser.script(
                "let element = document.querySelector(arguments[0]); const text = getComputedStyle(element).color;"
                "let behind; do { behind = getComputedStyle(element).backgroundColor; element = element.parentElement; }"
                "while (element && /, 0\\)$|transparent/.test(behind)); return [text, behind]", selector)
            contrast = (luminance(text) + 0.05) / (luminance(behind) + 0.05)
            check(f"{selector} is readable in the {scheme} (WCAG 2.2, AA)", max(contrast, 1 / contrast) >= 4.5,
                  (text, behind))
        check(f"the background is {scheme}", (luminance(behind) < 0.2) == (scheme == "dark"), behind)
    browser.picture(f"{name}-dark")
    browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": []}})


def luminance(colour):
    """Of a CSS colour, as WCAG defines it."""
    def linear(part):
        part = float(part) / 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, re.findall(r"[\d.]+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def with_one_browser(browser, url, server):
    browser.open(url)
    equal("at first", (seen(browser, "origin"), seen(browser, "device")), ("new", "free"))
    check("no cookie for looking", COOKIE not in browser.cookies(), browser.cookies())

    submit(browser, "/set", key="greeting", value='{"hello": [1, 2]}')
    equal("the entry", rows(browser), {"greeting": '{"hello":[1,2]}'})
    equal("it was resumed", seen(browser, "origin"), "resumed")
    cookie = browser.cookies()[COOKIE]
    wanted = {"httpOnly": True, "secure": True, "sameSite": "Lax", "path": "/"}
    equal("attributes as the browser has them", {name: cookie[name] for name in wanted}, wanted)
    equal("no script sees it", browser.script("return document.cookie"), "")
    submit(browser, "/set", key="second", value="not json")
    equal("text is a value too", rows(browser)["second"], '"not json"')
    submit(browser, "/set", key="greeting", value="7")
    equal("changed", rows(browser)["greeting"], "7")
    browser.script("document.documentElement.dataset.old = 1")
    browser.click('#rows tr:nth-child(2) button')
    until("removed", lambda: rows(browser) == {"greeting": "7"})

    before = seen(browser, "id")
    submit(browser, "/login", subject="ada")
    equal("logged in", (seen(browser, "subject"), seen(browser, "device")), ("ada", "offered"))
    check("under a new id", seen(browser, "id") != before)
    check("told", "renewed" in words(browser), words(browser))
    equal("the only device", devices(browser), [("Chrome on Linux", "this one")])

    # The size meter, and the moment when it moves into the store.
    submit(browser, "/grow", bytes="2000")
    equal("still in the cookie", seen(browser, "place"), "cookie")
    width = browser.script("return document.querySelector('#meter i').getBoundingClientRect().width"
                           " / document.querySelector('#meter').getBoundingClientRect().width")
    check("the meter shows it", 0.5 < width < 0.75, width)
    submit(browser, "/grow", bytes="2500")
    equal("moved into the store", seen(browser, "place"), "store")
    check("a small reference in its place", len(browser.cookies()[COOKIE]["value"]) < 250)
    check("with its row", "bytes" in seen(browser, "row"), seen(browser, "row"))
    check("told", "spilled" in words(browser), words(browser))
    picture(browser, "playground-stored")

    # A restart costs nobody anything.
    server.stop()
    server.start()
    browser.open(url)
    equal("after a restart", (seen(browser, "origin"), seen(browser, "subject"), rows(browser)["greeting"]),
          ("resumed", "ada", "7"))
    submit(browser, "/grow", bytes="10")
    equal("it stays in the store", seen(browser, "place"), "store")
    submit(browser, "/renew")
    equal("renewed, it comes back", seen(browser, "place"), "cookie")

    # Keys.
    key = seen(browser, "primary")
    submit(browser, "/rotate")
    check("another key seals", seen(browser, "primary") != key)
    equal("and nobody is logged out", seen(browser, "subject"), "ada")
    until("the session is under it", lambda: f'"key": "{seen(browser, "primary")}"' in seen(browser, "inspected")
          or browser.open(url))
    browser.open(url)
    check("told", "resealed" in words(browser), words(browser))

    # Countdowns, touch, and a clock that is put forward.
    until("they count", lambda: re.match(r"in \d+ min \d\d s$", seen(browser, "idle")))
    submit(browser, "/jump", seconds="1080")
    check("18 minutes later it is alive", seen(browser, "subject") == "ada", seen(browser, "origin"))
    submit(browser, "/touch")
    check("touched", re.match(r"in (29|30) min", seen(browser, "duration")), seen(browser, "duration"))

    # Trying to break it.
    submit(browser, "/keep")
    check("the copy can be replayed", not browser.script("return document.getElementById('replay').disabled"))
    submit(browser, "/logout")
    equal("logged out", seen(browser, "subject"), "none")
    submit(browser, "/replay")
    check("the copy is worth nothing", "rejected" in words(browser), words(browser))
    equal("nobody is logged in", seen(browser, "subject"), "none")
    check("because it was revoked", any("revoked" in line for line in browser.script(
        "return Array.from(document.querySelectorAll('#events li'), li => li.innerText)")))
    submit(browser, "/login", subject="ada")
    submit(browser, "/tamper")
    check("a flipped byte is noticed", any("tampered" in line for line in browser.script(
        "return Array.from(document.querySelectorAll('#events li'), li => li.innerText)")))
    equal("and nobody is logged in by it", seen(browser, "subject"), "none")
    submit(browser, "/login", subject="ada")
    submit(browser, "/jump", seconds="1300")
    equal("21 minutes unused are too many", seen(browser, "subject"), "none")


def with_two_browsers(one, other, url):
    for browser in (one, other):
        browser.open(url)
        submit(browser, "/login", subject="grace")
        submit(browser, "/set", key="mine", value=str(id(browser)))
    check("two sessions", seen(one, "id") != seen(other, "id"))
    equal("of one subject", seen(other, "subject"), "grace")
    equal("the second sees both", devices(other), sorted([("Chrome on Linux", "Log out"), (HOSTILE, "this one")]))
    one.open(url)
    equal("so does the first", devices(one), sorted([("Chrome on Linux", "this one"), (HOSTILE, "Log out")]))
    equal("whatever it calls itself is text", one.script("return document.images.length"), 0)
    submit(one, "/end")
    equal("it ends the other", devices(one), [("Chrome on Linux", "this one")])
    until("which is told", lambda: "revoked" in words(one))
    other.open(url)
    equal("and is over", (seen(other, "subject"), seen(other, "origin").split(":")[:2]), ("none", ["rejected", " revoked"]))
    equal("nobody has no devices", devices(other), [])
    submit(other, "/login", subject="grace")
    submit(one, "/everywhere")
    equal("here it goes on", seen(one, "subject"), "grace")
    until("its feed tells it", lambda: "subject_revoked" in words(one))
    other.open(url)
    equal("there it is over", (seen(other, "subject"), seen(other, "origin").split(":")[:2]),
          ("none", ["rejected", " revoked"]))
    equal("and its data is nobody's", rows(other), {})
    # What one does, the other's feed shows without a reload.
    count = len(words(other))
    submit(one, "/set", key="again", value="1")
    until("the feed is live", lambda: len(words(other)) > count)
    submit(one, "/clear")
    equal("cleared", rows(one), {})
    picture(one, "playground")


def at_the_browsers_limit(browser, folder):
    """A cookie of exactly 4,096 bytes of name + value is kept by the browser; with one byte more the session spills."""
    # A name of this length, because the value's length goes in steps.
    name, port = COOKIE + "-edge1", free_port()
    # A device's key would have its room kept.
    server = Server(folder, port, COOKIE_NAME=name, SPILL_ABOVE="4096", RESPONSE_HEAD_BUDGET="16384", DEVICE_BINDING="off")
    try:
        browser.open(f"http://localhost:{port}/")
        kept = lambda: len(name) + len(browser.cookies()[name]["value"])
        filler = lambda: browser.script(
            "const asked = new XMLHttpRequest(); asked.open('GET', '/state', false); asked.send();"
            "return JSON.parse(asked.responseText).entries.filler.length")
        submit(browser, "/grow", bytes="2926")
        equal("the whole of it is kept", (seen(browser, "place"), kept()), ("cookie", 4096))
        browser.open(f"http://localhost:{port}/")
        equal("and comes back", (seen(browser, "origin"), filler()), ("resumed", 2926))
        submit(browser, "/grow", bytes="2927")
        equal("the next byte spills it", seen(browser, "place"), "store")
        check("into a reference", kept() < 250, kept())
        equal("with nothing lost", filler(), 2927)
    finally:
        server.stop()


def without_script(browser, url):
    """The page is complete as it comes, and forms are all that it needs."""
    import urllib.request

    html = urllib.request.urlopen(url).read().decode()
    for action in re.findall(r'action="?(/\w+)', html):
        check(f"{action} is a form", f'action="{action}"' in html or f"action={action}" in html)
    check("nothing is left to fill in", not re.search(r"\{\w+\}", html), re.findall(r"\{\w+\}", html))
    check("every input has a label", len(re.findall(r"<input(?! type=hidden)", html)) == html.count("<label>"))
    unnamed = browser.script(
        "return Array.from(document.querySelectorAll('button, section, [role=img]')).filter(e => !(e.innerText.trim()"
        " || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby'))).length")
    equal("everything has a name for a screen reader", unnamed, 0)


def main():
    global binary
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    binary = os.path.abspath(sys.argv[1])
    login.pictures = sys.argv[2] if len(sys.argv) == 3 else None
    port = free_port()
    url = f"http://localhost:{port}/"
    with tempfile.TemporaryDirectory() as folder, login.chromium() as one:
        server = Server(folder, port)
        other = Chromium(one.driver, os.path.join(folder, "other-profile"), [f"--user-agent={HOSTILE}"])
        try:
            with_one_browser(one, url, server)
            with_two_browsers(one, other, url)
            without_script(one, url)
            at_the_browsers_limit(one, os.path.join(folder, "edge"))
        finally:
            other.call("DELETE", "")
            server.stop()
    print(f"ok  the playground in two browsers ({login.passed} checks)")


main()
