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
import subprocess
import sys
import tempfile
import threading
import time

import servers
import stores
from stores import LARGE, Api, check, new_key, wait_for

LONG = os.environ.get("FAILOVER") == "long"
STORE_TIMEOUT = 1.0
# A write that may have happened is looked for once more, for as long again; and the machine may be busy.
LONGEST = 2 * STORE_TIMEOUT + 1.0

binaries = []
figures = []


def figure(scenario, what, value):
    figures.append((scenario, what, str(value)))
    print(f"    {what}: {value}", flush=True)


class Browser(stores.Browser):
    """Finds its way to a process in a network namespace, too."""

    def connect(self):
        connection = super().connect()
        if isinstance(self.api, Inside):
            with self.api.network.entered():
                connection.connect()
        return connection


class Once(Browser):
    """Sends nothing twice. No answer is status 0."""

    attempts = 1
    slowest = 0.0
    # Whether there was nobody who could have done it.
    refused = False

    def ask(self, method, path, body=None):
        began, self.refused = time.monotonic(), False
        try:
            return super().ask(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self.refused = isinstance(error, ConnectionRefusedError)
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
            wait_for(f"{name}: begins", lambda: self.browsers[0].ask("PUT", f"/entries/{path}", value)[0] == 204)
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
        cookie = large_session(nodes[0]).cookie
        self.browsers = [Once(node, cookie) for node in nodes]
        self.done, self.unknown, self.odd, self.going, self.lock = 0, 0, [], True, threading.Lock()
        self.held = [threading.Lock() for _ in nodes]
        self.threads = [
            threading.Thread(target=self.run, args=pair, daemon=True) for pair in zip(self.browsers, self.held)
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
        # Each has a cookie of its own by now, which lasts as long as it was used.
        seen = Browser(node, self.browsers[0].cookie).get("/entries/n")
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
    wait_for("a session begins", lambda: browser.ask("PUT", "/entries/large", LARGE)[0] == 204)
    return browser


def end(browser):
    """Logs out, and keeps a copy of the cookie; none if it was not acknowledged."""
    copy = browser.cookie
    status, _ = Once(browser.api, copy).ask("POST", "/destroy")
    return copy if status == 204 else None


def is_back(node, cookie):
    seen = Browser(node, cookie).get("/session")
    check("an ended session is over, or back", seen["origin"] == "resumed" or seen["rejection"] == "revoked", seen)
    return seen["origin"] == "resumed"


def is_exactly(lost, within):
    """What was acknowledged is lost, and at most what was not answered as well."""
    return within["acknowledged"] <= lost <= within["acknowledged"] + (within["failed"] if within["acknowledged"] else 0)


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
    ended = [copy for copy in map(end, ended) if copy]
    check("redis-cluster: logged out", ended)
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
    # What is acknowledged is on its way to the replica: of each client at most its last ones are not there.
    check("redis-cluster: a kill loses the last writes alone", seen["lost"] <= 2 * len(theirs), seen)
    check("redis-cluster: its sessions are back soon", crowd.longest_outage(theirs) < 10, crowd.longest_outage(theirs))
    figure("redis-cluster", "its sessions: acknowledged, lost", f"{seen['acknowledged']}, {seen['lost']}")
    figure("redis-cluster", "logouts right before the kill, of which came back", f"{len(late)}, {back}")
    figure("redis-cluster", "sessions of other masters: acknowledged, answered 503", f"{there['acknowledged']}, {there['failed']}")
    slowest = max(client.slowest_failure for client in crowd.clients)
    check("redis-cluster: no request waits longer than the time limit", slowest < LONGEST, slowest)
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
        copies = [copy for copy in map(end, ended) if copy]
        master.kill()
        replica.signal(signal.SIGCONT)
        happened()
    expected = within["acknowledged"]
    check("redis-cluster: acknowledged without a replica", expected == 0 if refused else expected > 0, within)
    if refused:
        # There is no replica any more, so nothing is written until there is one.
        wait_for("redis-cluster: a replica is wanted", lambda: all(client.failing_since for client in theirs))
        for client in theirs:
            status, _ = Once(nodes[0], client.browsers[0].cookie).ask("GET", "/session")
            check("redis-cluster: but it can be read", status == 200, status)
        check("redis-cluster: logouts are not acknowledged", not copies, copies)
        master.start()
    crowd.grow(10)
    crowd.look()
    seen, there = crowd.since(before, theirs), crowd.since(elsewhere, others)
    check("redis-cluster: exactly that is lost", is_exactly(seen["lost"], within), (seen["lost"], within))
    check("redis-cluster: the others lose nothing", there["lost"] == 0, there)
    told = "with min-replicas-to-write" if refused else "acknowledged without a replica, then killed"
    figure("redis-cluster", f"{told}: acknowledged, lost", f"{expected}, {seen['lost']}")
    if refused:
        for node in cluster.nodes:
            node.set("min-replicas-to-write", 0)
    else:
        here, there = [[is_back(node, cookie) for cookie in copies] for node in nodes]
        check("redis-cluster: their ends are lost too", copies and all(there), (here, there))
        figure("redis-cluster", "logouts of that time, back where it was done, and elsewhere", f"{len(copies)}, {sum(here)}, {sum(there)}")
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
    ended = [copy for copy in (end(large_session(nodes[0])) for _ in range(3)) if copy]
    check("redis: logged out", ended)
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
    check("redis: a kill loses the last writes alone", seen["lost"] <= 2 * len(crowd.clients), seen)
    outage = crowd.longest_outage(crowd.clients)
    check("redis: its sessions are back soon", outage < 5, outage)
    figure("redis", "killed, its replica promoted: acknowledged, lost", f"{seen['acknowledged']}, {seen['lost']}")
    figure("redis", "503 for at most", f"{outage:.2f} s")
    crowd.stop()
    for each in [*nodes, address, primary, replica]:
        each.stop()
    print("ok  redis: a replica promoted, in order and after a kill", flush=True)


# --- PostgreSQL


def postgres():
    runs = [(True, False), (True, True), (False, True)]
    if LONG:
        runs = [(True, False)] * 3 + [(False, False)] * 3 + runs
    primary = servers.Postgres().start()
    for synchronous, cut in runs:
        primary = promoted(primary, synchronous, cut)
    primary.stop()
    print("ok  postgres: standbys promoted after a kill, synchronous and not", flush=True)


def promoted(primary, synchronous, cut):
    """The primary is killed under load and its standby promoted. With `cut` nothing came to that any more before."""
    name = f"postgres, {'synchronous' if synchronous else 'asynchronous'}"
    standby = servers.Postgres(standby_of=primary).start()
    primary.set("synchronous_standby_names", "*" if synchronous else "")
    streams = f"streaming,{'sync' if synchronous else 'async'}"
    state = lambda: primary.ask("select state || ',' || sync_state from pg_stat_replication")
    wait_for(f"{name}: the standby follows", lambda: state() == streams)
    address = servers.Forwarder(primary)
    nodes = nodes_over(address.url(primary))
    crowd = Crowd(name, [Client(f"postgres-{n}", nodes) for n in range(6)], Pair(nodes)).start()
    crowd.grow()
    ended = [copy for copy in (end(large_session(nodes[n % 2])) for n in range(4)) if copy]
    users = [Browser(node) for node in nodes]
    for browser in users:
        check(f"{name}: a login", browser.ask("POST", "/login", {"subject": "ada"})[0] == 204)
    late = [large_session(nodes[0]) for _ in range(4)]

    def everything_there():
        return standby.ask("select pg_last_wal_receive_lsn()") == primary.ask("select pg_current_wal_flush_lsn()")

    check(f"{name}: logged out", ended)
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
            check(f"{name}: acknowledged without the standby", within["acknowledged"] > 0, within)
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
        check(f"{told}: exactly that is lost", is_exactly(seen["lost"], within) and by_two == 0, (seen, within, by_two))
        check(f"{told}: and what was ended then is back", back == len(late) > 0, (back, late))
    for cookie in ended if synchronous or cut else []:
        check(f"{told}: ended is ended", not any(is_back(node, cookie) for node in nodes))
    for browser in users if synchronous or cut else []:
        rejections = [Browser(node, browser.cookie).get("/session")["rejection"] for node in nodes]
        check(f"{told}: a revoked subject's sessions are", rejections == ["revoked"] * 2, rejections)
    slowest = max(client.slowest_failure for client in crowd.clients)
    check(f"{told}: no request waits longer than the time limit", slowest < LONGEST, slowest)
    figure("postgres", f"{told.removeprefix('postgres, ')}: acknowledged, lost", f"{seen['acknowledged'] + crowd.pair.done}, {seen['lost'] + by_two}")
    figure("postgres", f"logouts acknowledged right before, of which came back", f"{len(late)}, {back}")
    if not cut:
        figure("postgres", "promoted after; 503 for at most", f"{promoted_after:.1f} s; {crowd.longest_outage(crowd.clients):.1f} s")
    for each in [*nodes, address, primary]:
        each.stop()
    return standby


# --- A node that is cut off


class Network:
    """A network namespace, behind a bridge that a node in it can be taken from: what it sends gets nowhere, and nobody says so."""

    def __init__(self):
        self.name = f"sealed{os.getpid() % 10000}"
        self.host, self.inside = "10.213.57.1", "10.213.57.2"
        self.outer = f"{self.name}o"
        atexit.register(self.stop)
        for words in [
            f"netns add {self.name}",
            # An address of its own: with that of the port, what comes to that would be taken even when it is cut off.
            f"link add {self.name} address 02:53:45:53:53:01 type bridge",
            f"addr add {self.host}/24 dev {self.name}",
            f"link set {self.name} up",
            f"link add {self.outer} type veth peer name {self.name}i netns {self.name}",
            f"link set {self.outer} up master {self.name}",
            f"-n {self.name} addr add {self.inside}/24 dev {self.name}i",
            f"-n {self.name} link set {self.name}i up",
            f"-n {self.name} link set lo up",
        ]:
            self.ip(words)

    @staticmethod
    def ip(words, check=True):
        subprocess.run([servers.program("ip"), *words.split()], check=check, capture_output=not check, timeout=20)

    def cut(self):
        self.ip(f"link set {self.outer} nomaster")

    def heal(self):
        self.ip(f"link set {self.outer} master {self.name}")

    @contextlib.contextmanager
    def entered(self):
        """Sockets that this thread makes meanwhile belong to the namespace."""
        clone_newnet = 0x4000_0000
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(path):
            with open(path) as namespace:
                if libc.setns(namespace.fileno(), clone_newnet) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {path}")

        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net") as own:
            enter(f"/run/netns/{self.name}")
            try:
                yield
            finally:
                enter(f"/proc/self/fd/{own.fileno()}")

    def stop(self):
        for words in [f"netns del {self.name}", f"link del {self.name}", f"link del {self.outer}"]:
            self.ip(words, check=False)


class Inside(Api):
    """A process in the namespace."""

    def __init__(self, network, store, keys, program, **settings):
        self.network = network
        super().__init__(store, keys, [servers.program("ip"), "netns", "exec", network.name, program], **settings)


REVOCATION = 0.5


def cut_off():
    if os.getuid() != 0:
        return print("SKIPPED  cut-off: network namespaces need root", flush=True)
    network = Network()
    for name, server in [
        ("redis", servers.Redis(host=network.host, options=["--protected-mode", "no"])),
        ("postgres", servers.Postgres(host=network.host)),
    ]:
        server.start()
        for seconds in [4, 40] if LONG else [4]:
            cut_off_from(name, server, network, seconds)
        server.stop()
    network.stop()
    print("ok  cut-off: a node that the store is out of reach for, and healed", flush=True)


def cut_off_from(name, server, network, seconds):
    keys = new_key()
    settings = {"STORE_TIMEOUT_MS": str(int(STORE_TIMEOUT * 1000)), "REVOCATION": str(int(REVOCATION * 1000))}
    trusting, strict = [
        Inside(network, server.url, keys, binaries[0], REVOCATION_FAILURE=policy, **settings) for policy in ("open", "closed")
    ]
    other = Api(server.url, keys, [binaries[-1]], **settings)
    what = f"cut-off, {name}"
    crowd = Crowd(what, [Client(f"{name}-{n}", [trusting]) for n in range(3)]).start()
    elsewhere = Crowd(what, [Client(f"{name}-other-{n}", [other]) for n in range(3)]).start()

    def user(subject):
        browser = Browser(other)
        check(f"{what}: a login", browser.ask("POST", "/login", {"subject": subject})[0] == 204)
        return browser.cookie

    ada, bob, eve, dan = user("ada"), user("bob"), user("eve"), user("dan")
    stored = large_session(other).cookie
    for node in (trusting, strict):
        for cookie in (ada, bob, eve, stored):
            check(f"{what}: known", Browser(node, cookie).get("/session")["origin"] == "resumed")
    crowd.grow()
    before, there = crowd.total(), elsewhere.total()

    network.cut()
    began = time.monotonic()
    ends = began + seconds
    check(f"{what}: one is logged out elsewhere", Once(other, ada).ask("POST", "/destroy")[0] == 204)
    check(f"{what}: and one is revoked", Once(other, eve).ask("POST", "/revoke", {"subject": "bob"})[0] == 204)
    check(f"{what}: and one of the store", Once(other, stored).ask("POST", "/destroy")[0] == 204)
    wait_for(f"{what}: 503", lambda: all(client.failing_since for client in crowd.clients))
    # What was asked lately is good for as long as it is good with the store at hand.
    wait_for(f"{what}: the answers are too old", lambda: time.monotonic() > began + REVOCATION + 0.1)
    slowest, answers = 0.0, {"open": {}, "closed": {}}
    while time.monotonic() < ends:
        for policy, node in [("open", trusting), ("closed", strict)]:
            for cookie, browser in [(cookie, Once(node, cookie)) for cookie in (ada, bob, eve)]:
                status, content = browser.ask("PUT", "/entries/n", 1)
                answers[policy][status] = answers[policy].get(status, 0) + 1
                slowest = max(slowest, browser.slowest)
            browser = Once(node, stored)
            status, content = browser.ask("GET", "/session")
            check(f"{what}: a session of the store cannot be known", (status, content) == (503, b""), (status, content))
            slowest = max(slowest, browser.slowest)
        time.sleep(0.02)
    check(f"{what}: with FailurePolicy::Open cookies are good", set(answers["open"]) == {204}, answers)
    check(f"{what}: with FailurePolicy::Closed none is", set(answers["closed"]) == {503}, answers)
    for client in crowd.clients:
        check(f"{what}: every stored session waits", client.failing_since is not None and client.failing_since < began + seconds)
    slowest = max([slowest] + [client.slowest_failure for client in crowd.clients])
    check(f"{what}: nobody waits longer than the time limit", slowest < LONGEST, slowest)
    # It may get there yet, when the network is healed.
    check(f"{what}: no logout without the store", Once(trusting, dan).ask("POST", "/destroy")[0] == 503)
    seen = elsewhere.since(there)
    check(f"{what}: nobody else notices", seen["failed"] == 0, seen)

    network.heal()
    healed = time.monotonic()
    wait_for(f"{what}: it heals", lambda: all(client.failing_since is None for client in crowd.clients), 120)
    stored_after = time.monotonic() - healed
    refused = lambda node, cookie: Once(node, cookie).ask("GET", "/session")
    for node in (trusting, strict):
        for cookie in (ada, bob, stored):

            def known():
                status, content = refused(node, cookie)
                return status == 200 and json.loads(content)["rejection"] == "revoked"

            wait_for(f"{what}: what was ended meanwhile is", known, 120)
    revoked_after = time.monotonic() - healed
    for node in (trusting, strict, other):
        check(f"{what}: who was not revoked goes on", Browser(node, eve).get("/session")["subject"] == "eve")
    crowd.grow(10)
    for each in (crowd, elsewhere):
        each.stop()
    check(f"{what}: nothing is lost", crowd.since(before)["lost"] == 0 and elsewhere.since(there)["lost"] == 0)
    # After a failure no other question is asked for a second; beyond that it is the network's matter.
    bound = max(seconds, 2) * 1.5 + 3
    check(f"{what}: soon", max(stored_after, revoked_after) < bound, (stored_after, revoked_after, bound))
    figure("cut-off", f"{name}, {seconds} s: slowest 503", f"{slowest:.2f} s, with a limit of {STORE_TIMEOUT} s")
    figure("cut-off", "sessions of the store back after, all revocations known after", f"{stored_after:.1f} s, {revoked_after:.1f} s")
    for node in (trusting, strict, other):
        node.stop()


# --- A primary that is cut off together with a node


class PrimaryInside(servers.Redis):
    def __init__(self, network):
        super().__init__(host=network.inside, options=["--protected-mode", "no"])
        self.network = network

    def command(self):
        return [servers.program("ip"), "netns", "exec", self.network.name, *super().command()]

    def set(self, name, value):
        with self.network.entered():
            super().set(name, value)


def partition():
    """The node goes on with the primary that it can reach, while another is promoted elsewhere."""
    if os.getuid() != 0:
        return print("SKIPPED  partition: network namespaces need root", flush=True)
    network = Network()
    for refused in (False, True):
        primary = PrimaryInside(network).start()
        replica = servers.Redis(replica_of=primary, host=network.host, options=["--protected-mode", "no"]).start()
        wait_for("partition: the replica follows", lambda: replica.info("master_link_status") == "up")
        if refused:
            primary.set("min-replicas-max-lag", 1)
            primary.set("min-replicas-to-write", 1)
        keys, settings = new_key(), {"STORE_TIMEOUT_MS": str(int(STORE_TIMEOUT * 1000))}
        inside = Inside(network, primary.url, keys, binaries[0], **settings)
        outside = Api(replica.url, keys, [binaries[-1]], **settings)
        crowd = Crowd("partition", [Client(f"partition-{n}", [inside]) for n in range(4)]).start()
        crowd.grow()
        with crowd.held():
            primary.replicated()
            before = crowd.total()
            network.cut()
            cut = time.monotonic()
        if refused:
            wait_for("partition: nothing is acknowledged any more", lambda: all(client.failing_since for client in crowd.clients))
            stopped = max(client.failing_since for client in crowd.clients) - cut
            check("partition: soon", stopped < 1 + 2, stopped)
        else:
            wait_for("partition: it goes on as if nothing were", lambda: time.monotonic() > cut + 3)
        for client in crowd.clients:
            client.going = False
        for client in crowd.clients:
            client.join()
        within = crowd.since(before)
        replica.cli("replicaof no one")
        network.heal()
        for client in crowd.clients:
            client.browsers = [Once(outside, client.browsers[0].cookie)]
        crowd.look()
        seen = crowd.since(before)
        check("partition: exactly what was acknowledged apart is lost", is_exactly(seen["lost"], within), (seen, within))
        check("partition: it was acknowledged apart", refused or within["acknowledged"] > 0, within)
        told = f"with min-replicas-to-write, {stopped:.1f} s" if refused else "3 s"
        figure("partition", f"a node alone with the primary, {told}: acknowledged, lost", f"{within['acknowledged']}, {seen['lost']}")
        for each in (inside, outside, primary, replica):
            each.stop()
    network.stop()
    print("ok  partition: what a primary acknowledges that another has replaced", flush=True)


# --- A server that falls silent


def silent():
    """The primary answers nothing any more and closes nothing, as a machine without power does; another takes over, at its
    address or as the cluster's master. Whoever waits for the old connections waits for ever."""
    for name, make in [("redis", silent_redis), ("redis-cluster", silent_cluster), ("postgres", silent_postgres)]:
        silent_in(name, *make())
    # Shorter than any time after which silence is certain.
    silent_in("redis-cluster, impatient", *silent_cluster(), STORE_TIMEOUT_MS="300")
    print("ok  silent: a server that says nothing is left for its successor", flush=True)


def frozen(server):
    for process in [server.process.pid, *servers.descendants(server.process.pid)]:
        os.kill(process, signal.SIGSTOP)


def silent_redis():
    primary = servers.Redis().start()
    replica = servers.Redis(replica_of=primary).start()
    wait_for("redis: the replica follows", lambda: replica.info("master_link_status") == "up")
    address = servers.Forwarder(primary)

    def move():
        frozen(primary)
        replica.cli("replicaof no one")
        address.lead_to(replica, cut=False)

    return address.url(primary), primary.replicated, move, [address, primary, replica]


def silent_postgres():
    primary = servers.Postgres().start()
    standby = servers.Postgres(standby_of=primary).start()
    primary.set("synchronous_standby_names", "*")
    wait_for("postgres: the standby follows", lambda: primary.ask("select sync_state from pg_stat_replication") == "sync")
    address = servers.Forwarder(primary)

    def move():
        frozen(primary)
        standby.promote()
        address.lead_to(standby, cut=False)

    return address.url(primary), lambda: None, move, [address, primary, standby]


def silent_cluster():
    cluster = servers.RedisCluster(replicas=1, timeout=1000).start()
    master = cluster.masters()[0]
    heir = cluster.replica(master)

    def move():
        frozen(master)
        wait_for("redis-cluster: the replica is promoted", lambda: heir.info("role") == "master")

    return cluster.url, lambda: [node.replicated() for node in cluster.masters()], move, [cluster]


def silent_in(name, url, replicated, move, servers_, **settings):
    # As many as to use up a pool.
    nodes = nodes_over(url, **settings)
    crowd = Crowd(f"silent, {name}", [Client(f"silent-{n}", nodes) for n in range(16)]).start()
    crowd.grow()
    with crowd.held():
        replicated()
    before = crowd.total()
    move()
    moved = time.monotonic()
    crowd.grow(3)
    took = time.monotonic() - moved
    figure("silent", f"{name}: all sessions back after", f"{took:.1f} s")
    check(f"silent, {name}: the silent one is left", took < 10, took)
    crowd.stop()
    seen = crowd.since(before)
    check("silent, postgres: with a synchronous standby nothing is lost", name != "postgres" or seen["lost"] == 0, seen)
    for each in [*nodes, *servers_]:
        each.stop()


# --- A clock that is wrong


class Clock:
    """The clock of a process, by libfaketime. Only the time of day moves, as where it is set wrongly."""

    def __init__(self, folder, name):
        self.file = pathlib.Path(folder) / name
        self.set(0)
        library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        check("libfaketime is there; scripts/test installs it", library is not None)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds):
        """So much ahead, or behind, of what it really is."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+}")
        new.rename(self.file)


HOUR = 3600
SKEW = 60


def clocks():
    for name, server in [("redis", servers.Redis()), ("postgres", servers.Postgres())]:
        server.start()
        with tempfile.TemporaryDirectory() as folder:
            wrong_clock(name, server, folder)
        server.stop()
    print("ok  clocks: a node hours ahead, then hours behind, then right again", flush=True)


def wrong_clock(name, server, folder):
    what, keys = f"clocks, {name}", new_key()
    own, its = Clock(folder, "own"), Clock(folder, "its")
    settings = {"REVOCATION": "500", "ABSOLUTE_MS": str(100 * HOUR * 1000)}
    right, wrong = [
        Api(server.url, keys, [binaries[n % len(binaries)]], **settings, **clock.environment) for n, clock in enumerate((own, its))
    ]
    nodes = (right, wrong)

    def see(node, cookie):
        seen = Browser(node, cookie).get("/session")
        return seen["rejection"] or seen["expires_at"]

    def user(node, subject, large=False):
        browser = Browser(node)
        check(f"{what}: a login", browser.ask("POST", "/login", {"subject": subject})[0] == 204)
        if large:
            browser.put("large", LARGE)
        return browser

    def counted(cookie, times):
        """Counts on the one and the other; its end as both say."""
        cookies, ends = cookie, set()
        for number in range(1, times + 1):
            browser = Browser(nodes[number % 2], cookies)
            status, content = browser.ask("POST", "/entries/n/increment")
            check(f"{what}: each sees what the other wrote", (status, json.loads(content)) == (200, number), (status, content))
            cookies = browser.cookie
        return {see(node, cookies) for node in nodes}

    # Ahead.
    stored, small = user(right, "ada", large=True), user(right, "ada")
    ended, elsewhere = user(right, "ada"), user(right, "ada", large=True)
    ends = {browser.cookie: see(right, browser.cookie) for browser in (stored, small, ended, elsewhere)}
    its.set(6 * HOUR)
    for cookie, at in ends.items():
        check(f"{what}: ahead, but within its life: good, and not prolonged", [see(node, cookie) for node in nodes] == [at] * 2)
    check(f"{what}: a row is good for both", counted(stored.cookie, 20) == {ends[stored.cookie]})
    used = Browser(wrong, small.cookie)
    used.put("n", 1)
    check(f"{what}: what the one ahead seals", [see(node, used.cookie) for node in nodes] == ["future", ends[small.cookie]])
    check(f"{what}: the cookie from before it is good", see(right, small.cookie) == ends[small.cookie])
    born = [user(wrong, "eve"), user(wrong, "eve", large=True)]
    for browser in born:
        check(f"{what}: what it begins", see(right, browser.cookie) == "future", see(right, browser.cookie))
    for by, on, browser in [(wrong, right, ended), (right, wrong, elsewhere)]:
        copy = browser.cookie
        check(f"{what}: logged out", browser.ask("POST", "/destroy")[0] == 204)
        wait_for(f"{what}: ended is ended, whoever's clock", lambda: see(by, copy) == see(on, copy) == "revoked")
    subject = [user(right, "bob"), user(wrong, "bob")]
    check(f"{what}: known", [see(wrong, browser.cookie) in ("revoked", "future") for browser in subject] == [False] * 2)
    # What it was told while it was ahead must not be good for as long as it takes until then.
    known = user(right, "dan")
    check(f"{what}: known", see(wrong, known.cookie) == see(right, known.cookie))

    # Right again.
    its.set(0)
    copy = known.cookie
    check(f"{what}: logged out", known.ask("POST", "/destroy")[0] == 204)
    check(f"{what}: revoked", Browser(right).ask("POST", "/revoke", {"subject": "bob"})[0] == 204)
    asked = time.monotonic()
    wait_for(f"{what}: known within the bound", lambda: see(wrong, copy) == "revoked", 5)
    wait_for(f"{what}: known within the bound", lambda: see(wrong, subject[0].cookie) == "revoked", 5)
    check(f"{what}: known within the bound", time.monotonic() - asked < 0.5 + 1, time.monotonic() - asked)
    for node in nodes:
        check(f"{what}: what was there is there", see(node, stored.cookie) == ends[stored.cookie])
        for browser in [used, *born]:
            check(f"{what}: what came from ahead waits", see(node, browser.cookie) == "future")
    # Until it is so late. It ends when it would have.
    for clock in (own, its):
        clock.set(6 * HOUR)
    for node in nodes:
        check(f"{what}: and is good then", see(node, used.cookie) == ends[small.cookie])
        for browser in born:
            left = Browser(node, browser.cookie).get("/session")["remaining_ms"]
            check(f"{what}: for no longer than a session lives", 23.9 * HOUR * 1000 < left <= 24 * HOUR * 1000, left)
        check(f"{what}: a subject that was revoked stays so", see(node, subject[1].cookie) == "revoked")
    for clock in (own, its):
        clock.set(24 * HOUR + 1)
    for node in nodes:
        check(f"{what}: over at its end", see(node, used.cookie) == "expired" and see(node, stored.cookie) in ("expired", "missing"))

    # Behind.
    for clock in (own, its):
        clock.set(0)
    fresh, stored = user(right, "ada"), user(right, "ada", large=True)
    its.set(-6 * HOUR)
    for browser in (fresh, stored):
        before = see(right, browser.cookie)
        check(f"{what}: behind, what is sealed now", see(wrong, browser.cookie) == "future")
        check(f"{what}: and is good where the clock is right", see(right, browser.cookie) == before)
    born = user(wrong, "eve", large=True)
    at = see(wrong, born.cookie)
    check(f"{what}: what it begins is good elsewhere", see(right, born.cookie) == at, (see(right, born.cookie), at))
    check(f"{what}: and a row for both", counted(born.cookie, 6) == {at})
    copy = born.cookie
    check(f"{what}: logged out", Browser(right, copy).ask("POST", "/destroy")[0] == 204)
    check(f"{what}: ended is ended", see(wrong, copy) == see(right, copy) == "revoked")
    # Over where the clock is right, and for as much longer good as the other is behind.
    own.set(25 * HOUR)
    its.set(23 * HOUR)
    check(f"{what}: over, and not yet", (see(right, fresh.cookie), len(see(wrong, fresh.cookie))) == ("expired", 24), see(wrong, fresh.cookie))
    its.set(24 * HOUR + 1)
    check(f"{what}: over there too", see(wrong, fresh.cookie) == "expired", see(wrong, fresh.cookie))
    for node in nodes:
        node.stop()
    figure("clocks", f"{name}: 6 hours ahead, 6 behind", "refused as from the future, or good to its end and no longer")


SCENARIOS = {"redis-cluster": redis_cluster, "redis": redis, "postgres": postgres, "cut-off": cut_off, "partition": partition,
             "silent": silent, "clocks": clocks}


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
