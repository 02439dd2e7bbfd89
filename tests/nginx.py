#!/usr/bin/env python3
"""Sends sessions of every size through an nginx with its default buffers, which answers 502 where a response head is
over 4 KB: those of the example `api`, and beside them those of actix-session's cookie store. Then through one that caches
whatever it may, so that a `Set-Cookie` which it should not have kept would come to somebody else.

usage: tests/nginx.py target/debug/examples/api target/peers/release/actix_session_server
"""

import json
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
    %(zone)s
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
    server {
        listen 127.0.0.1:%(port)d;
        location / { proxy_pass http://127.0.0.1:%(upstream)d; %(more)s }
    }
}
"""


class Nginx(servers.Server):
    """In front of one server, configured by nothing but where that is."""

    def __init__(self, upstream, zone="", more=""):
        super().__init__()
        values = {"folder": self.folder, "port": self.port, "upstream": upstream, "more": more}
        values["zone"] = zone.format(folder=self.folder)
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


# As careless as can be: it caches what has a Set-Cookie, unless it is told not to, and for all alike.
CAUTIONLESS = ("proxy_cache_path {folder}/cache keys_zone=all:1m;",
               "proxy_cache all; proxy_cache_valid any 1m; proxy_ignore_headers Set-Cookie; add_header X-Cache $upstream_cache_status;")


def cache(api):
    """No second client ever gets what was meant for the first."""
    proxy = Nginx(api.port, *CAUTIONLESS).start()
    address = type("Proxy", (), {"port": proxy.port})
    stores.NAME = "__Host-Http-session"

    def ask(path, cookie=None):
        browser = stores.Browser(address, cookie)
        status, content = browser.ask("GET", path)
        stores.check(path, status == 200, (status, content))
        return browser.cookie, content, browser.headers

    seen = [ask("/untouched")[2]["x-cache"] for _ in range(3)]
    stores.check("the cache works", seen[-1] == "HIT", seen)
    given = {}
    for path in ("/head?bytes=0", "/head?bytes=200", "/status/200?key=a&value=1", "/status/404?key=a&value=1"):
        for _ in range(5):
            browser = stores.Browser(address)
            browser.ask("GET", path)
            stores.check(f"{path}: a cookie of one's own", browser.cookie and browser.cookie not in given, path)
            given[browser.cookie] = path
    # And with a session: everybody sees their own, also behind what only reads.
    mine = [ask("/head?bytes=0")[0] for _ in range(3)]
    for n, cookie in enumerate(mine):
        for _ in range(n):
            cookie = ask("/head?bytes=0", cookie)[0]
        mine[n] = cookie
    for _ in range(2):
        for n, cookie in enumerate(mine):
            _, content, headers = ask("/session", cookie)
            stores.check("one's own session", json.loads(content)["entries"] == {"head": n + 1}, (n, content))
            stores.check("Vary", "Cookie" in headers.get("vary", ""), headers)
    proxy.stop()
    print(f"ok  a cache that ignores Set-Cookie: {len(given)} answers with a cookie, none given twice")


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
    cache(api)
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
