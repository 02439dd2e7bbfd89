#!/usr/bin/env python3
"""Drives the example `api` over each store, starts it before its store, and kills the store under it.

usage: tests/stores.py target/debug/examples/api      (built with --all-features)

Needs what scripts/test installs. Ends at the first thing that is not as it should be.
"""

import atexit
import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import servers

NAME = "__Host-Http-session"
LARGE = "x" * 5000

binary = None


def check(what, fine, saw=None):
    if not fine:
        sys.exit(f"FAILED  {what}; saw {saw!r}")


class Api:
    """The example, in a process of its own."""

    def __init__(self, store, keys=None, program=None, **settings):
        self.program = program or [binary]
        self.settings = {"PORT": "0", "STORE": store, **settings} | ({"SESSION_KEYS": keys} if keys else {})
        self.start()

    def start(self):
        self.errors = tempfile.TemporaryFile()
        environment = {k: v for k, v in os.environ.items() if k not in ("STORE", "SESSION_KEYS", "SESSION_KEY_FILE")} | self.settings
        self.process = subprocess.Popen(self.program, env=environment, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        atexit.register(self.process.kill)
        line = self.process.stdout.readline()
        if not line.startswith("listening on"):
            self.errors.seek(0)
            sys.exit(f"api did not start over {self.settings['STORE']}: {self.errors.read().decode()}")
        self.port = int(line.rstrip("/\n").rsplit(":", 1)[1])

    def log(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def stop(self):
        self.process.kill()
        self.process.wait()
        check("no panic", "panicked" not in self.log(), self.log())


class Browser:
    # What is sent twice may be done twice.
    attempts = 2

    def __init__(self, api, cookie=None):
        self.api, self.cookie, self.connection = api, cookie, None

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.api.port, timeout=30)

    def ask(self, method, path, body=None):
        """Status and body; the connection is made anew where it broke."""
        for attempt in range(self.attempts):
            try:
                if self.connection is None:
                    self.connection = self.connect()
                headers = {"Cookie": f"{NAME}={self.cookie}"} if self.cookie else {}
                text = None if body is None else json.dumps(body)
                self.connection.request(method, path, text, headers)
                response = self.connection.getresponse()
                content = response.read()
                break
            except (OSError, http.client.HTTPException):
                self.connection = None
                if attempt == self.attempts - 1:
                    raise
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        for name, value in response.getheaders():
            if name.lower() == "set-cookie" and value.startswith(NAME + "="):
                pair = value.split(";")[0]
                check("name + value", len(pair) - 1 <= 4096, len(pair))
                self.cookie = pair[len(NAME) + 1:] or None
        return response.status, content

    def get(self, path):
        status, content = self.ask("GET", path)
        check(f"GET {path}", status == 200, (status, content))
        return json.loads(content)

    def put(self, key, value):
        status, content = self.ask("PUT", f"/entries/{key}", value)
        check(f"PUT {key}", status == 204, (status, content))


def new_key():
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def every_setting(addresses):
    """Each STORE works, outlives a restart of the application, and is shared by two processes where it can be."""
    for name, store, outlives, shared in addresses:
        keys = new_key()
        api = Api(store, keys)
        browser = Browser(api)
        browser.put("large", LARGE)
        seen = browser.get("/session")
        check(f"{name}: placement", seen["placement"] == "store" and seen["bytes"] > 5000, seen)
        if shared:
            other = Api(store, keys)
            there = Browser(other, browser.cookie)
            check(f"{name}: seen by another process", there.get("/entries/large") == LARGE)
            there.put("there", 1)
            check(f"{name}: and back", browser.get("/entries/there") == 1)
            check(f"{name}: ended there", there.ask("POST", "/destroy")[0] == 204)
            check(f"{name}: over here", browser.get("/session")["rejection"] == "revoked")
            other.stop()
            browser.cookie = None
            browser.put("large", LARGE)
        api.stop()
        api.start()
        seen = Browser(api, browser.cookie).get("/session")
        wanted = ("resumed", None) if outlives else ("rejected", "missing")
        check(f"{name}: after a restart", (seen["origin"], seen["rejection"]) == wanted, seen)
        api.stop()
        print(f"ok  STORE={name}", flush=True)


class Writer(threading.Thread):
    """Writes one number after the other into one session, and remembers which were acknowledged."""

    def __init__(self, api, in_store):
        super().__init__(daemon=True)
        self.browser, self.in_store = Browser(api), in_store
        self.tried, self.acknowledged, self.statuses, self.odd = 0, 0, {}, []
        self.going = True
        if in_store:
            self.browser.put("large", LARGE)
        self.browser.put("n", 0)

    def run(self):
        while self.going:
            self.tried += 1
            try:
                status, content = self.browser.ask("PUT", "/entries/n", self.tried)
            except (OSError, http.client.HTTPException):
                status, content = 0, b""
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == 204:
                self.acknowledged = self.tried
            elif status == 503:
                if content != b"":
                    self.odd.append(content)
                time.sleep(0.05)
            elif status == 0:
                time.sleep(0.05)
            else:
                self.odd.append((status, content))

    def verify(self, what, api):
        self.going = False
        self.join()
        check(f"{what}: statuses", not self.odd, self.odd[:3])
        seen = Browser(api, self.browser.cookie).get("/entries/n")
        check(f"{what}: every write answered 2xx is there", self.acknowledged <= seen <= self.tried,
              (self.acknowledged, seen, self.tried))


def wait_for(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        check(f"{what}, within {seconds} s", time.monotonic() < deadline)
        time.sleep(0.05)


def grow(writers, by):
    marks = [writer.acknowledged for writer in writers]
    return lambda: all(writer.acknowledged >= mark + by for writer, mark in zip(writers, marks))


def fail_more(writers):
    marks = [writer.statuses.get(503, 0) for writer in writers]
    return lambda: all(writer.statuses.get(503, 0) > mark + 2 for writer, mark in zip(writers, marks))


def killed_server(name, server):
    """Killed in the middle of a load and started again: stored sessions get 503 meanwhile, others nothing."""
    server.start()
    api = Api(server.url, new_key(), STORE_TIMEOUT_MS="1000")
    stored = [Writer(api, True) for _ in range(4)]
    in_cookies = [Writer(api, False) for _ in range(2)]
    for writer in stored + in_cookies:
        writer.start()
    for _ in range(2):
        wait_for(f"{name}: a load", grow(stored + in_cookies, 20))
        server.kill()
        wait_for(f"{name}: 503 for stored sessions", fail_more(stored))
        wait_for(f"{name}: sessions in cookies go on", grow(in_cookies, 20))
        server.start()
        wait_for(f"{name}: it recovers", grow(stored, 20))
    for writer in stored + in_cookies:
        writer.verify(name, api)
    check(f"{name}: nothing for sessions in cookies", all(set(w.statuses) == {204} for w in in_cookies))
    failed = sum(writer.statuses.get(503, 0) for writer in stored)
    written = sum(writer.acknowledged for writer in stored)
    api.stop()
    server.stop()
    print(f"ok  {name} killed twice under load: {failed} x 503, up to {written} writes kept", flush=True)


def started_before_its_store(name, server):
    """The application starts while the store is down: sessions in cookies work, and stored ones once it is there."""
    api = Api(server.url, new_key(), STORE_TIMEOUT_MS="2000")
    small, large = Browser(api), Browser(api)
    small.put("n", 1)
    check(f"{name}: a small session", small.get("/entries/n") == 1)
    check(f"{name}: in its cookie", small.get("/session")["placement"] == "cookie")
    for _ in range(3):
        began = time.monotonic()
        status, content = large.ask("PUT", "/entries/large", LARGE)
        check(f"{name}: 503 for a large one", (status, content) == (503, b""), (status, content))
        check(f"{name}: and soon", time.monotonic() - began < 4, time.monotonic() - began)
    wait_for(f"{name}: the log says why", lambda: "refused" in api.log())
    check(f"{name}: and not that a pool timed out", "pool timed out" not in api.log(), api.log())
    server.start()
    wait_for(f"{name}: a large session", lambda: large.ask("PUT", "/entries/large", LARGE)[0] == 204)
    check(f"{name}: what is in it", large.get("/entries/large") == LARGE)
    check(f"{name}: in the store", large.get("/session")["placement"] == "store")
    small.put("large", LARGE)
    check(f"{name}: what was in its cookie is there", small.get("/entries/n") == 1)
    api.stop()
    server.stop()
    print(f"ok  started before {name}", flush=True)


def killed_application():
    """The embedded store's process, killed in the middle of writes, again and again."""
    with tempfile.TemporaryDirectory() as folder:
        api = Api(f"redb:{folder}/sessions.redb", new_key())
        writers = [Writer(api, True) for _ in range(4)]
        for writer in writers:
            writer.start()
        for _ in range(5):
            wait_for("redb: a load", grow(writers, 10))
            api.process.send_signal(signal.SIGKILL)
            api.process.wait()
            api.start()
        wait_for("redb: a load", grow(writers, 10))
        for writer in writers:
            writer.verify("redb", api)
        api.stop()
        print("ok  redb: the process killed 5 times in the middle of writes", flush=True)


def cut_off_master():
    """A master of the cluster that does not answer costs the sessions that live on it, until it answers again."""
    cluster = servers.RedisCluster().start()
    api = Api(cluster.url, new_key(), STORE_TIMEOUT_MS="500")
    writers = [Writer(api, True) for _ in range(16)]
    for writer in writers:
        writer.start()
    wait_for("cluster: a load", grow(writers, 5))
    cluster.nodes[0].signal(signal.SIGSTOP)
    time.sleep(0)
    wait_for("cluster: some fail", lambda: sum(w.statuses.get(503, 0) > 2 for w in writers) >= 1)
    hit = [writer for writer in writers if writer.statuses.get(503, 0) > 2]
    others = [writer for writer in writers if writer.statuses.get(503, 0) == 0]
    check("cluster: not all live on one master", hit and others, (len(hit), len(others)))
    wait_for("cluster: sessions of the other masters go on", grow(others, 5))
    cluster.nodes[0].signal(signal.SIGCONT)
    wait_for("cluster: it recovers", grow(writers, 5))
    for writer in writers:
        writer.verify("cluster", api)
    api.stop()
    cluster.stop()
    print(f"ok  redis-cluster: a master cut off, {len(hit)} of {len(writers)} sessions waited for it", flush=True)


def main():
    global binary
    if len(sys.argv) != 2:
        sys.exit("usage: tests/stores.py target/debug/examples/api")
    binary = os.path.abspath(sys.argv[1])
    started = [servers.Redis(), servers.RedisCluster(), servers.Mongo(), servers.Postgres(), servers.MariaDb()]
    folder = tempfile.TemporaryDirectory()
    try:
        redis, cluster, mongo, postgres, mariadb = [server.start() for server in started]
        every_setting([
            ("memory", "memory", False, False),
            ("redb", f"redb:{folder.name}/s.redb", True, False),
            ("redis", redis.url, True, True),
            ("redis-cluster", cluster.url, True, True),
            ("mongodb", mongo.url, True, True),
            ("postgres", postgres.url, True, True),
            ("mysql", mariadb.url, True, True),
            ("sqlite", f"sqlite:{folder.name}/s.sqlite", True, True),
        ])
    finally:
        for server in started:
            server.stop()
    started_before_its_store("Redis", servers.Redis())
    started_before_its_store("Redis Cluster", servers.RedisCluster())
    started_before_its_store("MongoDB", servers.Mongo())
    started_before_its_store("PostgreSQL", servers.Postgres())
    started_before_its_store("MariaDB", servers.MariaDb())
    killed_application()
    killed_server("Redis (appendfsync always)", servers.Redis(durable=True))
    killed_server("PostgreSQL (fsync on)", servers.Postgres(durable=True))
    killed_server("MariaDB (flush at commit)", servers.MariaDb(durable=True))
    cut_off_master()


if __name__ == "__main__":
    main()
