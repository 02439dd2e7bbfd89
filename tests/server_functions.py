#!/usr/bin/env python3
"""Builds and drives the server functions of leptos and dioxus in examples/server_functions.

usage: tests/server_functions.py

They bring 500 crates between them, some ten minutes on two cores, so scripts/test does not run this: it compiles what
both frameworks do with an extractor, without either (tests/it/axum_alone.rs).
"""

import http.client
import json
import pathlib
import subprocess
import sys
from urllib.parse import urlsplit

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples/server_functions"
TARGET = ROOT / "target/server-functions"
# How the framework's own client sends the argument.
SENDS = {
    "leptos": ("application/x-www-form-urlencoded", lambda count: f"count={count}"),
    "dioxus": ("application/json", lambda count: json.dumps({"count": count})),
}


def drive(framework):
    kind, body = SENDS[framework]
    manifest = EXAMPLES / framework / "Cargo.toml"
    command = ["--locked", "--manifest-path", manifest, "--target-dir", TARGET]
    subprocess.run(["cargo", "clippy", "--quiet", *command, "--", "-D", "warnings"], check=True)
    subprocess.run(["cargo", "build", "--quiet", *command], check=True)
    server = subprocess.Popen([TARGET / f"debug/server-function-{framework}"], stdout=subprocess.PIPE, text=True)
    try:
        address = urlsplit(server.stdout.readline().split()[-1])

        def add(count, cookie=None):
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
            headers = {"Content-Type": kind, "Accept": "application/json"}
            if cookie:
                headers["Cookie"] = cookie
            connection.request("POST", "/api/add", body(count), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                sys.exit(f"{framework}: {answer.status}: {text}")
            return json.loads(text), (answer.headers["set-cookie"] or "").split(";")[0]

        first, ada = add(2)
        second, ada = add(3, ada)
        other, _ = add(7)
        forged, _ = add(1, ada[:-4] + "AAAA")
        if (first, second, other, forged) != (2, 5, 7, 1):
            sys.exit(f"{framework}: answered {first}, {second}, {other}, {forged} instead of 2, 5, 7, 1")
        if not ada.startswith("__Host-Http-session="):
            sys.exit(f"{framework}: set {ada!r}")
        print(f"{framework}: a server function counts in the session of whoever calls it")
    finally:
        server.kill()


for name in SENDS:
    drive(name)
