#!/usr/bin/env python3
"""Starts the servers that the tests of the stores need, each on a free port of 127.0.0.1 with its data in a temporary
folder, runs a command with their addresses in its environment, and stops them.

    tests/servers.py cargo test --all-features --test stores

A server that cannot be started is an error. SEALED_SESSION_TOOLS is the folder with the Python environment that has
SecantusDB; scripts/test makes it.
"""

import atexit
import glob
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = pathlib.Path(os.environ.get("SEALED_SESSION_TOOLS", ROOT / "target/tools"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def unprivileged(command):
    """Databases refuse to run as root."""
    if os.getuid() != 0:
        return command
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", *command]


def program(name):
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))), None)
    if found is None:
        sys.exit(f"missing: {name}; scripts/test installs what the tests need")
    return found


class Server:
    """One server process, which can be killed and started again on its port and its data."""

    def __init__(self):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sealed-session-"))
        self.folder.chmod(0o777)
        self.process = None
        # However this process ends.
        atexit.register(self.stop)

    def command(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def spawn(self, command, **options):
        log = open(self.folder / "log", "ab")
        # A group of its own, so that nothing that it starts outlives it.
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)

    def start(self):
        self.spawn(self.command())
        self.wait()
        return self

    def wait(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.command()[0]} did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def answers(command):
    """A server that is just starting may take a connection and leave it at that, so a client that hangs is an answer too."""
    try:
        asked = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=5)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


class Redis(Server):
    def __init__(self, durable=False, cluster=False):
        super().__init__()
        self.durable, self.bus = durable, free_port() if cluster else None

    def command(self):
        command = [program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                   "--dir", str(self.folder), "--daemonize", "no"]
        command += ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        if self.bus is not None:
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-config-file",
                        "nodes.conf", "--cluster-node-timeout", "2000", "--cluster-announce-ip", "127.0.0.1",
                        "--cluster-require-full-coverage", "no"]
        return command

    def cli(self, *words):
        command = [program("redis-cli"), "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout

    def ready(self):
        return self.cli("ping").strip() == "PONG"

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/"


class RedisCluster:
    """Three masters."""

    def __init__(self):
        self.nodes = [Redis(cluster=True) for _ in range(3)]

    def start(self):
        for node in self.nodes:
            node.start()
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        command = [program("redis-cli"), "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        self.wait()
        return self

    def wait(self):
        deadline = time.monotonic() + 60
        while not all("cluster_state:ok" in node.cli("cluster", "info") for node in self.nodes):
            if time.monotonic() > deadline:
                sys.exit("the Redis cluster did not form")
            time.sleep(0.1)

    def stop(self):
        for node in self.nodes:
            node.stop()

    @property
    def url(self):
        return "redis-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


class Mongo(Server):
    """SecantusDB, which speaks MongoDB's wire protocol over WiredTiger."""

    LAUNCHER = """
import signal, sys, threading
from secantus import SecantusDBServer
stop = threading.Event(); signal.signal(signal.SIGTERM, lambda *_: stop.set())
with SecantusDBServer(storage_path=sys.argv[1], port=int(sys.argv[3]), ttl_sweep_seconds=1.0) as s:
    open(sys.argv[2], "w").write(s.uri); stop.wait()
"""

    def command(self):
        python = str(TOOLS / "python/bin/python")
        return [python, "-c", self.LAUNCHER, str(self.folder / "data"), str(self.folder / "uri"), str(self.port)]

    def ready(self):
        return (self.folder / "uri").exists() and (self.folder / "uri").read_text() != ""

    @property
    def url(self):
        return f"mongodb://127.0.0.1:{self.port}/test?heartbeatFrequencyMS=500"


class Postgres(Server):
    def __init__(self, durable=False):
        super().__init__()
        self.fsync = "on" if durable else "off"

    def start(self):
        if not (self.folder / "data").exists():
            initdb = [program("initdb"), "-D", str(self.folder / "data"), "-U", "test", "-A", "trust", "-E", "UTF8",
                      "--locale=C", "--no-sync"]
            subprocess.run(unprivileged(initdb), check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=self.folder)
            # One role that has to know a password.
            access = self.folder / "data/pg_hba.conf"
            access.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + access.read_text())
        return super().start()

    def command(self):
        return unprivileged([program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-k",
                             str(self.folder), "-h", "127.0.0.1", "-c", f"fsync={self.fsync}",
                             "-c", "max_connections=200"])

    def ready(self):
        return answers([program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "test", "-c", "select 1",
                        "postgres"])

    @property
    def url(self):
        return f"postgres://test@127.0.0.1:{self.port}/postgres?sslmode=disable"


class MariaDb(Server):
    def __init__(self, durable=False):
        super().__init__()
        self.flush = "1" if durable else "0"

    def start(self):
        if not (self.folder / "data").exists():
            install = [program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder}/data",
                       "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
            subprocess.run(unprivileged(install), check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=120, cwd=self.folder)
        super().start()
        subprocess.run([*self.client(), "-e", "create database if not exists t"], check=True, timeout=20)
        return self

    def client(self):
        return [program("mariadb"), "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "root"]

    def command(self):
        return unprivileged([program("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data",
                             f"--socket={self.folder}/s.sock", f"--pid-file={self.folder}/pid", f"--port={self.port}",
                             "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-buffer-pool-size=32M",
                             f"--innodb-flush-log-at-trx-commit={self.flush}", "--max-connections=200"])

    def ready(self):
        return answers([*self.client(), "-e", "select 1"])

    @property
    def url(self):
        return f"mysql://root@127.0.0.1:{self.port}/t"


def main():
    servers = {"TEST_REDIS": Redis(), "TEST_REDIS_CLUSTER": RedisCluster(), "TEST_MONGODB": Mongo(),
               "TEST_POSTGRES": Postgres(), "TEST_MYSQL": MariaDb()}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for server in servers.values():
            server.start()
        environment = os.environ | {name: server.url for name, server in servers.items()}
        sys.exit(subprocess.run(sys.argv[1:], env=environment).returncode)
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
