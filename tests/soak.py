#!/usr/bin/env python3
"""Mixed traffic for a long time: nothing is lost, nothing comes back, nothing grows.

usage: tests/soak.py target/debug/examples/api [target/debug/examples/api_axum] target/debug/sealed-session
       (built with --all-features)

Over Redis and over PostgreSQL two nodes share a key file, while keys are rotated and let go, and one of the nodes is
stopped or killed again and again. Each visitor knows what has to be in its session, and checks every answer. The node that
is left alone must not grow, nor the store. SOAK_SECONDS says how long, 45 if it says nothing; SOAK_SECONDS=3600 rotates every
minute. Ends at the first thing that is not as it should be; prints what was measured.
"""

import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections import deque

import operations
import servers
from failover import Once, Pair
from operations import run
from stores import LARGE, Api, Browser, check

SECONDS = float(os.environ.get("SOAK_SECONDS", 45))
# A dozen rotations in the short form.
ROTATE = min(60, SECONDS / 12)
RESTART = ROTATE * 0.9
LIFETIME = 60
REVOCATION = 1.0
# How much later than that a node may know what another one has ended: a request under way, on a busy machine.
SLACK = 2.0
VISITORS = 8
# Of private memory that can be written to; an abort where it does not suffice is an exit that nobody asked for.
MEMORY = 192 << 20
ENDED = "ended"


class Site:
    """A store, its two nodes, and what everybody knows of it."""

    def __init__(self, name, server, folder, examples, turn):
        self.name, self.server = name, server
        self.ring = str(pathlib.Path(folder) / f"{name}.keys")
        run("keys", "rotate", "--file", self.ring)
        settings = {
            "SESSION_KEY_FILE": self.ring,
            "REVOCATION": str(int(REVOCATION * 1000)),
            "DURATION_MS": str(LIFETIME * 1000),
            "ACTIVE_MS": str(LIFETIME * 500),
            "STORE_TIMEOUT_MS": "5000",
        }
        limit = [servers.program("prlimit"), f"--data={MEMORY}"]
        self.steady, self.restarted = [
            Api(server.url, program=[*limit, examples[(n + turn) % len(examples)]], **settings) for n in range(2)
        ]
        self.nodes = [self.steady, self.restarted]
        self.visitors = [Visitor(self, number) for number in range(VISITORS)]
        self.pair = Pair(self.nodes)
        # Cookies of sessions that are over, and since when.
        self.over = deque(maxlen=2000)
        # When a session began or was ended, for as long as that may be in the store.
        self.changes = deque()
        self.totals = {name: 0 for name in ("requests", "no answer", "503", "ended", "old cookies", "forged", "rotations", "restarts", "kills")}
        self.keys, self.memory, self.rows = 1, [], []
        self.lock = threading.Lock()

    def count(self, what):
        with self.lock:
            self.totals[what] += 1

    def changed(self):
        with self.lock:
            self.changes.append(time.monotonic())

    def is_over(self, cookie):
        self.changed()
        self.count("ended")
        self.over.append((cookie, time.monotonic()))

    def rotate(self):
        listed = run("keys", "rotate", "--file", self.ring)["keys"]
        self.keys += 1
        self.totals["rotations"] += 1
        for key in listed:
            if key["state"] == "retired" and not key.get("not_after"):
                run("keys", "retire", "--file", self.ring, key["id"], "--in", f"{LIFETIME * 2}s")
        run("sweep", SEALED_SESSION_STORE=self.server.url)
        self.rows.append(run("count", SEALED_SESSION_STORE=self.server.url)["rows"])
        # Its marks last for a lifetime and 60 s; generations and lists are one for each subject and key.
        since = time.monotonic() - LIFETIME - 60 - 2 * ROTATE
        with self.lock:
            while self.changes and self.changes[0] < since:
                self.changes.popleft()
            bound = 2 * len(self.changes) + 2 * len(Visitor.SUBJECTS) * self.keys + VISITORS + 10
        check(f"{self.name}: the rows are no more than what is alive", self.rows[-1] <= bound, (self.rows[-1], bound))

    def restart(self, kindly):
        node = self.restarted
        node.process.send_signal(signal.SIGTERM if kindly else signal.SIGKILL)
        code = node.process.wait(timeout=60)
        wanted = (0, -signal.SIGTERM) if kindly else (-signal.SIGKILL,)
        check(f"{self.name}: it ends when it is told to", code in wanted, (code, node.log()[-500:]))
        check(f"{self.name}: no panic", "panicked" not in node.log(), node.log()[-2000:])
        node.start()
        self.totals["restarts" if kindly else "kills"] += 1

    def sample(self):
        check(f"{self.name}: nobody has ended the steady node", self.steady.process.poll() is None, self.steady.log()[-1000:])
        pages = int(pathlib.Path(f"/proc/{self.steady.process.pid}/statm").read_text().split()[1])
        self.memory.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE"), self.totals["requests"]))

    def growth(self):
        """Bytes in the second half of the time, by the slope of a line through all samples of it."""
        half = self.memory[len(self.memory) // 2 :]
        times, sizes = [at for at, *_ in half], [size for _, size, _ in half]
        middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
        slope = sum((t - middle) * (s - mean) for t, s in zip(times, sizes)) / sum((t - middle) ** 2 for t in times)
        return slope * (times[-1] - times[0]), mean

    def told(self):
        """The first thing that is not as it should be."""
        return next((visitor.odd for visitor in self.visitors if visitor.odd), None)


class Visitor(threading.Thread):
    """One browser, which knows all states that its session can be in: one, unless an answer was lost."""

    SUBJECTS = ["ada", "bob", "eve"]

    def __init__(self, site, number):
        super().__init__(daemon=True)
        self.site, self.name, self.random = site, f"{site.name}-{number}", random.Random(f"{site.name}{number}{os.environ.get('SOAK_SEED', '')}")
        self.own = self.SUBJECTS[number % len(self.SUBJECTS)]
        self.browsers = [Once(node) for node in site.nodes]
        self.lock, self.going, self.odd, self.steps = threading.Lock(), True, None, 0
        self.forget()

    def forget(self):
        self.cookie, self.possible, self.unsure_until = None, [{"subject": None}], 0.0

    def may_be(self, after):
        """It may have become that, or become it in a moment: what a node has sent arrives also when the node is gone, and
        each may take its time to hear of an end."""
        if self.cookie is None:
            # The browser has nothing of what was done.
            self.possible = [{"subject": None}]
        elif after not in self.possible:
            self.possible = [*self.possible, after]
        self.unsure_until = time.monotonic() + REVOCATION + SLACK

    def may_be_over(self):
        self.may_be(ENDED)

    @property
    def known(self):
        return len(self.possible) == 1

    @property
    def state(self):
        return self.possible[0]

    def run(self):
        while self.going and self.odd is None:
            with self.lock:
                try:
                    self.step()
                except BaseException as error:
                    self.odd = f"{self.name}: {error!r}"
            time.sleep(0.003)

    def expect(self, what, fine, saw=None):
        if not fine and self.odd is None:
            self.odd = f"{self.name}: {what}; saw {saw!r}"

    def ask(self, method, path, body=None, cookie=None):
        """As a browser does, or with a cookie that is not the browser's."""
        browser = self.random.choice(self.browsers)
        browser.cookie = cookie or self.cookie
        status, content = browser.ask(method, path, body)
        self.site.count({0: "no answer", 503: "503"}.get(status, "requests"))
        if status in (0, 503):
            # A node that is down says so at once.
            time.sleep(0.02)
            self.expect("a 503 says nothing", content == b"", content)
        self.refused = browser.refused
        # What was not answered has set no cookie. A 503 of a logout may take it away.
        if cookie is None and status != 0:
            self.cookie = browser.cookie
        return status, content

    def step(self):
        self.steps += 1
        if not self.known:
            return self.read()
        kinds = {
            self.read: 20, self.write: 16, self.increment: 24, self.outgrow: 3, self.shrink: 2, self.login: 4, self.renew: 2,
            self.logout: 2, self.forged: 4, self.old: 8, self.end_another: 2, self.end_all: 1, self.touch: 2,
        }
        self.random.choices(list(kinds), list(kinds.values()))[0]()

    def read(self):
        brought, asked = self.cookie is not None, time.monotonic()
        status, content = self.ask("GET", "/session")
        if status in (0, 503):
            return
        seen = json.loads(content)
        if seen["origin"] == "rejected":
            self.expect("a session that is over was ended", ENDED in self.possible and seen["rejection"] == "revoked", (seen["rejection"], self.possible))
            return self.forget()
        self.expect("resumed if there is one", seen["origin"] == ("resumed" if brought else "new"), (seen["origin"], brought))
        found = {"subject": seen["subject"]} | seen["entries"]
        self.expect("what is there is what has to be", found in self.possible, (shortened(found), [shortened(state) for state in self.possible]))
        # Until then the nodes may differ: one has asked the store lately, and takes the cookie's word; another finds there
        # that the session has moved, or is over.
        if asked >= self.unsure_until:
            self.possible = [found]

    def change(self, after, method, path, body=None, wanted=(204,)):
        """Something that leads to another state, or does not if there is no answer. Whether it was answered."""
        brought = self.cookie
        status, content = self.ask(method, path, body)
        if status in (0, 503):
            if not self.refused:
                self.may_be(after)
            return None
        self.expect(f"{method} {path}", status in wanted, (status, content))
        if brought is None and self.cookie is not None:
            self.site.changed()
        self.possible = [after]
        return content

    def write(self):
        key, value = f"k{self.random.randrange(5)}", f"{self.name} {self.steps}"
        self.change(self.state | {key: value}, "PUT", f"/entries/{key}", value)

    def outgrow(self):
        self.change(self.state | {"large": LARGE}, "PUT", "/entries/large", LARGE)

    def shrink(self):
        after = {key: value for key, value in self.state.items() if key != "large"}
        if "large" in self.state and len(after) > 1:
            self.change(after, "DELETE", "/entries/large")

    def increment(self):
        count = self.state.get("n", 0) + 1
        content = self.change(self.state | {"n": count}, "POST", "/entries/n/increment", wanted=(200,))
        self.expect("counted", content is None or json.loads(content) == count, (content, count))

    def touch(self):
        if self.cookie is not None:
            self.change(self.state, "POST", "/touch")

    def replaced(self, after, path, body=None):
        """The session goes on under another id; the cookie from before is worth nothing."""
        before = self.cookie
        status, content = self.ask("POST", path, body)
        if status in (0, 503):
            if not self.refused:
                self.may_be_over()
            return False
        self.expect(path, status == 204, (status, content))
        self.site.changed()
        if before is not None:
            self.expect(f"{path}: another cookie", self.cookie != before)
            self.site.is_over(before)
        self.possible = [after]
        return True

    def login(self):
        subject = self.own
        # Another user begins empty; what a guest had is kept.
        kept = self.state if self.state["subject"] in (None, subject) else {}
        if self.replaced(kept | {"subject": subject}, "/login", {"subject": subject}):
            self.change(self.state, "POST", "/label", {"label": self.name})

    def renew(self):
        if self.cookie is not None:
            self.replaced(self.state, "/renew")

    def logout(self):
        before = self.cookie
        status, content = self.ask("POST", "/destroy")
        if status in (0, 503):
            return None if self.refused else self.may_be_over()
        self.expect("a logout", (status, self.cookie) == (204, None), (status, content))
        if before is not None:
            self.site.is_over(before)
        self.forget()

    def forged(self):
        if self.cookie is None:
            return
        at = self.random.randrange(len(self.cookie))
        other = self.random.choice([c for c in "abcdefgh01234567" if c != self.cookie[at]])
        forged = self.cookie[:at] + other + self.cookie[at + 1 :]
        status, content = self.ask("GET", "/session", cookie=forged)
        if status == 200:
            self.site.count("forged")
            seen = json.loads(content)
            self.expect("a forged cookie opens nothing", (seen["origin"], seen["entries"], seen["subject"]) == ("rejected", {}, None), (at, len(forged), seen))

    def old(self):
        """What is over stays over, on every node, as soon as that may be known."""
        if not self.site.over:
            return
        cookie, since = self.random.choice(list(self.site.over))
        if time.monotonic() < since + REVOCATION + SLACK:
            return
        status, content = self.ask("GET", "/session", cookie=cookie)
        if status == 200:
            self.site.count("old cookies")
            seen = json.loads(content)
            self.expect("what was ended is over", seen["origin"] == "rejected", (time.monotonic() - since, shortened(seen)))

    def others(self):
        """Those of the same subject, who are held meanwhile; none if somebody is at it."""
        held = []
        for other in self.site.visitors:
            if other is not self and other.own == self.own:
                if not other.lock.acquire(timeout=0.05):
                    for each in held:
                        each.lock.release()
                    return None
                held.append(other)
        return held

    def end_another(self):
        if self.state["subject"] is None or (others := self.others()) is None:
            return
        try:
            status, content = self.ask("GET", "/sessions")
            if status != 200:
                return self.expect("the list of sessions", status in (0, 503), (status, content))
            listed = {line["label"]: line["handle"] for line in json.loads(content) if not line["current"]}
            names = {visitor.name for visitor in self.site.visitors if visitor.own == self.own}
            self.expect("nobody else's session is listed", set(listed) - {None} <= names, (listed, names))
            alive = [other for other in others if other.known and other.cookie and other.name in listed and other.state["subject"]]
            if not alive:
                return
            other = self.random.choice(alive)
            status, content = self.ask("POST", "/sessions/end", {"handle": listed[other.name]})
            # A lost login leaves a session of the same name in the list, so this may have been another one of theirs.
            if status in (204, 503) or status == 0 and not self.refused:
                other.may_be_over()
                self.site.changed()
            else:
                self.expect("a listed session can be ended", status in (0, 404), (status, content))
        finally:
            for other in others:
                other.lock.release()

    def end_all(self):
        if (others := self.others()) is None:
            return
        try:
            status, content = self.ask("POST", "/revoke", {"subject": self.own})
            self.expect("everybody of a subject", status in (0, 204, 503), (status, content))
            for each in [] if self.refused else [self, *others]:
                if not any(state != ENDED and state["subject"] == self.own for state in each.possible):
                    continue
                if status == 204 and each.known:
                    self.site.is_over(each.cookie)
                    each.forget()
                else:
                    each.may_be_over()
        finally:
            for other in others:
                other.lock.release()


def shortened(state):
    return {key: value if key != "large" else len(value) for key, value in state.items()} if isinstance(state, dict) else state


def every(interval, began):
    """The moments at which something is to be done."""
    moment = began + interval
    while True:
        yield moment
        moment += interval


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    *examples, operations.tool = [os.path.abspath(path) for path in sys.argv[1:]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        started = [("redis", servers.Redis().start()), ("postgres", servers.Postgres().start())]
        sites = [Site(name, server, folder, examples, turn) for turn, (name, server) in enumerate(started)]
        for site in sites:
            for thread in site.visitors + site.pair.threads:
                thread.start()
        soak(sites)
        for site in sites:
            for visitor in site.visitors:
                visitor.going = False
            for visitor in site.visitors:
                visitor.join()
        for site in sites:
            finish(site)


def soak(sites):
    began = time.monotonic()
    samples, rotations = every(max(SECONDS / 200, 0.25), began), every(ROTATE, began)
    restarts = every(RESTART, began)
    sample, rotation, restart, kindly = next(samples), next(rotations), next(restarts), True
    while (now := time.monotonic()) < began + SECONDS:
        for site in sites:
            check("soak", site.told() is None, site.told())
        if now >= sample:
            for site in sites:
                site.sample()
            sample = next(samples)
        if now >= rotation:
            for site in sites:
                site.rotate()
            rotation = next(rotations)
        if now >= restart:
            for site in sites:
                site.restart(kindly)
            restart, kindly = next(restarts), not kindly
        # Until something is to be done, but for looking whether all is well.
        time.sleep(max(0.0, min(sample, rotation, restart, now + 0.2) - time.monotonic()))


def finish(site):
    site.pair.stop()
    lost = site.pair.lost(site.name, site.steady)
    check(f"{site.name}: counted by two at once", lost == 0, lost)
    for visitor in site.visitors:
        # The last answer may have been lost.
        while not visitor.known and visitor.odd is None:
            visitor.read()
            time.sleep(0.02)
        for _ in range(2):
            visitor.read()
    check(site.name, site.told() is None, site.told())
    totals = site.totals
    for what in ("old cookies", "forged", "rotations", "restarts", "kills", "ended"):
        check(f"{site.name}: there were {what}", totals[what] > 0, totals)
    check(f"{site.name}: there was load", totals["requests"] > 20 * SECONDS, totals)
    growth, mean = site.growth()
    # What is known of ended sessions is kept, some 30 MiB of it at most.
    begun = site.memory[-1][2] - site.memory[len(site.memory) // 2][2]
    bound = (4 << 20) + min(100 * begun, 30 << 20)
    check(f"{site.name}: it does not grow", growth < bound, (growth, bound, [size >> 10 for _, size, _ in site.memory[:: len(site.memory) // 10]]))
    for node in site.nodes:
        node.stop()
    site.server.stop()
    print(
        f"ok  {site.name}, {SECONDS:.0f} s: {totals['requests']} requests and {site.pair.done} by two in one session, {totals['no answer']} without an answer, "
        f"{totals['503']} x 503; {totals['rotations']} rotations, {totals['restarts']} restarts, {totals['kills']} kills; {totals['ended']} sessions ended, "
        f"{totals['old cookies']} of their cookies and {totals['forged']} forged ones refused; {mean / (1 << 20):.1f} MiB, growth {growth / (1 << 20):+.2f} MiB "
        f"in the second half; rows {site.rows[0]}, at most {max(site.rows)}, in the end {site.rows[-1]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
