#!/usr/bin/env python3
"""Drives the example `oidc` with a plain HTTP client and with headless Chromium: logins at another site, and attacks on them.

usage: tests/oidc.py target/debug/examples/oidc

The application is at http://localhost, its provider at http://127.0.0.1: for a browser another site. Needs Python 3, chromium
and chromedriver.
"""

import html
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import login
from login import Failed, check, chromium, equal, until

SESSION = "__Host-Http-session"
BY_GET, BY_POST = "__Host-Http-oidc.", "__Host-Http-oidc-post."
NO_COOKIE = "This login has expired, is over already, or was begun in another browser."
NO_CODE = "the provider does not accept the code"
NO_NONCE = "the ID token is of another login"
binary = None


@contextmanager
def oidc(folder, **settings):
    """Runs the example, and yields its URL without the last slash, once it says that it is ready."""
    environment = {name: value for name, value in os.environ.items() if name != "TRUST_PROVIDER"}
    environment |= {"PORT": "0", "PROVIDER_PORT": "0"} | settings
    server = subprocess.Popen([binary], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    too_slow = threading.Timer(20, server.kill)
    too_slow.start()
    try:
        ready = re.fullmatch(r"(http://localhost:\d+)/\n", server.stdout.readline())
        check("it says that it is ready", ready, server.poll())
        too_slow.cancel()
        yield ready[1]
        check("the server still lives", server.poll() is None, server.returncode)
    finally:
        too_slow.cancel()
        server.kill()
        server.wait()
        server.stdout.close()


# What asks as a browser does, but one step at a time.


class Answer:
    def __init__(self, url, answer):
        self.status = answer.status
        self.set_cookies = answer.headers.get_all("set-cookie") or []
        location = answer.headers["location"]
        self.location = location and urljoin(url, location)
        self.body = answer.read().decode()
        self.title = self.first(r"<h1>(.*?)</h1>")
        self.reason = self.first(r"<p id=reason>(.*?)</p>")
        self.visits = self.first(r"<dd id=visits>(\d+)</dd>")
        self.session = self.first(r"<dd id=session>(.*?)</dd>")

    def first(self, pattern):
        found = re.search(pattern, self.body, re.S)
        return html.unescape(found[1]) if found else None


class Agent:
    """The cookies of one browser."""

    def __init__(self, url):
        self.url, self.jar = url, {}

    def ask(self, path, form=None, **headers):
        url = urljoin(self.url, path)
        server = urlsplit(url)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        own = url.startswith(self.url + "/")
        if own and self.jar:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        if form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            target = server.path + ("?" + server.query if server.query else "")
            headers["host"] = server.netloc
            body = None if form is None else urlencode(form)
            connection.request("GET" if form is None else "POST", target, body, headers)
            answer = Answer(url, connection.getresponse())
        finally:
            connection.close()
        check("the provider sets no cookies", own or not answer.set_cookies, answer.set_cookies)
        for line in answer.set_cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        return answer

    def waiting(self, kind=BY_GET):
        return [name for name in self.jar if name.startswith(kind)]

    def begin(self, next="/account", **more):
        """Where the application sends the browser."""
        answer = self.ask("/login?" + urlencode({"next": next, **more}))
        equal("a login leads away", answer.status, 303)
        return answer.location

    def choose(self, provider, user="ada"):
        """Where the provider sends it back to."""
        equal("the provider asks", self.ask(provider).title, "The provider")
        answer = self.ask(provider, {"user": user})
        equal("the provider leads back", answer.status, 303)
        return answer.location

    def choose_by_form(self, provider, user="ada"):
        """The form that the provider has the browser send, and where to."""
        page = self.ask(provider, {"user": user})
        fields = re.findall(r'<input type=hidden name=(\w+) value="(.*?)">', page.body)
        return page.first(r'action="(.*?)"'), {name: html.unescape(value) for name, value in fields}

    def log_in(self, user="ada", next="/account"):
        answer = self.ask(self.choose(self.begin(next), user))
        equal(f"{user} is led on", (answer.status, answer.location), (303, self.url + next))
        return answer

    def who(self):
        return self.ask("/").title


def altered(url, **changes):
    """The URL with other values in its query."""
    parts = urlsplit(url)
    return parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | changes)).geturl()


def asked(url, name):
    return parse_qs(urlsplit(url).query)[name][0]


def refused(what, agent, answer, reason, nobody="Nobody is logged in"):
    """Nothing came of it, and nothing of the session has changed."""
    session = [line for line in answer.set_cookies if line.startswith(SESSION)]
    equal(what, (answer.status, answer.reason, session), (400, reason, []))
    equal(f"{what}: who is logged in", agent.who(), nobody)


# One at a time; each gets the URL of the application.


def a_login_ends_where_it_was_going(url):
    ada = Agent(url)
    before = ada.ask("/")
    equal("nobody is there yet", (before.title, before.visits), ("Nobody is logged in", "1"))
    wanted = ada.ask("/account?tab=1")
    equal("a page for users alone", (wanted.status, wanted.location), (303, url + "/login?next=%2Faccount%3Ftab%3D1"))
    leaving = ada.ask(wanted.location)
    query = {name: value for name, value in parse_qsl(urlsplit(leaving.location).query)}
    fixed = {"response_type": "code", "scope": "openid", "code_challenge_method": "S256"}
    fixed["redirect_uri"] = url + "/callback"
    equal("what the provider is asked", {name: query.get(name) for name in fixed}, fixed)
    for name in ("state", "nonce", "code_challenge"):
        check(f"{name} is of 256 bits", re.fullmatch(r"[\w-]{43}", query[name]), query[name])
    equal("the session is left alone", [line.split("=")[0] for line in leaving.set_cookies], [BY_GET + query["state"]])
    attributes = {"HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=600"}
    equal("the cookie's attributes", set(leaving.set_cookies[0].split("; ")[1:]), attributes)
    check("its value tells nothing", query["nonce"] not in leaving.set_cookies[0], leaving.set_cookies)

    back = ada.ask(ada.choose(leaving.location))
    equal("the login ends", (back.status, back.location), (303, url + "/account?tab=1"))
    equal("its cookie is gone", ada.waiting(), [])
    page = ada.ask(back.location)
    equal("ada is there, with what she had", (page.title, page.visits), ("Hello, ada", "2"))
    check("under another id", page.session and page.session != before.session, page.session)

    ada.log_in("bob")
    bob = ada.ask("/")
    equal("bob has nothing of hers", (bob.title, bob.visits), ("Hello, bob", "1"))
    check("under another id still", bob.session not in (page.session, before.session), bob.session)
    equal("logout by GET is none", ada.ask("/logout").status, 404)
    equal("logout", ada.ask("/logout", {}).location, url + "/")
    equal("is one", ada.ask("/").title, "Nobody is logged in")


def tabs_do_not_disturb_one_another(url):
    ada = Agent(url)
    tabs = {f"/account?tab={n}": ada.begin(f"/account?tab={n}") for n in range(3)}
    equal("each has a cookie", len(ada.waiting()), 3)
    for next, provider in reversed(tabs.items()):
        answer = ada.ask(ada.choose(provider))
        equal("each tab ends at its own", (answer.status, answer.location), (303, url + next))
        equal("as ada", ada.who(), "Hello, ada")
    equal("none is left", ada.waiting(), [])


def a_login_belongs_to_the_browser_that_began_it(url):
    attacker, victim = Agent(url), Agent(url)
    bait = attacker.choose(attacker.begin(), "bob")
    victim.ask("/")
    refused("a link with the attacker's login", victim, victim.ask(bait), NO_COOKIE)
    own = victim.begin()
    refused("also amid a login", victim, victim.ask(bait), NO_COOKIE)
    equal("which goes on", len(victim.waiting()), 1)
    mixed = altered(bait, state=asked(own, "state"))
    refused("the attacker's code, even with the victim's state", victim, victim.ask(mixed), NO_CODE)
    equal("with which that login is over", victim.waiting(), [])
    victim.log_in("ada")
    bait = attacker.choose(attacker.begin(), "bob")
    refused("nor does ada become bob", victim, victim.ask(bait), NO_COOKIE, "Hello, ada")
    for query in ("", "?state=&code=x", "?state=..&code=x", "?code=" + asked(bait, "code")):
        path = "/callback" + query
        refused(f"a state that is none: {path}", victim, victim.ask(path), NO_COOKIE, "Hello, ada")
    equal("while the attacker's own goes on", attacker.ask(bait).status, 303)


def nothing_is_good_twice(url):
    ada = Agent(url)
    callback = ada.choose(ada.begin())
    copy = dict(ada.jar)
    equal("the first time", ada.ask(callback).status, 303)
    refused("the URL again", ada, ada.ask(callback), NO_COOKIE, "Hello, ada")
    thief = Agent(url)
    thief.jar = copy
    refused("the URL and a copy of the cookie", thief, thief.ask(callback), NO_CODE)


def what_was_begun_is_what_must_end(url):
    ada = Agent(url)
    provider = ada.begin()
    refused("another nonce", ada, ada.ask(ada.choose(altered(provider, nonce="x" * 43))), NO_NONCE)
    equal("is the end of that login", ada.waiting(), [])
    provider = ada.begin()
    refused("another verifier", ada, ada.ask(ada.choose(altered(provider, code_challenge="x" * 43))), NO_CODE)
    answer = ada.ask(ada.choose(ada.begin(), ""))
    refused("a user who does not want to", ada, answer, "the provider says: access_denied")
    equal("is the end of that login too", ada.waiting(), [])

    callback = ada.choose(ada.begin())
    form = {"grant_type": "authorization_code", "client_id": "demo", "client_secret": "guessed", "code_verifier": "x" * 43}
    form |= {"redirect_uri": url + "/callback", "code": asked(callback, "code")}
    answer = ada.ask(urljoin(provider, "/token"), form)
    equal("a program that is not the application", (answer.status, answer.body), (400, '{"error":"invalid_client"}'))
    [name] = ada.waiting()
    value = ada.jar[name]
    middle = len(value) // 2
    for tampered in (value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :], value[:-4], "x"):
        ada.jar[name] = tampered
        refused("a tampered cookie", ada, ada.ask(callback), NO_COOKIE)
    # The cookie of one login under the name of another.
    ada.jar[name] = value
    other = ada.choose(ada.begin())
    [second] = [one for one in ada.waiting() if one != name]
    ada.jar[second] = value
    refused("a cookie that was renamed", ada, ada.ask(other), NO_COOKIE)
    ada.jar[BY_POST + name.removeprefix(BY_GET)] = value
    answer = ada.ask("/callback/post", dict(parse_qsl(urlsplit(callback).query)))
    refused("or is of the other way back", ada, answer, NO_COOKIE)
    equal("all the while the first is good", ada.ask(callback).status, 303)

    provider = ada.begin()
    for change in ({"redirect_uri": "http://localhost/callback"}, {"client_id": "x"}, {"code_challenge_method": "plain"}):
        answer = ada.ask(altered(provider, **change), {"user": "ada"})
        equal(f"the provider leads nowhere: {change}", (answer.status, answer.location), (400, None))


def next_is_a_page_of_the_application(url):
    ada = Agent(url)
    elsewhere = ["//evil.net", "https://evil.net/", "/\\evil.net", "\\\\evil.net", "evil.net", "", "/\t/evil.net", "/ /x",
                 "/a\r\nSet-Cookie: a=b", "/ü", "/" + "a" * 500]
    for next in elsewhere:
        answer = ada.ask(ada.choose(ada.begin(next)))
        equal(f"next={next!r:.40}", (answer.status, answer.location), (303, url + "/"))
    for next in ("/", "/account?a=b&c=%2F%2Fd#e", "/" + "a" * 499):
        answer = ada.ask(ada.choose(ada.begin(next)))
        equal(f"next={next:.40}", (answer.status, answer.location), (303, url + next))


def many_logins_leave_few_cookies(url):
    ada = Agent(url)
    providers = [ada.begin("/" + "a" * 499) for _ in range(20)]
    check("at most four", len(ada.waiting()) <= 4, ada.waiting())
    size = sum(len(name) + len(ada.jar[name]) for name in ada.waiting())
    check("which leave room for a session's of 4,096 bytes within 8 KB", size < 4096, size)
    newest = providers[-1]
    refused("the oldest is over", ada, ada.ask(ada.choose(providers[0])), NO_COOKIE)
    equal("the newest is not", ada.ask(ada.choose(newest)).status, 303)


def the_way_back_by_a_form(url):
    ada = Agent(url)
    ada.log_in("bob")
    provider = ada.begin("/account?tab=2", mode="form_post")
    [name] = ada.waiting(BY_POST)
    action, form = ada.choose_by_form(provider)
    equal("the form goes to the application", action, url + "/callback/post")
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(provider))

    other = Agent(url)
    answer = other.ask(action, form, origin=origin, sec_fetch_site="cross-site")
    refused("in another browser", other, answer, NO_COOKIE)
    # As browsers do: the session's cookie stays where it is.
    sent = Agent(url)
    sent.jar = {name: ada.jar[name]}
    answer = sent.ask(action, form, origin="http://evil.net", sec_fetch_site="cross-site")
    equal("from a site that is not trusted", (answer.status, SESSION in sent.jar), (403, False))
    sent.jar = {name: ada.jar[name]}
    action, form = ada.choose_by_form(provider)
    answer = sent.ask(action, form, origin=origin, sec_fetch_site="cross-site")
    equal("from the provider", (answer.status, answer.location), (303, url + "/account?tab=2"))
    equal("ada is there", sent.who(), "Hello, ada")
    equal("the cookie is gone", sent.waiting(BY_POST), [])
    equal("it is no way back for a GET", ada.ask("/callback/post?" + urlencode(form)).status, 404)


PLAIN = [
    a_login_ends_where_it_was_going,
    tabs_do_not_disturb_one_another,
    a_login_belongs_to_the_browser_that_began_it,
    nothing_is_good_twice,
    what_was_begun_is_what_must_end,
    next_is_a_page_of_the_application,
    many_logins_leave_few_cookies,
    the_way_back_by_a_form,
]


# The browser.


class Browser:
    def __init__(self, driver, url):
        self.driver, self.url = driver, url
        driver.open(url + "/")
        driver.call("DELETE", "/cookie")

    def at(self):
        return self.driver.call("GET", "/url")

    def reaches(self, what, attempt):
        """A click returns before the page that it leads to is there, and between two pages WebDriver has errors."""

        def is_there():
            try:
                return attempt()
            except Failed:
                return False

        until(what, is_there)

    def shows(self, what, *wanted):
        """URL, title, visits and reason."""
        saw = None

        def is_there():
            nonlocal saw
            saw = (self.at(), *self.driver.texts("h1", "#visits", "#reason"))
            return saw == wanted

        try:
            self.reaches(what, is_there)
        except Failed:
            pass  # to say what there is instead
        equal(what, saw, wanted)

    def open(self, path):
        self.driver.open(urljoin(self.url, path))

    def names(self):
        self.open("/account")
        return sorted(self.driver.cookies())

    def to_the_provider(self, click):
        """Its URL, on the page that it shows."""
        self.open("/")
        self.driver.click(click)
        self.reaches("the provider asks", lambda: self.driver.texts("h1") == ["The provider"])
        return self.at()

    def send(self, page, action, fields):
        """A form that another site's page sends."""
        self.driver.open(page)
        self.driver.script(
            """const form = document.createElement('form');
            form.method = 'post'; form.action = arguments[0];
            for (const [name, value] of Object.entries(arguments[1])) {
                const field = document.createElement('input');
                field.name = name; field.value = value; form.append(field);
            }
            document.body.append(form); form.submit()""",
            action,
            fields,
        )


def in_chromium(driver, folder):
    with oidc(folder) as url:
        browser, agent = Browser(driver, url), Agent(url)
        account = url + "/account"

        browser.open("/")
        browser.shows("a visitor", url + "/", "Nobody is logged in", "1", None)
        browser.to_the_provider("#by-get")
        driver.click("button[value=ada]")
        browser.shows("ada logs in, with what she had", account, "Hello, ada", "3", None)
        equal("nothing waits any more", browser.names(), [SESSION])
        driver.click("form button")
        browser.shows("she logs out", url + "/", "Nobody is logged in", "1", None)

        # Two tabs at the provider at once.
        driver.open(url + "/login?next=/account?tab=1")
        first = driver.call("GET", "/window")
        second = driver.call("POST", "/window/new", {"type": "tab"})["handle"]
        driver.call("POST", "/window", {"handle": second})
        driver.open(url + "/login?next=/account?tab=2")
        for tab, user, n in ((first, "ada", 1), (second, "ada", 2)):
            driver.call("POST", "/window", {"handle": tab})
            driver.click(f"button[value={user}]")
            browser.reaches("the tab is back", lambda: browser.at() == f"{account}?tab={n}")
            browser.reaches(f"as {user}", lambda: driver.texts("h1") == [f"Hello, {user}"])
        driver.call("DELETE", "/window")
        driver.call("POST", "/window", {"handle": first})
        equal("nothing waits any more", browser.names(), [SESSION])

        browser = Browser(driver, url)
        callback = agent.choose(browser.to_the_provider("#by-get"), "bob")
        browser.open(callback)
        browser.shows("the way back is good for once", account, "Hello, bob", "2", None)
        browser.open(callback)
        browser.shows("and not again", callback, "Not logged in", None, NO_COOKIE)

        browser = Browser(driver, url)
        bait = agent.choose(agent.begin(), "bob")
        # From another site's page, as a victim comes by it.
        driver.open(browser.to_the_provider("#by-get"))
        driver.script("location.href = arguments[0]", bait)
        browser.shows("a login that an attacker began", bait, "Not logged in", None, NO_COOKIE)
        browser.open("/")
        browser.shows("is nobody's here", url + "/", "Nobody is logged in", "2", None)
        action, form = agent.choose_by_form(agent.begin(mode="form_post"), "bob")
        browser.send(browser.to_the_provider("#by-get"), action, form)
        browser.shows("by a form neither", action, "Not logged in", None, NO_COOKIE)
        browser.open("/")
        browser.shows("it is nobody's", url + "/", "Nobody is logged in", "4", None)

        browser = Browser(driver, url)
        browser.to_the_provider("#by-post")
        browser.open("/login?next=/account&mode=form_post")
        provider = browser.at()
        driver.click("button[value=ada]")
        # Without the visits before it: the session's own cookie is not sent with a `POST` from another site.
        browser.shows("ada comes back by a form", account, "Hello, ada", "1", None)
        [waits] = [name for name in browser.names() if name.startswith(BY_POST)]
        cookie = driver.cookies()[waits]
        attributes = {"sameSite": "None", "secure": True, "httpOnly": True}
        equal("what still waits", {name: cookie[name] for name in attributes}, attributes)
        check("is not that which came back", asked(provider, "state") not in waits, waits)

    with oidc(folder, TRUST_PROVIDER="false") as url:
        browser = Browser(driver, url)
        browser.to_the_provider("#by-post")
        driver.click("button[value=ada]")
        browser.reaches("the untrusted form is answered", lambda: browser.at() == url + "/callback/post")
        browser.reaches("with 403", lambda: "403" in driver.texts("body")[0])
        browser.open("/")
        browser.shows("and logs nobody in", url + "/", "Nobody is logged in", "2", None)
        browser.to_the_provider("#by-get")
        driver.click("button[value=ada]")
        browser.shows("which the other way does", url + "/account", "Hello, ada", "4", None)


def run(name, test):
    before = login.passed
    try:
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
    except Exception as failure:
        if not isinstance(failure, Failed):
            traceback.print_exc()
        print(f"FAILED  {name}: {failure}", flush=True)
        return False
    print(f"ok  {name} ({login.passed - before})", flush=True)
    return True


def with_plain(test):
    def with_server(folder):
        with oidc(folder) as url:
            test(url)

    return with_server


def with_chromium(folder):
    with chromium() as driver:
        in_chromium(driver, folder)


def main():
    global binary
    if len(sys.argv) != 2:
        sys.exit("usage: tests/oidc.py target/debug/examples/oidc")
    binary = os.path.abspath(sys.argv[1])
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} is no program; run `cargo build --example oidc`")
    missing = [program for program in ("chromium", "chromedriver") if not shutil.which(program)]
    if missing:
        install = "apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver"
        sys.exit(f"missing: {', '.join(missing)}; on Debian run: {install}")
    tests = [(test.__name__.replace("_", " "), with_plain(test)) for test in PLAIN] + [("chromium", with_chromium)]
    # All of them, so that what breaks is seen as a whole.
    failed = sum(not run(name, test) for name, test in tests)
    print(f"{login.passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
