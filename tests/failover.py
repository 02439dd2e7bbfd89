#!/usr/bin/env python3
"""Failovers, for real: what is lost is what the documentation says may be, and nothing else.

usage: tests/failover.py target/debug/examples/api [target/debug/examples/api_axum] [SCENARIO...]
       (built with --all-features)

Two processes of the example `api` over one store serve browsers that ask either of them, while a master is killed, a
standby promoted, a node cut off or a clock moved. Every write that was acknowledged is counted, and looked for afterwards.
FAILOVER=long has more rounds, and longer cuts. Needs what scripts/test installs; the network namespace needs root.
Ends at the first thing that is not as it should be; prints what was measured.
"""

import atexit
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import servers
import stores
from stores import LARGE, Api, Browser, check, new_key, wait_for

LONG = os.environ.get("FAILOVER") == "long"
STORE_TIMEOUT = 1.0
# Beyond the time limit of the store: what a request may take on a busy machine.
SLACK = 1.5

binaries = []
figures = []


def figure(scenario, what, value):
    figures.append((scenario, what, str(value)))
    print(f"    {what}: {value}", flush=True)


class Once(Browser):
    """Sends nothing twice. No answer is status 0."""

    attempts = 1
    slowest = 0.0

    def ask(self, method, path, body=None):
        began = time.monotonic()
        try:
            return super().ask(method, path, body)
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)


class Client(threading.Thread):
    """Counts in one session of the store and leaves notes there, through any of the nodes, and knows what has to be there."""

    def __init__(self, name, nodes):
        super().__init__(daemon=True)
        self.name, self.random, self.lock, self.going = name, random.Random(name), threading.Lock(), True
        self.browsers = [Once(node) for node in nodes]
        self.home = None
        # Of the counter: what was answered last, and how many increments may or may not have been done.
        self.count, self.done, self.unknown = 0, 0, 0
        # Of the notes, each written once: acknowledged, unknown, lost.
        self.notes = {}
        self.lost, self.failed, self.odd = 0, 0, []
        self.failing_since, self.outages, self.slowest_failure = None, [], 0.0
        for path, value in [("large", LARGE), ("who", name)]:
            status, _ = self.browsers[0].ask("PUT", f"/entries/{path}", value)
            check(f"{name}: begins", status == 204, status)
        for browser in self.browsers:
            browser.cookie = self.browsers[0].cookie

    @property
    def acknowledged(self):
        return self.done + sum(note != "unknown" for note in self.notes.values())

    def run(self):
        while self.going:
            with self.lock:
                self.step()
            # No faster than browsers are, so that what is measured is not the load of this process.
            time.sleep(0.002 if self.failing_since is None else 0.02)

    def step(self):
        browser = self.random.choice(self.browsers)
        self.random.choice([self.increment, self.increment, self.note, self.read])(browser)

    def ask(self, browser, method, path, body=None):
        began = time.monotonic()
        status, content = browser.ask(method, path, body)
        now = time.monotonic()
        if status in (0, 503):
            if content:
                self.odd.append((status, content))
            self.failed += 1
            self.failing_since = self.failing_since or began
            self.slowest_failure = max(self.slowest_failure, now - began)
        elif self.failing_since:
            self.outages.append(now - self.failing_since)
            self.failing_since = None
        return status, content

    def found(self, count, beyond):
        """The counter is what was done and not lost, and may have in it what is unknown."""
        if count > self.done + self.unknown:
            self.odd.append(f"counted to {count}, with {self.done} done and {self.unknown} unknown")
        if count < self.count + beyond:
            self.lost += self.count + beyond - count
        self.count = count

    def increment(self, browser):
        status, content = self.ask(browser, "POST", "/entries/n/increment")
        if status == 200:
            self.done += 1
            self.found(json.loads(content), 1)
        elif status in (0, 503):
            self.unknown += 1
        else:
            self.odd.append((status, content))

    def note(self, browser):
        number = len(self.notes)
        status, content = self.ask(browser, "PUT", f"/entries/k{number}", f"{self.name}:{number}")
        self.notes[number] = "acknowledged" if status == 204 else "unknown"
        if status not in (0, 204, 503):
            self.odd.append((status, content))

    def read(self, browser):
        status, content = self.ask(browser, "GET", "/session")
        if status in (0, 503):
            return False
        seen = json.loads(content) if status == 200 else {}
        if seen.get("origin") != "resumed" or seen["placement"] != "store":
            self.odd.append((status, content[:300]))
            return False
        entries = seen["entries"]
        if entries.pop("who", None) != self.name or entries.pop("large", None) != LARGE:
            self.odd.append("another's, or not all of it")
        self.found(entries.pop("n", 0), 0)
        for number, state in self.notes.items():
            text = entries.pop(f"k{number}", None)
            if text not in (None, f"{self.name}:{number}"):
                self.odd.append(f"note {number} is {text!r}")
            elif text is None and state == "acknowledged":
                self.notes[number] = "lost"
                self.lost += 1
            elif text is not None and state == "lost":
                self.odd.append(f"note {number} was lost and is back")
        if entries:
            self.odd.append(f"never written: {sorted(entries)[:5]}")
        return True


class Pair:
    """Two that count in one session at the same time, each through its own node: neither may overwrite the other."""

    def __init__(self, nodes):
        self.cookie = large_session(nodes[0]).cookie
        self.done, self.unknown, self.odd, self.going, self.lock = 0, 0, [], True, threading.Lock()
        self.held = [threading.Lock() for _ in nodes]
        self.threads = [
            threading.Thread(target=self.run, args=(Once(node, self.cookie), held), daemon=True)
            for node, held in zip(nodes, self.held)
        ]

    def run(self, browser, held):
        while self.going:
            with held:
                status, content = browser.ask("POST", "/entries/n/increment")
            with self.lock:
                self.done += status == 200
                self.unknown += status in (0, 503)
                if status not in (0, 200, 503):
                    self.odd.append((status, content))
            time.sleep(0.002 if status == 200 else 0.02)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()

    def lost(self, what, node):
        seen = Browser(node, self.cookie).get("/entries/n")
        check(f"{what}: counted by two at once", not self.odd and seen <= self.done + self.unknown, (self.odd[:3], seen, self.done, self.unknown))
        return max(self.done - seen, 0)


class Crowd:
    """Clients that go on through all of a scenario."""

    def __init__(self, what, clients, pair=None):
        self.what, self.clients, self.pair = what, clients, pair

    def start(self):
        for thread in self.clients + (self.pair.threads if self.pair else []):
            thread.start()
        return self

    def grow(self, by=10, clients=None):
        clients = self.clients if clients is None else clients
        marks = [client.acknowledged for client in clients]
        wait_for(f"{self.what}: it goes on", lambda: all(c.acknowledged >= mark + by for c, mark in zip(clients, marks)))

    @contextlib.contextmanager
    def held(self):
        """Nobody asks for anything, but who is told to."""
        with contextlib.ExitStack() as stack:
            for lock in [client.lock for client in self.clients] + (self.pair.held if self.pair else []):
                stack.enter_context(lock)
            yield

    def look(self, clients=None):
        """Finds what is lost, on every node, and what should not be."""
        with self.held():
            for client in self.clients if clients is None else clients:
                for browser in client.browsers:
                    wait_for(f"{self.what}: it can be read", lambda: client.odd or client.read(browser))
                check(f"{self.what}: {client.name}", not client.odd, client.odd[:3])

    def total(self, clients=None):
        clients = self.clients if clients is None else clients
        return {name: sum(getattr(client, name) for client in clients) for name in ("acknowledged", "lost", "failed")}

    def since(self, before, clients=None):
        return {name: value - before[name] for name, value in self.total(clients).items()}

    def longest_outage(self, clients):
        return max((outage for client in clients for outage in client.outages), default=0.0)

    def forget_outages(self):
        for client in self.clients:
            client.outages, client.slowest_failure = [], 0.0

    def stop(self):
        self.look()
        for client in self.clients:
            client.going = False
        for client in self.clients:
            client.join()
        if self.pair:
            self.pair.stop()


def nodes_over(url, **settings):
    keys = new_key()
    settings = {"STORE_TIMEOUT_MS": str(int(STORE_TIMEOUT * 1000)), "REVOCATION": "every-request"} | settings
    return [Api(url, keys, [binaries[number % len(binaries)]], **settings) for number in range(2)]


def large_session(node):
    browser = Browser(node)
    browser.put("large", LARGE)
    return browser


def end(browser):
    """Logs out, and keeps a copy of the cookie."""
    copy = browser.cookie
    status, _ = Once(browser.api, copy).ask("POST", "/destroy")
    return copy if status == 204 else None


def is_back(node, cookie):
    seen = Browser(node, cookie).get("/session")
    check("an ended session is over, or back", seen["origin"] == "resumed" or seen["rejection"] == "revoked", seen)
    return seen["origin"] == "resumed"


# --- Redis Cluster


def begun(cluster, make):
    """What it made, and the master that has its row."""
    before = {node: node.keys() for node in cluster.masters()}
    made = make()
    grown = [node for node in before if node.keys() - before[node]]
    check("redis-cluster: one row in one place", len(grown) == 1, len(grown))
    return made, grown[0]


def on(cluster, master, make, count):
    """Makes until so many have their rows there."""
    found = []
    for _ in range(40 * count):
        made, home = begun(cluster, make)
        if home is master:
            found.append(made)
            if len(found) == count:
                return found
    sys.exit("FAILED  redis-cluster: sessions are spread over the slots")


def settle(cluster):
    wait_for("redis-cluster: it is whole", cluster.whole, 60)


def redis_cluster():
    cluster = servers.RedisCluster(replicas=1, timeout=1000, options=["--cluster-replica-validity-factor", "0"]).start()
    nodes = nodes_over(cluster.url)
    clients = []
    while not all(sum(client.home is master for client in clients) >= 3 for master in cluster.masters()):
        client, home = begun(cluster, lambda: Client(f"cluster-{len(clients)}", nodes))
        client.home = home
        clients.append(client)
    for master in cluster.masters():
        master.replicated()
    crowd = Crowd("redis-cluster", clients).start()
    crowd.grow()

    def taken_over(master):
        """The replica has become the master, and its clients are its."""
        heir = cluster.replica(master)

        def happened():
            wait_for("redis-cluster: the replica is promoted", lambda: heir.info("role") == "master")
            for client in clients:
                if client.home is master:
                    client.home = heir
            return heir

        return happened

    # Orderly.
    master = clients[0].home
    theirs = [client for client in clients if client.home is master]
    before, happened = crowd.total(), taken_over(master)
    cluster.replica(master).cli("cluster failover")
    happened()
    crowd.grow(20)
    settle(cluster)
    crowd.look()
    seen = crowd.since(before)
    check("redis-cluster: CLUSTER FAILOVER loses nothing", seen["lost"] == 0, seen)
    figure("redis-cluster", "CLUSTER FAILOVER: acknowledged, lost, answered 503", f"{seen['acknowledged']}, 0, {seen['failed']}")

    for _ in range(4 if LONG else 1):
        killed_master(cluster, nodes, crowd, taken_over)
    unreplicated(cluster, nodes, crowd, taken_over, refused=False)
    unreplicated(cluster, nodes, crowd, taken_over, refused=True)
    crowd.stop()
    for node in nodes:
        node.stop()
    cluster.stop()
    print("ok  redis-cluster: failovers, orderly, by a kill, and with a replica that lags behind", flush=True)


def killed_master(cluster, nodes, crowd, taken_over):
    master = random.choice(cluster.masters())
    theirs = [client for client in crowd.clients if client.home is master]
    others = [client for client in crowd.clients if client.home is not master]
    ended = on(cluster, master, lambda: large_session(nodes[0]), 3)
    late = on(cluster, master, lambda: large_session(nodes[0]), 3)
    ended = [end(browser) for browser in ended]
    check("redis-cluster: logged out", None not in ended)
    master.replicated()
    crowd.forget_outages()
    before, elsewhere, happened = crowd.total(theirs), crowd.total(others), taken_over(master)
    crowd.grow(10)
    late = [copy for copy in map(end, late) if copy]
    began = time.monotonic()
    master.kill()
    happened()
    promoted = time.monotonic() - began
    crowd.grow(20)
    crowd.look()
    seen, there = crowd.since(before, theirs), crowd.since(elsewhere, others)
    check("redis-cluster: the others lose nothing", there["lost"] == 0, there)
    for cookie in ended:
        for node in nodes:
            check("redis-cluster: what was replicated stays ended", not is_back(node, cookie))
    back = sum(any(is_back(node, cookie) for node in nodes) for cookie in late)
    figure("redis-cluster", "killed master: promoted after", f"{promoted:.1f} s")
    figure("redis-cluster", "its sessions: 503 for at most", f"{crowd.longest_outage(theirs):.1f} s")
    figure("redis-cluster", "its sessions: acknowledged, lost", f"{seen['acknowledged']}, {seen['lost']}")
    figure("redis-cluster", "logouts right before the kill, of which came back", f"{len(late)}, {back}")
    figure("redis-cluster", "sessions of other masters: acknowledged, answered 503", f"{there['acknowledged']}, {there['failed']}")
    slowest = max(client.slowest_failure for client in crowd.clients)
    check("redis-cluster: no request waits longer than the time limit", slowest < STORE_TIMEOUT + SLACK, slowest)
    # Back as a replica, it has what its former replica has.
    again = crowd.total()
    master.start()
    settle(cluster)
    crowd.grow(10)
    crowd.look()
    check("redis-cluster: and nothing when it is back", crowd.since(again)["lost"] == 0, crowd.since(again))


def unreplicated(cluster, nodes, crowd, taken_over, refused):
    """A master goes on without its replica, and dies. What it acknowledged meanwhile is lost, and no more than that; with
    min-replicas-to-write it acknowledges nothing."""
    master = random.choice(cluster.masters())
    replica = cluster.replica(master)
    theirs = [client for client in crowd.clients if client.home is master]
    others = [client for client in crowd.clients if client.home is not master]
    ended = on(cluster, master, lambda: large_session(nodes[0]), 2)
    if refused:
        for node in cluster.nodes:
            node.set("min-replicas-max-lag", 1)
            node.set("min-replicas-to-write", 1)
    crowd.look()
    happened, elsewhere = taken_over(master), crowd.total(others)
    with crowd.held():
        master.replicated()
        # Nothing is under way to it, and it cannot come back for more.
        replica.signal(signal.SIGSTOP)
        master.cli("client kill type replica")
        before = crowd.total(theirs)
        for client in theirs:
            for number in range(6):
                [client.increment, client.note][number % 2](client.browsers[number % len(client.browsers)])
        within = crowd.since(before, theirs)
        copies = [end(browser) for browser in ended]
        master.kill()
        replica.signal(signal.SIGCONT)
        happened()
    expected = 0 if refused else 6 * len(theirs)
    check("redis-cluster: acknowledged without a replica", within["acknowledged"] == expected, within)
    if refused:
        # There is no replica any more, so nothing is written until there is one.
        wait_for("redis-cluster: a replica is wanted", lambda: all(client.failing_since for client in theirs))
        for client in theirs:
            status, _ = Once(nodes[0], client.browsers[0].cookie).ask("GET", "/session")
            check("redis-cluster: but it can be read", status == 200, status)
        check("redis-cluster: logouts are not acknowledged", copies == [None] * 2, copies)
        master.start()
    crowd.grow(10)
    crowd.look()
    seen, there = crowd.since(before, theirs), crowd.since(elsewhere, others)
    check("redis-cluster: exactly that is lost", seen["lost"] == expected, (seen["lost"], expected))
    check("redis-cluster: the others lose nothing", there["lost"] == 0, there)
    told = "with min-replicas-to-write" if refused else "acknowledged without a replica, then killed"
    figure("redis-cluster", f"{told}: acknowledged, lost", f"{expected}, {seen['lost']}")
    if refused:
        for node in cluster.nodes:
            node.set("min-replicas-to-write", 0)
    else:
        here, there = [[is_back(node, cookie) for cookie in copies] for node in nodes]
        check("redis-cluster: their ends are lost too", all(there), (here, there))
        figure("redis-cluster", "logouts of that time that came back: where it was done, elsewhere", f"{sum(here)} of 2, {sum(there)} of 2")
        master.start()
    settle(cluster)


# --- Redis, one server and its replica behind one address


def redis():
    primary = servers.Redis().start()
    replica = servers.Redis(replica_of=primary).start()
    wait_for("redis: the replica follows", lambda: replica.info("master_link_status") == "up")
    address = servers.Forwarder(primary)
    nodes = nodes_over(address.url(primary))
    crowd = Crowd("redis", [Client(f"redis-{n}", nodes) for n in range(6)]).start()
    crowd.grow()

    # Orderly, and as badly as can be: the former primary lives on as a replica, and the connections to it stay.
    crowd.forget_outages()
    with crowd.held():
        primary.replicated()
        before = crowd.total()
        replica.cli("replicaof no one")
        primary.cli(f"replicaof {replica.host} {replica.port}")
        wait_for("redis: the former primary follows", lambda: primary.info("master_link_status") == "up")
        address.lead_to(replica, cut=False)
        moved = time.monotonic()
    crowd.grow(10)
    healed = time.monotonic() - moved
    crowd.look()
    seen = crowd.since(before)
    check("redis: an orderly change loses nothing", seen["lost"] == 0, seen)
    outage = crowd.longest_outage(crowd.clients)
    check("redis: READONLY heals at once", outage < 2.5, outage)
    figure("redis", "READONLY, connections stay: 503, for at most", f"{seen['failed']}, {outage:.2f} s")

    # Killed, and the other promoted by hand.
    primary, replica = replica, primary
    ended = [end(large_session(nodes[0])) for _ in range(3)]
    primary.replicated()
    crowd.forget_outages()
    before = crowd.total()
    crowd.grow(10)
    primary.kill()
    replica.cli("replicaof no one")
    address.lead_to(replica)
    crowd.grow(10)
    crowd.look()
    seen = crowd.since(before)
    for cookie in ended:
        check("redis: what was replicated stays ended", not any(is_back(node, cookie) for node in nodes))
    figure("redis", "killed, its replica promoted: acknowledged, lost", f"{seen['acknowledged']}, {seen['lost']}")
    figure("redis", "503 for at most", f"{crowd.longest_outage(crowd.clients):.2f} s")
    crowd.stop()
    for each in [*nodes, address, primary, replica]:
        each.stop()
    print("ok  redis: a replica promoted, in order and after a kill", flush=True)


# --- PostgreSQL


def postgres():
    for synchronous in (True, False):
        for cut in (False, True):
            for _ in range(3 if LONG and not cut else 1):
                promoted(synchronous, cut)
    print("ok  postgres: standbys promoted after a kill, synchronous and not", flush=True)


def promoted(synchronous, cut):
    """The primary is killed under load and its standby promoted. With `cut` nothing came to that any more before."""
    name = f"postgres, {'synchronous' if synchronous else 'asynchronous'}"
    primary = servers.Postgres().start()
    standby = servers.Postgres(standby_of=primary).start()
    if synchronous:
        primary.set("synchronous_standby_names", "*")
    streams = f"streaming,{'sync' if synchronous else 'async'}"
    state = lambda: primary.ask("select state || ',' || sync_state from pg_stat_replication")
    wait_for(f"{name}: the standby follows", lambda: state() == streams)
    address = servers.Forwarder(primary)
    nodes = nodes_over(address.url(primary))
    crowd = Crowd(name, [Client(f"postgres-{n}", nodes) for n in range(6)], Pair(nodes)).start()
    crowd.grow()
    ended = [end(large_session(nodes[n % 2])) for n in range(4)]
    users = [Browser(node) for node in nodes]
    for browser in users:
        check(f"{name}: a login", browser.ask("POST", "/login", {"subject": "ada"})[0] == 204)
    late = [large_session(nodes[0]) for _ in range(4)]

    def everything_there():
        return standby.ask("select pg_last_wal_receive_lsn()") == primary.ask("select pg_current_wal_flush_lsn()")

    expected = None
    before = crowd.total()
    crowd.forget_outages()
    if cut and not synchronous:
        with crowd.held():
            check(f"{name}: the subject's", users[0].ask("POST", "/revoke", {"subject": "ada"})[0] == 204)
            wait_for(f"{name}: the standby has it all", everything_there)
            standby.set("primary_conninfo", "")
            wait_for(f"{name}: nothing comes to it", lambda: state() == "")
            within = crowd.total()
            for client in crowd.clients:
                client.increment(client.browsers[0])
                client.note(client.browsers[1])
            within = crowd.since(within)
            expected = 2 * len(crowd.clients)
            check(f"{name}: acknowledged without the standby", within["acknowledged"] == expected, within)
            late = [end(browser) for browser in late]
            primary.kill()
            began = time.monotonic()
            standby.promote()
            address.lead_to(standby)
    else:
        check(f"{name}: the subject's", users[0].ask("POST", "/revoke", {"subject": "ada"})[0] == 204)
        if cut:
            standby.set("primary_conninfo", "")
            wait_for(f"{name}: nothing is acknowledged", lambda: all(client.failing_since for client in crowd.clients))
            within = crowd.total()
        late = [end(browser) for browser in late]
        if cut:
            check(f"{name}: still nothing is", crowd.since(within)["acknowledged"] == 0 and late == [None] * 4, crowd.since(within))
        else:
            crowd.grow()
        primary.kill()
        began = time.monotonic()
        standby.promote()
        address.lead_to(standby)
    promoted_after = time.monotonic() - began
    crowd.grow(20)
    crowd.stop()
    seen = crowd.since(before)
    by_two = crowd.pair.lost(name, nodes[0])
    late = [copy for copy in late if copy]
    back = sum(any(is_back(node, cookie) for node in nodes) for cookie in late)
    told = f"{name}{', the standby cut off before' if cut else ''}"
    if synchronous:
        check(f"{told}: nothing is lost", seen["lost"] == by_two == back == 0, (seen, by_two, back))
    elif cut:
        check(f"{told}: exactly that is lost", seen["lost"] == expected and by_two == 0, (seen, by_two))
        check(f"{told}: and what was ended then is back", back == len(late) == 4, (back, late))
    for cookie in ended if synchronous or cut else []:
        check(f"{told}: ended is ended", None not in ended and not any(is_back(node, cookie) for node in nodes))
    for browser in users if synchronous or cut else []:
        rejections = [Browser(node, browser.cookie).get("/session")["rejection"] for node in nodes]
        check(f"{told}: a revoked subject's sessions are", rejections == ["revoked"] * 2, rejections)
    slowest = max(client.slowest_failure for client in crowd.clients)
    check(f"{told}: no request waits longer than the time limit", slowest < STORE_TIMEOUT + SLACK, slowest)
    figure("postgres", f"{told.removeprefix('postgres, ')}: acknowledged, lost", f"{seen['acknowledged'] + crowd.pair.done}, {seen['lost'] + by_two}")
    figure("postgres", f"logouts acknowledged right before, of which came back", f"{len(late)}, {back}")
    if not cut:
        figure("postgres", "promoted after; 503 for at most", f"{promoted_after:.1f} s; {crowd.longest_outage(crowd.clients):.1f} s")
    for each in [*nodes, address, primary, standby]:
        each.stop()


SCENARIOS = {"redis-cluster": redis_cluster, "redis": redis, "postgres": postgres}


def main():
    words = sys.argv[1:]
    binaries.extend(os.path.abspath(word) for word in words if word not in SCENARIOS)
    if not binaries or not all(os.path.exists(binary) for binary in binaries):
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    for name in [word for word in words if word in SCENARIOS] or SCENARIOS:
        SCENARIOS[name]()
    width = max(len(what) for _, what, _ in figures)
    print(f"\nmeasured, in {time.monotonic() - began:.0f} s")
    for scenario, what, value in figures:
        print(f"{scenario:<14} {what:<{width}}  {value}")


if __name__ == "__main__":
    main()
