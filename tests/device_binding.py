#!/usr/bin/env python3
"""Sessions that are bound to a device, from outside: by a device in software, over plain HTTP, and by real Chromium, over HTTPS.

usage: tests/device_binding.py target/debug/examples/api [target/debug/examples/api_axum]

Both are built with all features. Needs the Python environment that scripts/test makes, what tests/login.py needs, redis-server,
faketime, and openssl and certutil for a certificate that Chromium trusts. Its keys are in software, and its quota of signatures,
six in nine minutes, is off, so that one run has many proofs. Ends at the first thing that is not as it should be.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

import login
import servers
from failover import Clock
from login import Chromium, Failed, check, chromedriver, equal, until
from stores import LARGE, Api, new_key

COOKIE = "__Host-Http-session"
PATH = f"/device-binding/{COOKIE}"
ADA = {"subject": "ada"}
IDENTIFIER = "Sec-Secure-Session-Id"
RESPONSE = "Secure-Session-Response"
MINUTE = 60
REGISTRATION = "Secure-Session-Registration"
CHALLENGE = "Secure-Session-Challenge"

binary = tls = None
groups = []
scenarios = []


def group(f):
    groups.append(f)
    return f


@contextmanager
def api(store="none", keys=None, **settings):
    settings = {"DEVICE_BINDING": "offered", "LOG": "debug"} | {name: str(value) for name, value in settings.items()}
    server = Api(store, keys, [binary], **settings)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def clocked(**settings):
    """A server, and its clock, which can be set so many seconds ahead."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(folder, "clock")
        with api(**settings, **clock.environment) as server:
            yield server, clock


# A device.


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def json64(value):
    return b64(json.dumps(value, separators=(",", ":")).encode())


class Device:
    """A key that stays where it is, and what is signed by it."""

    def __init__(self, curve=ec.SECP256R1()):
        self.key = ec.generate_private_key(curve)
        numbers, self.size = self.key.public_key().public_numbers(), (curve.key_size + 7) // 8
        x, y = (b64(number.to_bytes(self.size, "big")) for number in (numbers.x, numbers.y))
        self.jwk = {"crv": {256: "P-256", 384: "P-384"}[curve.key_size], "kty": "EC", "x": x, "y": y}

    def der(self, data):
        return self.key.sign(data, ec.ECDSA(SHA256()))

    def raw(self, data):
        return b"".join(number.to_bytes(self.size, "big") for number in decode_dss_signature(self.der(data)))

    def jws(self, header, payload, sign=None):
        """Of a header and a payload that are JSON, or bytes that are not."""
        parts = [b64(part) if isinstance(part, bytes) else json64(part) for part in (header, payload)]
        text = ".".join(parts)
        return f"{text}.{b64((sign or self.raw)(text.encode()))}"

    def registration(self, challenge, **changes):
        header = {"alg": "ES256", "jwk": self.jwk, "typ": "dbsc+jwt"} | changes
        return self.jws({name: value for name, value in header.items() if value is not None}, {"jti": challenge})

    def proof(self, challenge, **changes):
        return self.registration(challenge, **({"jwk": None} | changes))


class Reply:
    def __init__(self, answer):
        self.status, self.body, self.headers = answer.status, answer.read(), answer.getheaders()
        self.set = {}
        for line in self.all("set-cookie"):
            pair, *attributes = line.split("; ")
            name, value = pair.split("=", 1)
            self.set[name] = (value, attributes)

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name):
        found = self.all(name)
        check(f"there is one {name}", len(found) == 1, found)
        return found[0]

    def json(self):
        return json.loads(self.body)

    def challenge(self):
        """The challenge, and the identifier of the session that it is for."""
        found = re.fullmatch(r'"([^"\\]+)";id="([^"\\]+)"', self.one(CHALLENGE))
        check("a challenge names its session", found, self.headers)
        return found[1], found[2]

    def offer(self):
        """The challenge of an offer to register."""
        found = re.fullmatch(rf'\(ES256\);path="{re.escape(PATH)}";challenge="([^"\\]+)"', self.one(REGISTRATION))
        check("an offer says where, with which algorithm, and to what challenge", found, self.headers)
        return found[1]

    def removed(self):
        """The names of the cookies that it removes."""
        return sorted(name for name, (value, attributes) in self.set.items() if "Max-Age=0" in attributes and not value)


class Client:
    """Keeps cookies as a browser does, over whatever it is asked."""

    def __init__(self, server, cookies=None):
        self.server, self.cookies = server, dict(cookies or {})

    def with_cookies(self, **changes):
        """The same with other cookies; none where the change says so."""
        cookies = self.cookies | changes
        return type(self)(self.server, {name: value for name, value in cookies.items() if value is not None})

    def ask(self, method, path, body=None, *headers):
        address = ("127.0.0.1", self.server.port)
        if certificate := self.server.settings.get("TLS_CERT"):
            connection = http.client.HTTPSConnection(*address, timeout=20, context=ssl.create_default_context(cafile=certificate))
        else:
            connection = http.client.HTTPConnection(*address, timeout=20)
        connection.putrequest(method, path)
        if self.cookies:
            connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        for name, value in headers:
            connection.putheader(name, value)
        content = b"" if body is None else json.dumps(body).encode()
        if content or method == "POST":
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content or None)
        reply = Reply(connection.getresponse())
        connection.close()
        for name, (value, attributes) in reply.set.items():
            self.cookies.pop(name, None)
            if "Max-Age=0" not in attributes:
                self.cookies[name] = value
        return reply

    def done(self, method, path, body=None):
        reply = self.ask(method, path, body)
        equal(f"{method} {path}", reply.status, 204)
        return reply

    def session(self):
        return self.ask("GET", "/session").json()


class Bound(Client):
    """A user who has logged in, on a device; with the register of what the server said."""

    device = identifier = challenge = proof_name = None

    def log_in(self, subject="ada"):
        return self.done("POST", "/authenticate", {"subject": subject}).offer()

    def register(self, device=None, subject="ada", heal=True):
        self.device = device or Device()
        reply = self.ask("POST", PATH, None, (RESPONSE, self.device.registration(self.log_in(subject))))
        self.accepted("the registration", reply)
        if heal:
            self.ask("GET", "/session")
        return self

    def accepted(self, what, reply):
        equal(f"{what}: status", reply.status, 200)
        said = reply.json()
        [credential] = said["credentials"]
        self.proof_name, self.identifier = credential["name"], said["session_identifier"]
        equal(f"{what}: the proof's cookie alone is set", list(reply.set), [self.proof_name])
        self.challenge, of = reply.challenge()
        equal(f"{what}: the challenge is for the session", of, self.identifier)
        return said

    def refresh(self, *headers, path=PATH):
        return self.ask("POST", path, None, (IDENTIFIER, self.identifier), *headers)

    def refreshed(self, what="a refresh"):
        reply = self.refresh((RESPONSE, self.device.proof(self.challenge)))
        self.accepted(what, reply)
        return reply

    @property
    def proof(self):
        return self.cookies.get(self.proof_name)

    def without_proof(self):
        other = self.with_cookies(**{self.proof_name: None})
        other.__dict__.update({name: value for name, value in self.__dict__.items() if name not in ("cookies", "server")})
        return other

    def with_proof(self, value):
        other = self.without_proof()
        other.cookies[self.proof_name] = value
        return other

    def state(self):
        session = self.session()
        return session["subject"], session["device"]


def reasons(server):
    """Why the server refused devices, as its log has it."""
    return re.findall(r"event=\"?device_refused\"?.*?reason=\"?([\w-]+)", server.log())


def refused(what, server, reply, before, reason):
    """An empty 403 that changes nothing, and whose reason is the log's alone."""
    equal(f"{what}: status and body", (reply.status, reply.body), (403, b""))
    equal(f"{what}: sets no cookie", reply.set, {})
    equal(f"{what}: the log says why", until(f"{what}: it is in the log", lambda: reasons(server)[before:]), [reason])


# What is wrong with a proof, for both kinds: its name, how it is made of a challenge, and the log's reason. `own` is what the
# kind of proof makes of a challenge, with changes of the header.


def flawed(device, own, jwk):
    header = {"alg": "ES256", "typ": "dbsc+jwt"} | ({"jwk": device.jwk} if jwk else {})
    symmetric = lambda data: hashlib.sha256(data).digest()
    lone = rsa.generate_private_key(65537, 2048)
    twice = lambda jti: json.dumps({"jti": jti})[:-1].encode() + b', "jti": "x"}'
    return [
        ("a made-up challenge", lambda c: own("x" * len(c)), "challenge"),
        ("no challenge", lambda c: own(""), "challenge"),
        ("a challenge with its last letter changed", lambda c: own(c[:-1] + ("A" if c[-1] != "A" else "B")), "challenge"),
        ("a challenge with its first letter changed", lambda c: own(("A" if c[0] != "A" else "B") + c[1:]), "challenge"),
        ("a challenge cut short", lambda c: own(c[:-4]), "challenge"),
        ("a challenge and more", lambda c: own(c + "AAAA"), "challenge"),
        ("alg none, unsigned", lambda c: device.jws(header | {"alg": "none"}, {"jti": c}, lambda _: b""), "algorithm"),
        ("alg none, signed", lambda c: own(c, alg="none"), "algorithm"),
        ("alg None", lambda c: own(c, alg="None"), "algorithm"),
        ("alg es256", lambda c: own(c, alg="es256"), "algorithm"),
        ("alg ES384", lambda c: own(c, alg="ES384"), "algorithm"),
        ("alg HS256", lambda c: device.jws(header | {"alg": "HS256"}, {"jti": c}, symmetric), "algorithm"),
        ("alg RS256", lambda c: device.jws(header | {"alg": "RS256"}, {"jti": c}, lambda data: lone.sign(data, PKCS1v15(), SHA256())), "algorithm"),
        ("no alg", lambda c: own(c, alg=None), "malformed"),
        ("typ JWT", lambda c: own(c, typ="JWT"), "malformed"),
        ("no typ", lambda c: own(c, typ=None), "malformed"),
        ("a critical extension", lambda c: own(c, crit=["exp"]), "malformed"),
        ("a signature in DER", lambda c: device.jws(header, {"jti": c}, device.der), "signature"),
        ("no signature", lambda c: own(c).rpartition(".")[0] + ".", "signature"),
        ("a signature of zeros", lambda c: device.jws(header, {"jti": c}, lambda _: bytes(64)), "signature"),
        ("a signature cut short", lambda c: device.jws(header, {"jti": c}, lambda data: device.raw(data)[:63]), "signature"),
        ("a signature and more", lambda c: device.jws(header, {"jti": c}, lambda data: device.raw(data) + b"\0"), "signature"),
        ("another payload's signature", lambda c: own(c).rpartition(".")[0] + "." + own(c + "x").rpartition(".")[2], "signature"),
        ("another key's signature", lambda c: Device().jws(header, {"jti": c}), "signature"),
        ("a payload that is no JSON", lambda c: device.jws(header, c.encode()), "malformed"),
        ("a payload without a challenge", lambda c: device.jws(header, {"sub": c}), "malformed"),
        ("a challenge that is a number", lambda c: device.jws(header, {"jti": 1}), "malformed"),
        ("two challenges", lambda c: device.jws(header, twice(c)), "malformed"),
        ("a header that is no JSON", lambda c: device.jws(b"ES256", {"jti": c}), "malformed"),
        ("a header that is no object", lambda c: device.jws([header], {"jti": c}), "malformed"),
        ("two parts", lambda c: own(c).rpartition(".")[0], "malformed"),
        ("four parts", lambda c: own(c) + ".AAAA", "malformed"),
        ("padding", lambda c: own(c) + "==", "malformed"),
        ("base64 of the other alphabet", lambda c: ".".join([own(c).rpartition(".")[0], "+/" * 43]), "malformed"),
        ("nothing", lambda _: "", "malformed"),
        ("no JWS", lambda _: "x", "malformed"),
        ("one of 10 kB", lambda c: own(c, pad="x" * 10_000), "too_long"),
    ]


# Off.


@group
def off_it_is_not_there():
    keys = new_key()
    with api(keys=keys) as server:
        bound = Bound(server).register()
    with api(keys=keys, DEVICE_BINDING="off") as server:
        client = Client(server)
        reply = client.done("POST", "/authenticate", ADA)
        equal("no offer", reply.all(REGISTRATION), [])
        for method in ("GET", "POST"):
            reply = client.ask(method, PATH, None, (RESPONSE, Device().registration("x")))
            equal(f"{method}: the application's own answer", (reply.status, reply.set), (404, {}))
            check("without a challenge", not reply.all(CHALLENGE), reply.headers)
        equal("the session has no device", client.session()["device"], "none")
        equal("nobody was refused", reasons(server), [])
        bound.server = server
        equal("a session that was bound goes on without a proof", bound.without_proof().session()["subject"], "ada")
    with api(keys=keys) as server:
        bound.server = server
        equal("and needs one again later", (bound.state(), bound.without_proof().state()), (("ada", "bound"), (None, "none")))


# Registration.


@group
def a_login_offers_and_nothing_else():
    with api() as server:
        client = Client(server)
        silent = lambda what, reply: check(f"{what} offers nothing", not reply.all(REGISTRATION) and not reply.all(CHALLENGE), reply.headers)
        silent("a first request", client.ask("GET", "/session"))
        silent("a session of nobody", client.done("PUT", "/entries/x", 1))
        silent("a subject that was not authenticated", client.done("POST", "/subject", ADA))
        reply = client.done("POST", "/authenticate", ADA)
        reply.offer()
        equal("beside the session's cookie", list(reply.set), [COOKIE])
        for method, path in [("GET", "/session"), ("GET", "/untouched"), ("PUT", "/entries/x"), ("POST", "/renew"), ("POST", "/touch")]:
            silent(f"{method} {path}", client.ask(method, path, 1 if method == "PUT" else None))
        check("another login offers anew", client.done("POST", "/authenticate", ADA).offer() != reply.offer())
        silent("a logout", client.done("POST", "/destroy"))


@group
def a_device_registers():
    for store, placement in [("none", "cookie"), ("memory", "cookie"), ("memory", "store")]:
        with api(store) as server:
            client = Bound(server)
            if placement == "store":
                client.done("PUT", "/entries/large", LARGE)
            client.device, challenge = Device(), client.log_in()
            equal("before", client.state(), ("ada", "none"))
            foreign = Bound(server).register()
            lent = client.with_cookies(**{foreign.proof_name: foreign.proof})
            equal("another session's proof binds nothing", lent.state(), ("ada", "none"))
            equal("where it is", client.session()["placement"], placement)
            cookie = client.cookies[COOKIE]
            response = client.device.registration(challenge)
            reply = client.ask("POST", PATH, None, (RESPONSE, response))
            said = client.accepted("the registration", reply)
            equal("as JSON", reply.one("content-type").partition(";")[0], "application/json")
            check("that no cache keeps", "no-store" in reply.one("cache-control"), reply.headers)
            equal("the path of the refresh", said["refresh_url"], PATH)
            equal("this origin alone", said["scope"]["include_site"], False)
            equal("the credential is a cookie", said["credentials"][0]["type"], "cookie")
            # Chromium takes no credential of this prefix.
            check("its name", client.proof_name.startswith("__Host-") and not client.proof_name.startswith("__Host-Http-"), client.proof_name)
            attributes = reply.set[client.proof_name][1]
            comparable = sorted(one for one in attributes if not one.startswith(("Max-Age", "Expires")))
            equal("its attributes", comparable, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"])
            equal("are those that the JSON has", sorted(said["credentials"][0]["attributes"].split("; ")), comparable)
            check("it ends a minute before the proof", "Max-Age=540" in attributes, attributes)
            check("the identifier is not the session's", client.session()["id"] not in reply.body.decode())
            check("nor is it in the challenge", client.session()["id"] not in reply.one(CHALLENGE))

            reply = client.with_cookies(**{COOKIE: cookie}).ask("GET", "/session")
            equal("the next request writes the key into the session's cookie", list(reply.set), [COOKIE])
            equal("and is bound", (reply.json()["subject"], reply.json()["device"]), ("ada", "bound"))
            client.ask("GET", "/session")
            equal("once", client.ask("GET", "/session").set, {})
            equal("with it alone nobody is in", client.without_proof().state()[0], None)
            equal("a second login of the same", client.done("POST", "/authenticate", ADA).all(REGISTRATION), [])
            equal("is still bound", client.state(), ("ada", "bound"))

    with api() as server:
        quoted = Bound(server)
        quoted.device = Device()
        response = quoted.device.registration(quoted.log_in())
        quoted.accepted("in quotes", quoted.ask("POST", PATH, None, (RESPONSE, f'"{response}"')))
        equal("also bound", quoted.state(), ("ada", "bound"))
        again = quoted.device.registration(quoted.done("POST", "/authenticate", {"subject": "bob"}).offer())
        equal("another subject is not", quoted.state(), ("bob", "none"))
        quoted.accepted("but may be", quoted.ask("POST", PATH, None, (RESPONSE, again)))
        equal("by the same device", quoted.state(), ("bob", "bound"))


@group
def a_registration_is_refused():
    with api() as server:
        client, device = Bound(server), Device()
        challenge = client.log_in()
        other = Bound(server)
        other_challenge = other.log_in()
        stranger = Client(server)
        stranger.done("PUT", "/entries/x", 1)
        subject = Client(server)
        subject.done("POST", "/subject", ADA)
        own = lambda challenge, **changes: device.registration(challenge, **changes)

        def attempt(what, who, response, reason):
            before = len(reasons(server))
            headers = [(RESPONSE, one) for one in (response if isinstance(response, list) else [response])]
            refused(f"registration, {what}", server, who.ask("POST", PATH, None, *headers), before, reason)

        response = own(challenge)
        attempt("a session of nobody", stranger, response, "not_offered")
        attempt("a session whose subject was not authenticated", subject, response, "not_offered")
        attempt("another's session", other, response, "other_session")
        attempt("another's challenge", client, own(other_challenge), "other_session")
        attempt("a session that is none", client.with_cookies(**{COOKIE: client.cookies[COOKIE][:-2]}), response, "no_session")
        attempt("no response", client, [], "missing")
        attempt("two responses", client, [response, response], "duplicate")
        attempt("two in one", client, f"{response}, {response}", "malformed")
        for what, make, reason in flawed(device, own, jwk=True):
            attempt(what, client, make(challenge), reason)
        zero = b64(bytes(32))
        keys = [
            ("no key", None),
            ("a key of another curve", Device(ec.SECP384R1()).jwk),
            ("a key that says it is of another curve", device.jwk | {"crv": "P-384"}),
            ("a key of another kind", device.jwk | {"kty": "OKP"}),
            ("a point that is none", device.jwk | {"x": zero, "y": zero}),
            ("a point off the curve", device.jwk | {"y": device.jwk["x"]}),
            ("a coordinate cut short", device.jwk | {"x": device.jwk["x"][:-4]}),
            ("a coordinate that is too long", device.jwk | {"x": "AAAA" + device.jwk["x"]}),
        ]
        for what, jwk in keys:
            attempt(what, client, own(challenge, jwk=jwk), "key")
        no_keys = [
            ("a symmetric key", {"kty": "oct", "k": zero}),
            ("half a key", {name: value for name, value in device.jwk.items() if name != "y"}),
            ("a key that is text", json.dumps(device.jwk)),
        ]
        for what, jwk in no_keys:
            attempt(what, client, own(challenge, jwk=jwk), "malformed")
        attempt("another's key", client, own(challenge, jwk=Device().jwk), "signature")
        for method in ("GET", "PUT", "DELETE"):
            reply = client.ask(method, PATH, None, (RESPONSE, response))
            check(f"{method} registers nothing", reply.status >= 400 and not reply.set, (reply.status, reply.set))
        equal("after all of them", client.state(), ("ada", "none"))
        client.device = device
        client.accepted("the true one", client.ask("POST", PATH, None, (RESPONSE, response)))
        equal("is taken", client.state(), ("ada", "bound"))
        # Without the session's cookie a challenge is enough, and what comes of it changes no session that is bound.
        thief = Bound(server)
        thief.accepted("another device, without a cookie", thief.ask("POST", PATH, None, (RESPONSE, Device().registration(challenge))))
        equal("has nothing of it", client.with_proof(thief.proof).state(), (None, "none"))
        equal("nor alone", thief.state(), (None, "none"))
        attempt("another device for a bound session", client, Device().registration(challenge), "bound")
        equal("the first remains", client.state(), ("ada", "bound"))
        offered = Bound(server)
        offered.log_in()
        attempt("the challenge of a refresh", offered, own(client.challenge), "challenge")


# The proof.


@group
def without_a_proof_nobody_is_in():
    with api() as server:
        client = Bound(server).register()
        client.done("PUT", "/entries/x", 1)
        session, proof = client.cookies[COOKIE], client.proof
        another = Bound(server).register(subject="bob")
        flipped = proof[:-3] + ("A" if proof[-3] != "A" else "B") + proof[-2:]
        thieves = [("none", None), ("one that is none", "x"), ("an empty one", ""), ("one that was changed", flipped),
                   ("one cut short", proof[:-2]), ("another's", another.proof), ("the session's own cookie", session)]
        requests = [("GET", "/session", None), ("GET", "/untouched", None), ("PUT", "/entries/x", 2), ("POST", "/renew", None),
                    ("POST", "/touch", None), ("POST", "/clear", None), ("POST", "/destroy", None), ("POST", "/persistent", {"on": True}),
                    ("POST", "/entries/n/increment", None), ("POST", "/subject", ADA)]
        for what, value in thieves:
            for method, path, body in requests:
                thief = client.without_proof() if value is None else client.with_proof(value)
                reply = thief.ask(method, path, body)
                told = f"proof: {what}, {method} {path}"
                check(f"{told}: is answered", reply.status in (200, 204), reply.status)
                if path == "/destroy":
                    equal(f"{told}: this browser forgets both", reply.removed(), sorted([COOKIE, client.proof_name]))
                    equal(f"{told}: and has nothing left to prove", reply.all(CHALLENGE), [])
                    continue
                check(f"{told}: nothing of the session's cookie", COOKIE not in reply.set, reply.set)
                if path == "/untouched":
                    continue
                equal(f"{told}: removes the proof alone", reply.removed(), [client.proof_name])
                equal(f"{told}: with a challenge", reply.challenge()[1], client.identifier)
                if path == "/session":
                    seen = reply.json()
                    equal(f"{told}: says why", (seen["origin"], seen["rejection"]), ("rejected", "unproven"))
                    equal(f"{told}: and nothing else", (seen["subject"], seen["entries"], seen["device"]), (None, {}, "none"))
        equal("with it all is as it was", (client.state(), client.session()["entries"]), (("ada", "bound"), {"x": 1}))

        thief = client.without_proof()
        reply = thief.done("POST", "/authenticate", {"subject": "eve"})
        reply.offer()
        check("a login without it makes a new session", COOKIE in reply.set and thief.state() == ("eve", "none"), reply.set)
        equal("which takes nothing along", thief.session()["entries"], {})
        equal("and does not harm the first", client.state(), ("ada", "bound"))


@group
def a_refresh():
    with api() as server:
        client = Bound(server).register()
        first = client.proof
        reply = client.refresh()
        equal("without a proof", (reply.status, reply.body, reply.set), (403, b"", {}))
        challenge, of = reply.challenge()
        equal("there is a challenge", (of, challenge != client.challenge), (client.identifier, True))
        said = client.accepted("to it", client.refresh((RESPONSE, client.device.proof(challenge))))
        equal("the same path", said["refresh_url"], PATH)
        check("another proof", client.proof != first)
        equal("the former one is good while it lives", client.with_proof(first).state(), ("ada", "bound"))
        equal("so is the new one", client.state(), ("ada", "bound"))
        client.accepted("the same challenge once more", client.refresh((RESPONSE, client.device.proof(challenge))))
        client.accepted("in quotes", client.ask("POST", PATH, None, (IDENTIFIER, f'"{client.identifier}"'),
                                                (RESPONSE, f'"{client.device.proof(client.challenge)}"')))
        client.accepted("without a former proof", client.without_proof().refresh((RESPONSE, client.device.proof(client.challenge))))
        early = Bound(server).register(heal=False)
        early.refreshed("before the key is in the session's cookie")
        early.accepted("and without a proof", early.without_proof().refresh((RESPONSE, early.device.proof(early.challenge))))
        equal("which gets it later", early.state(), ("ada", "bound"))


@group
def a_refresh_is_refused():
    with api() as server:
        client = Bound(server)
        client.device = Device()
        offer = client.log_in()
        client.accepted("the registration", client.ask("POST", PATH, None, (RESPONSE, client.device.registration(offer))))
        client.ask("GET", "/session")
        other = Bound(server).register()
        own = client.device.proof
        identifier = (IDENTIFIER, client.identifier)

        def attempt(what, headers, reason, challenged=True):
            before = len(reasons(server))
            reply = client.ask("POST", PATH, None, *headers)
            refused(f"refresh, {what}", server, reply, before, reason)
            if challenged:
                challenge, of = reply.challenge()
                equal(f"refresh, {what}: a fresh challenge", (of, challenge != client.challenge), (client.identifier, True))
            else:
                equal(f"refresh, {what}: no challenge", reply.all(CHALLENGE), [])

        with_proof = lambda what, response, reason: attempt(what, [identifier, (RESPONSE, response)], reason)
        with_proof("another's challenge", own(other.challenge), "other_session")
        with_proof("the registration's challenge", own(offer), "challenge")
        with_proof("a key in it", own(client.challenge, jwk=client.device.jwk), "key")
        with_proof("the registration's proof", client.device.registration(offer), "key")
        with_proof("another device", other.device.proof(client.challenge), "signature")
        for what, make, reason in flawed(client.device, own, jwk=False):
            with_proof(what, make(client.challenge), reason)
        response = (RESPONSE, own(client.challenge))
        attempt("two responses", [identifier, response, response], "duplicate")
        # Without a challenge the browser gives its session up, which is what somebody else's is to be.
        attempt("two identifiers", [identifier, identifier, response], "duplicate", challenged=False)
        attempt("another's identifier", [(IDENTIFIER, other.identifier), response], "other_key", challenged=False)
        attempt("an identifier that is none", [(IDENTIFIER, "x"), response], "other_key", challenged=False)
        client.refreshed("the true one")
        equal("is taken", client.state(), ("ada", "bound"))


@group
def proofs_and_challenges_end():
    with clocked() as (server, clock):
        client, late = Bound(server).register(), Bound(server)
        offer, late.device = late.log_in(), Device()
        first = client.proof
        clock.set(9 * MINUTE)
        equal("while the proof lives", client.with_cookies().state(), ("ada", "bound"))
        clock.set(11 * MINUTE)
        equal("after its end", client.with_cookies().state(), (None, "none"))
        # The browser comes back before its challenge is over.
        clock.set(14 * MINUTE)
        response = client.device.proof(client.challenge)
        client.accepted("the first challenge", client.refresh((RESPONSE, response)))
        check("a new proof", client.proof != first)
        equal("and all is well", client.state(), ("ada", "bound"))
        equal("but not with the former", client.with_proof(first).state(), (None, "none"))
        clock.set(16 * MINUTE)
        before = len(reasons(server))
        reply = client.refresh((RESPONSE, response))
        refused("a challenge that is over", server, reply, before, "challenge_expired")
        fresh = reply.challenge()[0]
        client.accepted("a fresh one", client.refresh((RESPONSE, client.device.proof(fresh))))
        before = len(reasons(server))
        reply = late.ask("POST", PATH, None, (RESPONSE, late.device.registration(offer)))
        refused("an offer that is over", server, reply, before, "challenge_expired")
        again = late.device.registration(late.log_in())
        late.accepted("a new offer", late.ask("POST", PATH, None, (RESPONSE, again)))
        equal("binds", late.state(), ("ada", "bound"))


def ended(what, client, reply):
    equal(f"{what}: status", reply.status, 200)
    equal(f"{what}: the browser is to forget it", reply.json(), {"session_identifier": client.identifier, "continue": False})
    equal(f"{what}: the proof is removed", reply.removed(), [client.proof_name])
    equal(f"{what}: and nothing else", list(reply.set), [client.proof_name])


def cannot_tell(what, client):
    """No answer that would end a session which may be there."""
    for headers in ([], [(RESPONSE, client.device.proof(client.challenge))]):
        reply = client.refresh(*headers)
        equal(f"{what}: status and cookies", (reply.status, reply.set), (503, {}))


@group
def a_session_that_is_over():
    with api("memory", REVOCATION="every-request") as server:
        client = Bound(server).register()
        proof = lambda: (RESPONSE, client.device.proof(client.challenge))
        absent = client.with_cookies(**{COOKIE: None})
        ended("no session", client, Client(server, absent.cookies).ask("POST", PATH, None, (IDENTIFIER, client.identifier), proof()))
        held = dict(client.cookies)
        reply = client.done("POST", "/destroy")
        equal("a logout removes both cookies", reply.removed(), sorted([COOKIE, client.proof_name]))
        for headers in ([], [proof()]):
            client.cookies = dict(held)
            ended("after a logout", client, client.refresh(*headers))
        client = Bound(server).register()
        client.done("POST", "/revoke", {"id": client.session()["id"]})
        ended("revoked", client, client.refresh(proof()))
        client = Bound(server).register()
        client.done("POST", "/revoke", ADA)
        ended("its subject revoked", client, client.refresh(proof()))
    with clocked(DURATION_MS=14 * MINUTE * 1000, ACTIVE_MS=0) as (server, clock):
        client = Bound(server).register()
        clock.set(14 * MINUTE + 1)
        ended("expired", client, client.refresh(proof()))
    with api() as server:
        client = Bound(server).register()
        client.done("POST", "/authenticate", {"subject": "bob"})
        equal("another subject's session is not told of it", (client.refresh(proof()).status, client.state()), (503, ("bob", "none")))


@group
def what_cannot_be_told():
    with api() as server:
        client = Bound(server).register()
        value = client.cookies[COOKIE]
        client.cookies[COOKIE] = value[:-3] + ("A" if value[-3] != "A" else "B") + value[-2:]
        cannot_tell("a tampered cookie", client)
        client.cookies[COOKIE] = value
        with api() as elsewhere:
            client.server = elsewhere
            cannot_tell("an unknown key", client)
        client.server = server
        client.refreshed("where it is known")
    redis = servers.Redis(durable=True).start()
    try:
        with api(redis.url, REVOCATION="every-request", REVOCATION_FAILURE="closed", STORE_TIMEOUT_MS=500) as server:
            client = Bound(server).register()
            redis.kill()
            cannot_tell("the store is down", client)
            redis.start()
            until("it comes back", lambda: client.refresh((RESPONSE, client.device.proof(client.challenge))).status == 200, pause=0.2)
            equal("and nothing is lost", client.state(), ("ada", "bound"))
    finally:
        redis.stop()


@group
def a_copy_from_before_with_a_store():
    """Two nodes over Redis, of which the second hears within a second what the first has done."""
    redis = servers.Redis(durable=False).start()
    keys = new_key()
    setting = dict(keys=keys, REVOCATION=1000)
    try:
        with api(redis.url, **setting) as server, api(redis.url, **setting) as node:
            for stored in (False, True):
                owner = Bound(server).register(heal=False)
                if stored:
                    # By a request that left before there was a proof.
                    unbound = owner.without_proof()
                    unbound.done("PUT", "/entries/large", LARGE)
                    owner.cookies[COOKIE] = unbound.cookies[COOKIE]
                before = owner.without_proof()
                there = before.with_cookies()
                there.server = node
                equal("the copy is the session, as long as it is not bound", there.session()["subject"], "ada")
                equal("it is bound", owner.state(), ("ada", "bound"))
                thief = before.with_cookies()
                equal("here the copy is nobody's at once", thief.session()["rejection"], "unproven")
                thief.done("POST", "/destroy")
                until("and soon elsewhere", lambda: there.session()["rejection"] == "unproven", pause=0.1)
                there.done("POST", "/renew")
                mine = owner.with_cookies()
                mine.server = node
                equal("the owner goes on here", owner.session()["subject"], "ada")
                equal("and there", mine.session()["subject"], "ada")
                equal("with what is theirs", sorted(mine.session()["entries"]), ["large"] if stored else [])
                # The browser has lost its key: the login ends what nobody could use any more.
                lost = owner.without_proof()
                lost.log_in()
                equal("a new session", (lost.session()["subject"], lost.session()["entries"]), ("ada", {}))
                equal("and the former is over", owner.session()["rejection"], "revoked")
    finally:
        redis.stop()


@group
def a_proof_outlives_changes():
    old, new = new_key(), new_key()
    with api(keys=old) as server:
        client = Bound(server).register()
        client.done("POST", "/renew")
        equal("renewed", client.state(), ("ada", "bound"))
        client.refreshed("after it")
        proof, challenge = client.proof, client.challenge
    with api(keys=f"{new},{old}") as server:
        client.server = server
        equal("under a new key", client.state(), ("ada", "bound"))
        equal("with the former proof", client.proof, proof)
        client.accepted("a challenge from before", client.refresh((RESPONSE, client.device.proof(challenge))))
    with api(keys=new) as server:
        client.server = server
        client.refreshed("the former key gone")
        equal("it goes on", client.state(), ("ada", "bound"))


@group
def required():
    keys = new_key()
    with api(keys=keys, DEVICE_BINDING="off") as server:
        former = Bound(server)
        former.done("POST", "/authenticate", ADA)
    with clocked(keys=keys, DEVICE_BINDING="required") as (server, clock):
        former.server = server
        slow, client, anonymous = Bound(server), Bound(server).register(), Client(server)
        slow.log_in()
        anonymous.done("PUT", "/entries/x", 1)
        equal("with a device", client.state(), ("ada", "bound"))
        equal("not without", client.without_proof().state(), (None, "none"))
        clock.set(14 * MINUTE)
        slow.done("PUT", "/entries/x", 1)
        slow.done("POST", "/renew")
        equal("for a quarter of an hour it does without", slow.state(), ("ada", "none"))
        client.refreshed()
        clock.set(15 * MINUTE + 1)
        reply = slow.ask("GET", "/session")
        seen = reply.json()
        equal("and not longer", (seen["rejection"], seen["subject"], seen["entries"]), ("unproven", None, {}))
        equal("there is no key to prove", (reply.all(CHALLENGE), reply.removed()), ([], [client.proof_name]))
        equal("the bound one goes on", client.state(), ("ada", "bound"))
        equal("whom nobody asked to log in as well", anonymous.session()["entries"], {"x": 1})
        equal("and who was in before", former.state(), ("ada", "none"))
        slow.log_in()
        equal("a login begins anew", slow.state(), ("ada", "none"))


# Chromium.


FEATURES = "DeviceBoundSessions:RefreshQuota/false,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"
HOST = "localhost"


def certificate(folder):
    """A certificate and its key, and a home whose Chromium trusts it. One whose errors are ignored would bind nothing."""
    key, certificate, home = (os.path.join(folder, name) for name in ("key.pem", "certificate.pem", "home"))
    store = f"sql:{home}/.pki/nssdb"
    os.makedirs(store.removeprefix("sql:"))
    for command in [
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE"],
        ["certutil", "-d", store, "-N", "--empty-password"],
        ["certutil", "-d", store, "-A", "-t", "CT,C,C", "-n", "test", "-i", certificate],
    ]:
        run = subprocess.run(command, capture_output=True, text=True)
        check(f"{command[0]} works", run.returncode == 0, run.stderr)
    os.environ["HOME"] = home
    return {"TLS_CERT": certificate, "TLS_KEY": key}


class Browser(Chromium):
    """A profile of Chromium, which tells what it does for devices."""

    def __init__(self, driver, profile):
        super().__init__(driver, profile, [f"--enable-features={FEATURES}"], **{"goog:loggingPrefs": {"performance": "ALL"}})
        self.told = []
        self.open("data:,")
        self.cdp("Network.enableDeviceBoundSessions", enable=True)

    def cdp(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def events(self, kind):
        """All of this kind since the start: `creation`, `refresh`, `challenge` or `termination`."""
        for entry in self.call("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.deviceBoundSessionEventOccurred":
                self.told.append(message["params"])
        return [event[f"{kind}EventDetails"] for event in self.told if f"{kind}EventDetails" in event]

    def fetch(self, path, method="GET", body=None, status=None):
        """What a script of the page asks."""
        source = """const [path, method, body] = arguments;
            return (async () => { const answer = await fetch(path, { method, body, headers: { 'content-type': 'application/json' } });
                return [answer.status, await answer.text()] })()"""
        saw, text = self.script(source, path, method, None if body is None else json.dumps(body))
        equal(f"{method} {path}", saw, status or (200 if method == "GET" else 204))
        return json.loads(text) if text else None

    def state(self):
        session = self.fetch("/session")
        return session["subject"], session["device"]

    def log_in(self, url, subject="ada"):
        before = len(self.events("creation"))
        self.open(url + "untouched")
        self.fetch("/authenticate", "POST", {"subject": subject})
        until("it registers", lambda: len(self.events("creation")) > before)
        equal("with success", self.events("creation")[-1]["fetchResult"], "Success")
        until("and is bound", lambda: self.state() == (subject, "bound"))

    def jar(self, url):
        return {cookie["name"]: cookie for cookie in self.cdp("Network.getCookies", urls=[url])["cookies"]}

    def proofs(self):
        return [event for event in self.events("refresh") if event.get("refreshResult") == "Refreshed"]

    def quit(self):
        self.call("DELETE", "")


def scenario(**settings):
    def add(f):
        scenarios.append((f, settings))
        return f

    return add


@scenario()
def a_browser_registers_by_itself(new, url, server):
    browser = new("registers")
    browser.log_in(url)
    equal("once", len(browser.events("creation")), 1)
    jar = browser.jar(url)
    equal("two cookies", len(jar), 2)
    check("that no script sees", browser.script("return document.cookie") == "" and all(one["httpOnly"] for one in jar.values()), jar)
    browser.fetch("/renew", "POST")
    equal("a renewed session", browser.state(), ("ada", "bound"))
    first = browser.events("creation")[0]["newSession"]["key"]["id"]
    browser.log_in(url, "bob")
    equal("another login is another session", browser.events("creation")[-1]["newSession"]["key"]["id"] == first, False)
    browser.fetch("/destroy", "POST")
    equal("a logout takes both cookies", browser.jar(url), {})
    ends = lambda: browser.state() == (None, "none") and [event["deletionReason"] for event in browser.events("termination")]
    until("and ends it in the browser", lambda: "ServerRequested" in (ends() or []), pause=0.2)
    equal("no refresh went wrong", [event for event in browser.events("refresh") if event.get("refreshResult") == "FatalError"
                                    and event.get("fetchResult") != "ServerRequestedTermination"], [])
    equal("nothing was refused", reasons(server), [])


@scenario(PROOF_MS=3000, PERSISTENT="true")
def a_browser_proves_again_and_again(new, url, server):
    browser = new("again")
    browser.log_in(url)
    deadline = time.monotonic() + 120
    while len(browser.proofs()) < 20:
        check("twenty proofs in two minutes", time.monotonic() < deadline, len(browser.proofs()))
        equal(f"after {len(browser.proofs())} proofs", browser.state(), ("ada", "bound"))
        time.sleep(0.3)
    # Until the cookie is gone, so that a request has to wait for a proof.
    time.sleep(3.5)
    browser.open(url + "session")
    equal("after a pause", json.loads(browser.texts("body")[0])["subject"], "ada")
    check("the page waited for the proof", any(not event["wasFullyProactiveRefresh"] for event in browser.proofs()), browser.proofs())
    browser.fetch("/entries/x", "PUT", 1)
    browser.quit()
    time.sleep(3.5)
    browser = new("again")
    browser.open(url + "session")
    equal("after a restart of the browser", json.loads(browser.texts("body")[0])["subject"], "ada")
    equal("on the same device", (browser.state(), browser.events("creation")), (("ada", "bound"), []))
    # And one of the server, which is away for a while.
    server.process.kill()
    server.process.wait()
    time.sleep(3.5)
    server.settings["PORT"] = str(server.port)
    server.start()
    until("after a restart of the server", lambda: browser.state() == ("ada", "bound"), pause=0.3)
    equal("all is there", browser.fetch("/session")["entries"], {"x": 1})
    equal("nothing was refused", reasons(server), [])


@scenario(PROOF_MS=3000, COOKIE_NAME="__Secure-s", COOKIE_PATH="/session")
def a_browser_proves_where_the_cookie_is_sent(new, url, server):
    browser = new("path")
    browser.log_in(url)
    equal("the path is the cookie's", browser.events("creation")[-1]["newSession"]["refreshUrl"], f"{url}session/device-binding/__Secure-s")
    time.sleep(3.5)
    before = len(browser.events("refresh"))
    for path in ("/untouched", "/entries/x", "/sessions"):
        browser.script("return fetch(arguments[0]).then(answer => answer.status)", path)
    equal("not for others", len(browser.events("refresh")), before)
    equal("for that", browser.state(), ("ada", "bound"))
    check("by a proof", len(browser.events("refresh")) > before)


@scenario(PROOF_MS=3000)
def another_site_leads_here(new, url, server):
    """What another site begins comes with `Lax` cookies, but what the browser then asks for its devices comes with none."""
    browser, elsewhere = new("led"), url.replace(HOST, "127.0.0.1")

    def lead(path):
        browser.open(elsewhere + "untouched")
        browser.script("location.href = arguments[0]", url + path)
        # An answer without a body leaves the page where it is.
        until("the link is followed", lambda: browser.call("GET", "/url") == url + path or path.startswith("callback"))

    lead("callback?subject=ada")
    until("a login by an identity provider registers", lambda: browser.events("creation"), pause=0.2)
    equal("with success", browser.events("creation")[-1]["fetchResult"], "Success")
    browser.open(url + "untouched")
    until("and is bound", lambda: browser.state() == ("ada", "bound"), pause=0.2)
    time.sleep(3.5)
    lead("session")
    session = json.loads(browser.texts("body")[0])
    check("a link finds the user, or nobody, and ends nothing", session["subject"] == "ada" or session["rejection"] == "unproven", session)
    time.sleep(3.5)
    lead("guarded")
    found = lambda: browser.texts("body") and browser.texts("body")[0]
    until("a guarded page loads itself again and finds the user", lambda: (found() or "").startswith("{"), pause=0.1)
    equal("with a proof", json.loads(found())["subject"], "ada")
    check("once the page was loaded again", "the page is loaded again" in server.log())
    browser.open(url + "session")
    equal("the next page does", json.loads(browser.texts("body")[0])["subject"], "ada")
    equal("nothing ended in the browser", browser.events("termination"), [])
    equal("nothing was refused", reasons(server), [])


@scenario()
def a_slow_page_races_the_registration(new, url, server):
    browser = new("races")
    browser.open(url + "untouched")
    # It opens the session as it is before the key is in it, and writes it back long after.
    browser.script("""const post = (path, value) => fetch(path, { method: 'POST', body: JSON.stringify(value),
            headers: { 'content-type': 'application/json' } });
        return (async () => { await post('/authenticate', { subject: 'ada' });
            window.slow = fetch('/slow?ms=3000&key=slow&value=x').then(answer => answer.status) })()""")
    until("it registers meanwhile", lambda: browser.events("creation"))
    until("and is bound", lambda: browser.state() == ("ada", "bound"))
    equal("the slow page comes", browser.script("return window.slow"), 204)
    equal("the next request mends it", browser.state(), ("ada", "bound"))
    session = browser.fetch("/session")
    equal("and what was written is there", (session["entries"], session["device"]), ({"slow": "x"}, "bound"))
    check("the cookie alone is worth nothing again", Client(server, {COOKIE: browser.jar(url)[COOKIE]["value"]}).session()["subject"] is None)


@scenario(PROOF_MS=4000)
def a_thief_is_soon_out(new, url, server):
    browser, thief = new("owner"), new("thief")
    browser.log_in(url)
    stolen = browser.jar(url)
    equal("both cookies", len(stolen), 2)
    thief.open(url + "untouched")
    for cookie in stolen.values():
        taken = {name: cookie[name] for name in ("name", "value", "path", "secure", "httpOnly", "sameSite")}
        # As a thief would, for as long as a browser keeps cookies.
        equal("the thief's browser takes it", thief.cdp("Network.setCookie", url=url, expires=time.time() + 86_400, **taken)["success"], True)
    since = time.monotonic()
    equal("at first the thief is in", thief.state(), ("ada", "bound"))
    while True:
        asked = time.monotonic()
        if thief.state() == (None, "none"):
            break
        check("and no longer than a proof lives", asked - since < 4, asked - since)
        equal("the owner is undisturbed", browser.state(), ("ada", "bound"))
        time.sleep(0.2)
    thief.fetch("/renew", "POST")
    equal("the thief stays out", thief.state(), (None, "none"))
    check("though the cookie is still there", COOKIE in thief.jar(url), thief.jar(url))
    thief.fetch("/destroy", "POST")
    check("until the thief logs out", COOKIE not in thief.jar(url), thief.jar(url))
    equal("which harms nobody", browser.state(), ("ada", "bound"))


def in_chromium():
    with chromedriver() as (driver, profiles):
        for work, settings in scenarios:
            before, open_ones = login.passed, []

            def new(profile):
                open_ones.append(Browser(driver, os.path.join(profiles, profile + os.path.basename(binary))))
                return open_ones[-1]

            with api(keys=new_key(), **tls, **settings) as server:
                try:
                    work(new, f"https://{HOST}:{server.port}/", server)
                finally:
                    for browser in open_ones:
                        try:
                            browser.quit()
                        except Failed:
                            # It has been before.
                            pass
            report(work, before)


def report(work, before):
    print(f"ok  {os.path.basename(binary)}: {work.__name__.replace('_', ' ')} ({login.passed - before})", flush=True)


def in_software():
    for work in groups:
        before = login.passed
        work()
        report(work, before)


def main():
    global binary, tls
    binaries = [os.path.abspath(binary) for binary in sys.argv[1:]]
    if not binaries or not all(os.access(binary, os.X_OK) for binary in binaries):
        sys.exit(__doc__)
    packages = {"chromium": "chromium", "chromedriver": "chromium-driver", "openssl": "openssl", "certutil": "libnss3-tools",
                "redis-server": "redis-server", "faketime": "faketime"}
    missing = [program for program in packages if not shutil.which(program)]
    if missing:
        install = f"apt-get install -y --no-install-recommends {' '.join(packages[program] for program in missing)}"
        sys.exit(f"missing: {', '.join(missing)}; on Debian run: {install}")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            tls = certificate(folder)
            for binary in binaries:
                in_software()
                in_chromium()
    except Exception as failure:
        if not isinstance(failure, Failed):
            traceback.print_exc()
        sys.exit(f"FAILED  {os.path.basename(binary)}: {failure}\n{login.passed} passed, 1 failed")
    print(f"{login.passed} passed, 0 failed")


if __name__ == "__main__":
    main()
