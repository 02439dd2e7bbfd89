#!/usr/bin/env python3
"""Sends sessions of every size through an nginx with its default buffers, which answers 502 where a response head is
over 4 KB: those of the example `api`, and beside them those of actix-session's cookie store.

usage: tests/nginx.py target/debug/examples/api target/peers/release/actix_session_server
"""

import pathlib
import subprocess
import sys
import tempfile

import servers
import stores

CONFIGURATION = """
daemon off;
pid %(folder)s/pid;
error_log %(folder)s/error.log;
events {}
http {
    access_log off;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
    server {
        listen 127.0.0.1:%(port)d;
        location / { proxy_pass http://127.0.0.1:%(upstream)d; }
    }
}
"""


class Nginx(servers.Server):
    """In front of one server, configured by nothing but where that is."""

    def __init__(self, upstream):
        super().__init__()
        values = {"folder": self.folder, "port": self.port, "upstream": upstream}
        (self.folder / "conf").write_text(CONFIGURATION % values)

    def command(self):
        return [servers.program("nginx"), "-e", str(self.folder / "error.log"), "-c", str(self.folder / "conf")]

    def ready(self):
        return servers.answers(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{self.port}/untouched"])


class Peer:
    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rstrip("/\n").rsplit(":", 1)[1])

    def stop(self):
        self.process.kill()
        self.process.wait()


def sizes():
    yield from range(1, 64)
    yield from range(64, 2048, 61)
    yield from range(2048, 4200, 7)
    yield from range(4200, 65536, 2999)
    yield 65536


def sweep(port, name):
    """How many payloads were written and read back equal, how many were answered 502, and how many were lost."""
    kept, bad_gateway, lost, statuses, largest = 0, [], 0, {}, 0
    stores.NAME = name
    proxy = type("Proxy", (), {"port": port})
    for size in sizes():
        browser = stores.Browser(proxy)
        status, _ = browser.ask("PUT", "/entries/payload", "x" * size)
        statuses[status] = statuses.get(status, 0) + 1
        if status == 502:
            bad_gateway.append(size)
            continue
        status, content = browser.ask("GET", "/entries/payload")
        if (status, content.decode().strip('"')) == (200, "x" * size):
            kept, largest = kept + 1, size
        else:
            lost += 1
    return kept, bad_gateway, lost, statuses, largest


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: tests/nginx.py target/debug/examples/api target/peers/release/actix_session_server")
    stores.binary = str(pathlib.Path(sys.argv[1]).resolve())
    api = stores.Api("memory", stores.new_key())
    proxy = Nginx(api.port).start()
    kept, bad_gateway, lost, statuses, _ = sweep(proxy.port, "__Host-Http-session")
    total = len(list(sizes()))
    stores.check("sealed-session: no 502, nothing lost", (kept, bad_gateway, lost) == (total, [], 0),
                 (kept, bad_gateway[:5], lost, statuses))

    # Whatever else stands in the head: the session gives way as long as it can.
    browser = stores.Browser(type("Proxy", (), {"port": proxy.port}))
    stores.NAME = "__Host-Http-session"
    for size in (100, 500, 1000, 1500, 2000, 2500, 3000):
        browser.cookie = None
        browser.put("payload", "y" * 1200)
        for others in range(100, 3300, 50):
            status, content = browser.ask("GET", f"/head?bytes={others}")
            stores.check(f"a head with {others} bytes of others", status == 200, (status, content[:100]))
        stores.check("the payload", browser.get("/entries/payload") == "y" * 1200)
    proxy.stop()
    api.stop()

    peer = Peer(sys.argv[2])
    proxy = Nginx(peer.port).start()
    peer_kept, peer_502, peer_lost, peer_statuses, peer_largest = sweep(proxy.port, "id")
    proxy.stop()
    peer.stop()
    stores.check("actix-session: some 502, or this test shows nothing", len(peer_502) > 0, peer_statuses)
    print(f"{total} payloads of 1 to 65,536 bytes through nginx as it comes: written, and read back equal")
    print(f"  sealed-session                    {kept:4}   502: 0")
    print(f"  actix-session 0.11, cookie store  {peer_kept:4}   502: {len(peer_502)} (from {min(peer_502)} bytes on), "
          f"500: {peer_statuses.get(500, 0)}, lost: {peer_lost}, largest kept: {peer_largest}")


if __name__ == "__main__":
    main()
