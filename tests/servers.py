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
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = pathlib.Path(os.environ.get("SEALED_SESSION_TOOLS", ROOT / "target/tools"))


def free_port():
    """One that no connection of a client takes before the server has it, or while the server is down: those have ports from 32768 on."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


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


def descendants(pid):
    """The processes that this one has started, and those that they have."""
    parents = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            # The name, in parentheses, may have spaces.
            parents[int(stat.split("/")[2])] = int(pathlib.Path(stat).read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            pass
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


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
        # Some of what it started may be in groups of their own, and would go on for a moment.
        for process in descendants(self.process.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None:
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
    def __init__(self, durable=False, cluster=False, replica_of=None, host="127.0.0.1", timeout=2000, options=()):
        super().__init__()
        self.durable, self.bus = durable, free_port() if cluster else None
        self.replica_of, self.host, self.timeout, self.options = replica_of, host, timeout, list(options)

    def command(self):
        command = [program("redis-server"), "--port", str(self.port), "--bind", self.host, "--save", "",
                   "--dir", str(self.folder), "--daemonize", "no", "--repl-diskless-sync-delay", "0", *self.options]
        command += ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        if self.bus is not None:
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-config-file",
                        "nodes.conf", "--cluster-node-timeout", str(self.timeout), "--cluster-announce-ip", self.host,
                        "--cluster-require-full-coverage", "no"]
        if self.replica_of is not None:
            command += ["--replicaof", self.replica_of.host, str(self.replica_of.port)]
        return command

    def ask(self, *commands):
        """The answers to these, on one connection."""
        with socket.create_connection((self.host, self.port), timeout=20) as connection, connection.makefile("rb") as answers:
            for words in commands:
                parts = [word.encode() for word in words.split(" ")]
                connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            return [self.answer(answers) for _ in commands]

    def answer(self, answers):
        line = answers.readline().decode().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == "*":
            return [self.answer(answers) for _ in range(int(rest))]
        if kind == "$" and rest != "-1":
            return answers.read(int(rest) + 2)[:-2].decode()
        if kind not in ("+", ":", "$"):
            raise OSError(f"Redis answered {line!r}")
        return rest

    def cli(self, words):
        return self.ask(words)[0]

    def ready(self):
        try:
            return self.cli("ping") == "PONG"
        except OSError:
            return False

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"redis://{self.address}/"

    def keys(self):
        return set(self.cli("keys session:*"))

    def set(self, name, value):
        self.cli(f"config set {name} {value}")

    def info(self, name):
        """Of the section about replication; none of a server that is down."""
        try:
            lines = self.cli("info replication").split("\r\n")
        except OSError:
            return None
        return dict(line.split(":", 1) for line in lines if ":" in line).get(name)

    def replicated(self):
        """Waits until a replica has all that was written before this."""
        # WAIT asks for the last write of its own connection, so there has to be one: in a slot that the node has.
        tag = next(iter(self.keys()), "barrier")
        _, replicas = self.ask(f"set {{{tag}}}:barrier 1 px 60000", "wait 1 10000")
        assert replicas == "1", replicas


class RedisCluster:
    """Three masters, each with so many replicas."""

    def __init__(self, replicas=0, **options):
        self.replicas = replicas
        self.nodes = [Redis(cluster=True, **options) for _ in range(3 * (1 + replicas))]

    def start(self):
        for node in self.nodes:
            node.start()
        addresses = [node.address for node in self.nodes]
        command = [program("redis-cli"), "--cluster", "create", *addresses, "--cluster-replicas", str(self.replicas), "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        self.wait()
        return self

    def wait(self):
        """Until all of it is there, and the replicas have what their masters have."""
        deadline = time.monotonic() + 60
        while not self.whole():
            if time.monotonic() > deadline:
                sys.exit("the Redis cluster did not form")
            time.sleep(0.1)

    def whole(self):
        formed = all("cluster_state:ok" in node.cli("cluster info") for node in self.nodes)
        linked = [node for node in self.nodes if node.info("master_link_status") == "up"]
        return formed and len(linked) == 3 * self.replicas

    def masters(self):
        """What those that live say of themselves."""
        return [node for node in self.nodes if node.process.poll() is None and node.info("role") == "master"]

    def replica(self, master):
        return next(node for node in self.nodes if node.info("master_port") == str(master.port))

    def stop(self):
        for node in self.nodes:
            node.stop()

    @property
    def url(self):
        return "redis-cluster://" + ",".join(node.address for node in self.nodes)


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


class Certificates:
    """A folder with an authority, ca.pem, and what it has signed, for servers at 127.0.0.1 and for clients; and another authority."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sealed-session-tls-"))
        self.folder.chmod(0o755)
        atexit.register(self.stop)
        for name in ("ca", "other"):
            self.make(name, ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"])
        by_ca = ["-CA", str(self.folder / "ca.pem"), "-CAkey", str(self.folder / "ca.key")]
        self.make("server", ["basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"], by_ca)
        self.make("client", ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"], by_ca)

    def make(self, name, extensions, more=()):
        command = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN=test {name}", *more]
        command += [word for extension in extensions for word in ("-addext", extension)]
        made = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        if made.returncode != 0:
            sys.exit(f"openssl failed:\n{made.stderr}")

    def lend(self, folder):
        """Copies the server's into a database's folder, whose user alone may read the key."""
        for name in ("server.pem", "server.key"):
            path = folder / name
            shutil.copyfile(self.folder / name, path)
            path.chmod(0o600)
            if os.getuid() == 0:
                shutil.chown(path, "nobody", "nogroup")

    def stop(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    def __init__(self, durable=False, standby_of=None, host="127.0.0.1", tls=None):
        super().__init__()
        self.fsync, self.standby_of, self.host = "on" if durable else "off", standby_of, host
        self.tls = tls

    def start(self):
        data = self.folder / "data"
        if self.standby_of is not None and not data.exists():
            copy = [program("pg_basebackup"), "-D", str(data), "-R", "--no-sync", "-c", "fast", "-h", self.standby_of.host,
                    "-p", str(self.standby_of.port), "-U", "test"]
            subprocess.run(unprivileged(copy), check=True, timeout=60, cwd=self.folder)
        if not data.exists():
            initdb = [program("initdb"), "-D", str(data), "-U", "test", "-A", "trust", "-E", "UTF8",
                      "--locale=C", "--no-sync"]
            subprocess.run(unprivileged(initdb), check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=self.folder)
            # One role that has to know a password.
            access = self.folder / "data/pg_hba.conf"
            access.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + access.read_text())
            if self.host != "127.0.0.1":
                with open(data / "pg_hba.conf", "a") as allowed:
                    allowed.write("host all all samenet trust\n")
        if self.tls is not None:
            self.tls.lend(self.folder)
        return super().start()

    def command(self):
        command = [program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder),
                   "-h", self.host, "-c", f"fsync={self.fsync}", "-c", "max_connections=200"]
        if self.tls is not None:
            command += ["-c", "ssl=on", "-c", f"ssl_cert_file={self.folder}/server.pem", "-c", f"ssl_key_file={self.folder}/server.key"]
        return unprivileged(command)

    def client(self):
        return [program("psql"), "-h", self.host, "-p", str(self.port), "-U", "test", "-At", "postgres"]

    def ready(self):
        return answers([*self.client(), "-c", "select 1"])

    def ask(self, *statements):
        """What the last of them answers."""
        each = [word for statement in statements for word in ("-c", statement)]
        return subprocess.run([*self.client(), *each], check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    def set(self, name, value):
        self.ask(f"alter system set {name} = '{value}'", "select pg_reload_conf()")

    def promote(self):
        self.ask("select pg_promote(true, 20)")

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"postgres://test@{self.address}/postgres?sslmode=disable"


class MariaDb(Server):
    """Its temporary tables have to be in a folder of its own: one that starts removes those that it finds, also those of others."""

    def __init__(self, durable=False, tls=None):
        super().__init__()
        self.flush, self.tls = "1" if durable else "0", tls

    def start(self):
        if not (self.folder / "data").exists():
            install = [program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder}/data",
                       f"--tmpdir={self.folder}", "--auth-root-authentication-method=normal", "--skip-test-db",
                       "--skip-name-resolve"]
            with open(self.folder / "log", "ab") as log:
                done = subprocess.run(unprivileged(install), stdout=log, stderr=log, timeout=120, cwd=self.folder)
            if done.returncode != 0:
                sys.exit(f"{install[0]} failed:\n{(self.folder / 'log').read_text()[:3000]}")
        if self.tls is not None:
            self.tls.lend(self.folder)
        super().start()
        subprocess.run([*self.client(), "-e", "create database if not exists t"], check=True, timeout=20)
        return self

    def client(self):
        return [program("mariadb"), "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "root"]

    def command(self):
        command = [program("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data", f"--tmpdir={self.folder}",
                   f"--socket={self.folder}/s.sock", f"--pid-file={self.folder}/pid", f"--port={self.port}",
                   "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-buffer-pool-size=32M",
                   f"--innodb-flush-log-at-trx-commit={self.flush}", "--max-connections=200"]
        if self.tls is not None:
            command += [f"--ssl-cert={self.folder}/server.pem", f"--ssl-key={self.folder}/server.key"]
        return unprivileged(command)

    def ready(self):
        return answers([*self.client(), "-e", "select 1"])

    @property
    def url(self):
        return f"mysql://root@127.0.0.1:{self.port}/t?ssl-mode=DISABLED"


class Forwarder:
    """An address that leads to a server, and to another one after a failover."""

    def __init__(self, server):
        self.target, self.pairs, self.lock = server.address, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def url(self, server):
        """That server's, by way of this."""
        return server.url.replace(server.address, f"127.0.0.1:{self.port}")

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client, self.target), daemon=True).start()

    def serve(self, client, target):
        host, port = target.split(":")
        try:
            server = socket.create_connection((host, int(port)), timeout=5)
        except OSError:
            return client.close()
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.pairs.append((target, client, server))
        other = threading.Thread(target=self.pump, args=(server, client), daemon=True)
        other.start()
        self.pump(client, server)
        other.join()
        with self.lock:
            self.pairs.remove((target, client, server))
        client.close()
        server.close()

    @staticmethod
    def pump(source, sink):
        try:
            while part := source.recv(1 << 16):
                sink.sendall(part)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def lead_to(self, server, cut=True):
        """New connections go there; those to another server end, or stay where they are."""
        self.target = server.address
        with self.lock:
            others = [(client, end) for target, client, end in self.pairs if target != self.target] if cut else []
        for pair in others:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop(self):
        self.listener.close()


def main():
    tls = Certificates()
    servers = {"TEST_REDIS": Redis(), "TEST_REDIS_CLUSTER": RedisCluster(), "TEST_MONGODB": Mongo(),
               "TEST_POSTGRES": Postgres(tls=tls), "TEST_MYSQL": MariaDb(tls=tls)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for server in servers.values():
            server.start()
        environment = os.environ | {name: server.url for name, server in servers.items()}
        environment["TEST_TLS"] = str(tls.folder)
        sys.exit(subprocess.run(sys.argv[1:], env=environment).returncode)
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
