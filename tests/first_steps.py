#!/usr/bin/env python3
"""Does what the README says, in an empty folder, with its commands and its code: a login that survives a restart, on
actix-web and on axum.

usage: tests/first_steps.py
"""

import http.cookiejar
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
with socket.create_server(("127.0.0.1", 0)) as listener:
    PORT = listener.getsockname()[1]


def run(command, folder):
    subprocess.run(command, shell=True, check=True, cwd=folder, env=os.environ | {"CARGO_TARGET_DIR": str(ROOT / "target")})


def start(binary, folder):
    server = subprocess.Popen([binary], cwd=folder)
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            return server
        except OSError:
            if time.monotonic() > deadline or server.poll() is not None:
                server.kill()
                sys.exit("FAILED: the server does not start")
            time.sleep(0.02)


def follow(steps, code, calls):
    """Makes the application, and makes the calls; how many lines it has."""
    # Port 8080 may be taken.
    code, calls = code.replace("8080", str(PORT)), calls.replace("8080", str(PORT))
    lines = len(code.strip().splitlines())
    if lines > 30:
        sys.exit(f"FAILED: thirty lines are {lines}")

    with tempfile.TemporaryDirectory() as folder:
        for step in steps.splitlines():
            # From this folder instead of the registry, and with the versions that are tested.
            step = step.replace("cargo add sealed-session", f"cargo add sealed-session --path '{ROOT}'")
            at = folder if step.startswith("cargo new") else os.path.join(folder, "shop")
            run(step.replace("&& cd shop", "--quiet"), at)
        shop = os.path.join(folder, "shop")
        shutil.copy(ROOT / "Cargo.lock", shop)
        pathlib.Path(shop, "src/main.rs").write_text(code)
        run("cargo build --quiet", shop)
        binary = os.path.join(folder, "bin")
        shutil.copy(ROOT / "target/debug/shop", binary)
        tree = subprocess.run(["cargo", "tree", "--edges", "normal"], cwd=shop, check=True, capture_output=True, text=True).stdout
        if "axum" in steps and "actix" in tree:
            sys.exit("FAILED: an application on axum has a crate of actix")

        jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https")))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
        server = start(binary, shop)
        try:
            for call in re.findall(r"curl .*", calls):
                method = "POST" if "-X POST" in call else "GET"
                address, expected = re.search(r"(http://\S+)\s+# (.*?)(?:, and also.*)?$", call).groups()
                saw = opener.open(urllib.request.Request(address, method=method), timeout=10).read().decode()
                if saw != expected:
                    sys.exit(f"FAILED: {call}: saw {saw!r}")
            server.kill()
            server.wait()
            server = start(binary, shop)
            saw = opener.open(f"http://localhost:{PORT}/", timeout=10).read().decode()
            if saw != "visit 3 of ada":
                sys.exit(f"FAILED: after a restart: saw {saw!r}")
        finally:
            server.kill()
            server.wait()
        ignored = subprocess.run(["git", "status", "--porcelain"], cwd=shop, check=True, capture_output=True, text=True).stdout
        if "session.keys" in ignored or not os.path.exists(os.path.join(shop, "session.keys")):
            sys.exit("FAILED: git would take the keys")
    return lines


def main():
    section = README[README.index("## Thirty lines"):]
    blocks = re.findall(r"```(?:sh|rust,no_run)\n(.*?)```", section, re.S)
    calls = blocks[4]
    for framework, (steps, code) in [("actix-web", blocks[0:2]), ("axum", blocks[2:4])]:
        if framework not in section[: section.index(code)]:
            sys.exit(f"FAILED: there is nothing for {framework}")
        lines = follow(steps, code, calls)
        print(f"ok  the README on {framework}, in {lines} lines and an empty folder")


main()
