#!/usr/bin/env python3
"""An independent implementation of docs/wire-format.md, to hold the library to its own document.

  wire_format.py check      opens the golden cookies and rows in tests/vectors/, and refuses the forgeries among them
  wire_format.py generate   makes tests/vectors/cookie-v1.json anew
  wire_format.py verify     opens the cookies and rows that the library wrote, a JSON object a line on standard input

It shares nothing with the library but the document. Needs the package `cryptography`.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import re
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VECTORS = pathlib.Path(__file__).parent / "vectors"
BLOCK, HEAD, TAG = 32, 29, 16
HOUR = 3_600_000


class Refused(Exception):
    """Carries the word of the rejection."""


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    """Strict: no padding, no other alphabet, no loose bits."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Refused("malformed")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text:
        raise Refused("malformed")
    return data


def derive(secret, *parts, length=32):
    info = b"".join(len(part).to_bytes(2, "big") + part for part in (b"sealed-session/1", *parts))
    return HKDF(hashes.SHA256(), length, None, info).derive(secret)


def aes(key, block):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def xaes_key(key, nonce):
    """C2SP XAES-256-GCM: a CMAC-based KDF gives the AES-256-GCM key for the first half of the nonce."""
    doubled = int.from_bytes(aes(key, bytes(16)), "big") << 1
    k1 = ((doubled & ((1 << 128) - 1)) ^ (0x87 if doubled >> 128 else 0)).to_bytes(16, "big")
    return b"".join(aes(key, xor(bytes([0, n]) + b"X\0" + nonce[:12], k1)) for n in (1, 2))


def encrypt(key, nonce, aad, plaintext):
    return AESGCM(xaes_key(key, nonce)).encrypt(nonce[12:], plaintext, aad)


def decrypt(key, nonce, aad, sealed):
    try:
        return AESGCM(xaes_key(key, nonce)).decrypt(nonce[12:], sealed, aad)
    except InvalidTag:
        raise Refused("tampered") from None


def key_id(root):
    return derive(root, b"key id", length=4)


def cookie_key(root, name):
    return derive(root, b"cookie", name.encode())


def row_key(root, name, unique):
    """Of the row of a session or a subject: `unique` is the session's id, or the subject's place."""
    return derive(derive(root, b"row", name.encode()), b"row of", unique)


def session_place(session_id):
    return hashlib.sha256(b"sealed-session/1 row\0" + session_id).digest()


def subject_place(root, name, subject):
    return hmac.digest(derive(root, b"lookup", name.encode()), subject.encode(), "sha256")


def roster_key(root, name):
    return derive(root, b"roster", name.encode())


def roster_place(root, name, subject):
    return hmac.digest(roster_key(root, name), b"\0" + subject.encode(), "sha256")


def handle(root, name, subject, session_id):
    return hmac.digest(roster_key(root, name), b"\1" + session_id + subject.encode(), "sha256")[:16]


def transient_key(root, base):
    return derive(root, b"transient", base.encode())


# What devices are bound with, each under a key of its own.
DEVICE_PURPOSES = ("device registration", "device refresh", "device proof")


def device_key(purpose):
    return lambda root, name: derive(root, purpose.encode(), name.encode())


def open_device(vector):
    """Until when it counts, the session's id, the device's key, and whether a retired key opened it."""
    roots = [unb64(key) for key in vector["keys"]]
    plaintext, retired = open_value(roots, vector["name"], vector["text"], device_key(vector["purpose"]))
    reader = Reader(plaintext)
    until, suffix = reader.integer(6), reader.text()
    value = reader.take(reader.length())
    check_padding(reader)
    key = value[16:]
    registers = vector["purpose"] == "device registration"
    if suffix or len(value) < 16 or len(key) != (0 if registers else 33):
        raise Refused("malformed")
    return until, b64(value[:16]), key.hex() or None, retired


def device_identifier(root, name, session_id, key):
    subkey = derive(root, b"device identifier", name.encode())
    return b64(key_id(root) + key + hmac.digest(subkey, session_id + key, "sha256")[:16])


def csrf_tag(root, name, of):
    """`of`: the session's id, or what stands for a refused cookie."""
    return hmac.digest(derive(root, b"csrf", name.encode()), of, "sha256")[:16]


def refused_cookie(value):
    return b"refused" + hashlib.sha256(value).digest()


def csrf_token(root, name, session_id, mask):
    return b64(key_id(root) + mask + xor(mask, csrf_tag(root, name, session_id)))


def check_csrf(roots, name, session_id, token):
    try:
        data = unb64(token)
    except Refused:
        data = b""
    if len(data) != 36:
        raise Refused("malformed")
    found = [root for root in roots if key_id(root) == data[:4]]
    if not found:
        raise Refused("unknown_key")
    if not hmac.compare_digest(xor(data[4:20], data[20:]), csrf_tag(found[0], name, session_id)):
        raise Refused("other_session")


def seal(root, key, nonce, plaintext, aad=None):
    head = b"\x01" + key_id(root)
    return head + nonce + encrypt(key, nonce, head if aad is None else aad, plaintext)


def seal_cookie(root, name, nonce, plaintext):
    return b64(seal(root, cookie_key(root, name), nonce, plaintext))


def open_value(roots, name, value, key=cookie_key):
    """The plaintext, and whether a retired key opened it."""
    # 45 bytes around the plaintext, of which there is at least one block.
    if len(value) < -(-(45 + BLOCK) * 4 // 3) or len(value) > 4096:
        raise Refused("malformed")
    data = unb64(value)
    if data[0] != 1:
        raise Refused("unknown_suite")
    if (len(data) - 45) % BLOCK:
        raise Refused("malformed")
    found = [n for n, root in enumerate(roots) if key_id(root) == data[1:5]]
    if not found:
        raise Refused("unknown_key")
    root = roots[found[0]]
    return decrypt(key(root, name), data[5:HEAD], data[:5], data[HEAD:]), found[0] != 0


def put_length(length):
    if length < 251:
        return bytes([length])
    if length < 1 << 16:
        return b"\xfb" + length.to_bytes(2, "little")
    return b"\xfc" + length.to_bytes(4, "little")


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        part = self.data[self.at : self.at + length]
        if len(part) != length:
            raise Refused("malformed")
        self.at += length
        return part

    def integer(self, width):
        return int.from_bytes(self.take(width), "little")

    def length(self):
        first = self.integer(1)
        if first < 251:
            return first
        if first > 253:
            raise Refused("malformed")
        return self.integer({251: 2, 252: 4, 253: 8}[first])

    def text(self):
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError:
            raise Refused("malformed") from None


MOMENTS = ("created_at", "anchor", "sealed_at", "duration", "horizon", "authenticated_at")


def given(milliseconds):
    """How long a cookie was given, as its record says it."""
    seconds = milliseconds // 1000
    if seconds < 1:
        return 1
    exponent = seconds.bit_length() - 1
    return min(8 * exponent + (seconds * 8 >> exponent) % 8 + 2, 255)


def encode(header, entries, more_flags=0, device_key=None):
    device = header["device"]
    if device_key is None:
        device_key = bytes.fromhex(device) if device not in (None, "offered") else b""
    flags = (
        (1 if header["own_duration"] else 0)
        | (2 if header["in_store"] else 0)
        | (0 if header["persistent"] is None else 4)
        | (8 if header["persistent"] else 0)
        | (0 if device is None else 16)
        | more_flags
    )
    subject = (header["subject"] or "").encode()
    out = unb64(header["id"]) + header["counter"].to_bytes(4, "little")
    for moment in MOMENTS:
        out += header[moment].to_bytes(6, "little")
    out += header["generation"].to_bytes(8, "little") + bytes([flags, header["given"]])
    out += put_length(len(subject)) + subject + put_length(len(device_key)) + device_key
    return out + encode_entries(entries)


def encode_entries(entries):
    out = put_length(len(entries))
    for key, value in entries:
        key, value = key.encode(), bytes.fromhex(value)
        out += put_length(len(key)) + key + put_length(len(value)) + value
    return out


def encode_row(row):
    if row["kind"] == "ended":
        return b"\x02"
    if row["kind"] == "replaced":
        return b"\x06" + bytes([row["was_stored"]]) + bytes.fromhex(row["by"])
    if row["kind"] == "generation":
        return b"\x03" + row["generation"].to_bytes(8, "little")
    if row["kind"] == "roster":
        return b"\x04" + len(row["lines"]).to_bytes(2, "little") + b"".join(map(encode_line, row["lines"]))
    if row["kind"] == "bound":
        return b"\x05" + bytes.fromhex(row["device"])
    device = bytes.fromhex(row["device"] or "")
    head = b"\x01" + row["counter"].to_bytes(4, "little") + bytes.fromhex(row["ancestry"])
    return head + put_length(len(device)) + device + encode_entries(row["entries"])


def encode_line(line):
    out = unb64(line["id"]) + line["generation"].to_bytes(8, "little")
    for moment in ("created_at", "authenticated_at", "end"):
        out += line[moment].to_bytes(6, "little")
    label = line["label"].encode()
    return out + (line["seen"] // HOUR).to_bytes(4, "little") + bytes([len(label)]) + label


def decode_line(reader):
    line = {"id": b64(reader.take(16)), "generation": reader.integer(8)}
    for moment in ("created_at", "authenticated_at", "end"):
        line[moment] = reader.integer(6)
    line["seen"] = reader.integer(4) * HOUR
    label = reader.take(reader.integer(1))
    if len(label) > 120 or not any(unb64(line["id"])):
        raise Refused("malformed")
    try:
        return line | {"label": label.decode()}
    except UnicodeDecodeError:
        raise Refused("malformed")


def pad(plaintext):
    return plaintext + bytes(-len(plaintext) % BLOCK)


def decode(plaintext):
    reader = Reader(plaintext)
    header = {"id": b64(reader.take(16)), "counter": reader.integer(4)}
    for moment in MOMENTS:
        header[moment] = reader.integer(6)
    header["generation"] = reader.integer(8)
    flags, header["given"] = reader.integer(1), reader.integer(1)
    if flags & ~31 or flags & 12 == 8:
        raise Refused("malformed")
    header["own_duration"] = bool(flags & 1)
    header["in_store"] = bool(flags & 2)
    header["persistent"] = bool(flags & 8) if flags & 4 else None
    header["subject"] = reader.text() or None
    key = reader.take(reader.length())
    if key and not flags & 16:
        raise Refused("malformed")
    header["device"] = checked_device(key) or ("offered" if flags & 16 else None)
    return header, decode_entries(reader)


def checked_device(key):
    if not key:
        return None
    if len(key) != 33 or key[0] not in (2, 3):
        raise Refused("malformed")
    return key.hex()


def decode_entries(reader):
    entries = []
    for _ in range(reader.length()):
        key = reader.text()
        if entries and entries[-1][0].encode() >= key.encode():
            raise Refused("malformed")
        entries.append([key, reader.take(reader.length()).hex()])
    check_padding(reader)
    return entries


def check_padding(reader):
    rest = reader.data[reader.at :]
    if any(rest) or len(rest) >= BLOCK:
        raise Refused("malformed")


def decrypt_row(roots, name, unique, data):
    """The plaintext of the row of a session or a subject, and whether a retired key opened it."""
    if len(data) < 45 + BLOCK or (len(data) - 45) % BLOCK:
        raise Refused("malformed")
    if data[0] != 1:
        raise Refused("unknown_suite")
    found = [n for n, root in enumerate(roots) if key_id(root) == data[1:5]]
    if not found:
        raise Refused("unknown_key")
    key = row_key(roots[found[0]], name, unique)
    return decrypt(key, data[5:HEAD], data[:5], data[HEAD:]), found[0] != 0


def decode_row(plaintext):
    reader = Reader(plaintext)
    kind = reader.integer(1)
    if kind == 1:
        row = {"kind": "live", "counter": reader.integer(4), "ancestry": reader.take(32).hex()}
        device = checked_device(reader.take(reader.length()))
        return row | {"device": device, "entries": decode_entries(reader)}
    if kind == 5:
        row = {"kind": "bound", "device": checked_device(reader.take(33))}
        check_padding(reader)
        return row
    if kind == 4:
        row = {"kind": "roster", "lines": [decode_line(reader) for _ in range(reader.integer(2))]}
        check_padding(reader)
        return row
    if kind == 6:
        was_stored = reader.integer(1)
        if was_stored > 1:
            raise Refused("malformed")
        row = {"kind": "replaced", "was_stored": was_stored == 1, "by": reader.take(16).hex()}
        check_padding(reader)
        return row
    if kind not in (2, 3):
        raise Refused("malformed")
    row = {"kind": "ended"} if kind == 2 else {"kind": "generation", "generation": reader.integer(8)}
    if row.get("generation") == 0:
        raise Refused("malformed")
    check_padding(reader)
    return row


def encode_transient(until, suffix, value):
    suffix, value = suffix.encode(), bytes.fromhex(value)
    return until.to_bytes(6, "little") + put_length(len(suffix)) + suffix + put_length(len(value)) + value


def open_transient(vector):
    """Until when it counts, what stands behind the base of its name, and the value."""
    roots = [unb64(key) for key in vector["keys"]]
    plaintext, retired = open_value(roots, vector["base"], vector["cookie"], transient_key)
    reader = Reader(plaintext)
    until, suffix = reader.integer(6), reader.text()
    value = reader.take(reader.length())
    check_padding(reader)
    return until, suffix, value.hex(), retired


def unseal(vector):
    plaintext, retired = open_value([unb64(key) for key in vector["keys"]], vector["name"], vector["value"])
    header, entries = decode(plaintext)
    return header, entries, retired


def row_text(vector):
    """The plaintext of a row, whether a retired key opened it, and the place that it ought to have."""
    roots = [unb64(key) for key in vector["keys"]]
    data = bytes.fromhex(vector["data"])
    if "subject" in vector:
        # Each key of the ring has a row of its own for a subject.
        root = next(root for root in roots if key_id(root) == data[1:5])
        of = roster_place if "handles" in vector else subject_place
        unique = place = of(root, vector["name"], vector["subject"])
    else:
        unique = unb64(vector["id"])
        place = session_place(unique)
    return *decrypt_row(roots, vector["name"], unique, data), b64(place)


def unseal_row(vector):
    plaintext, retired, place = row_text(vector)
    row = decode_row(plaintext)
    if row["kind"] == "roster":
        root = next(root for root in map(unb64, vector["keys"]) if key_id(root) == bytes.fromhex(vector["data"])[1:5])
        of = lambda line: b64(handle(root, vector["name"], vector["subject"], unb64(line["id"])))
        assert [of(line) for line in row["lines"]] == vector["handles"], vector
    return row, retired, place


ONE, TWO = bytes([1]) * 32, bytes(range(32))


def header(**changes):
    base = {
        "id": b64(bytes(range(100, 116))),
        "counter": 7,
        "created_at": 1767225600000,
        "anchor": 1767225600123,
        "sealed_at": 1767225601000,
        "duration": 86400000,
        "horizon": 1767312000123,
        "given": given(86399123),
        "authenticated_at": 0,
        "own_duration": False,
        "persistent": None,
        "in_store": False,
        "subject": None,
        "generation": 0,
        "device": None,
    }
    return base | changes


NAME = "__Host-Http-session"
# What the nonces of one sealing epoch have in common.
EPOCH = bytes(range(200, 212))
# MessagePack: 1, "ada", {"a": nil}.
NUMBER, ADA, FIELDS = "01", "a3616461", "81a161c0"


def generate():
    cookies, forged_cookies = generate_cookies()
    rows, forged_rows = generate_rows()
    secret = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    root = derive(secret.encode(), b"derived root")
    return {
        "format": "docs/wire-format.md, version 1",
        "derived_key": {"secret": secret, "key": b64(root), "id": key_id(root).hex()},
        "good": cookies, "bad": forged_cookies, "good_rows": rows, "bad_rows": forged_rows,
        **generate_transient(), **generate_csrf(), **generate_device(),
    }


def generate_transient():
    good, bad = [], []
    base, until = "__Host-Http-oidc", 1767226200000

    def add(what, value, suffix="", keys=(ONE,), sealed_by=0, base=base, until=until):
        nonce, root = bytes(range(80 + len(good), 104 + len(good))), keys[sealed_by]
        plaintext = pad(encode_transient(until, suffix, value))
        good.append({
            "what": what, "keys": [b64(key) for key in keys], "base": base, "nonce": nonce.hex(),
            "retired_key": sealed_by != 0, "until": until, "suffix": suffix, "value": value,
            "cookie": b64(seal(root, transient_key(root, base), nonce, plaintext)),
        })

    def refuse(what, rejection, key, plaintext, opens=False):
        bad.append({"what": what, "rejection": rejection, "opens": opens, "keys": [b64(ONE)], "base": base,
                    "cookie": b64(seal(ONE, key, bytes(24), plaintext))})

    add("no suffix", FIELDS)
    add("a suffix", FIELDS, suffix="kNn3Vt0z-_")
    add("no value", "")
    add("lengths of three bytes", "c500ff" + "00" * 255)
    add("a record that fills its block", "00" * 24)
    add("a moment at its end", NUMBER, until=2**48 - 1)
    add("sealed by a retired key", NUMBER, keys=(TWO, ONE), sealed_by=1)
    add("another base and key", NUMBER, keys=(TWO,), base="session-flash")

    plain = encode_transient(until, "state", FIELDS)
    key = transient_key(ONE, base)
    for what, other in {
        "of another base": transient_key(ONE, "oidc"),
        "the suffix in the derivation": transient_key(ONE, base + ".state"),
        "sealed as a session is": cookie_key(ONE, base),
        "sealed under the key of tokens": derive(ONE, b"csrf", base.encode()),
    }.items():
        refuse(what, "tampered", other, pad(plain))
    for what, plaintext in {
        "padding that is not zero": pad(plain)[:-1] + b"\1",
        "a block of padding too many": pad(plain) + bytes(BLOCK),
        "a suffix that is not UTF-8": pad(plain.replace(b"state", b"stat\xff")),
        "a value that ends behind the plaintext": pad(plain[:-5] + b"\xfa" + plain[-4:]),
    }.items():
        refuse(what, "malformed", key, plaintext, opens=True)
    return {"good_transient": good, "bad_transient": bad}


DEVICE_KEY = bytes([2]) + bytes(range(32))


def generate_device():
    session_id, until, name = bytes(range(100, 116)), 1767226200000, NAME
    good, bad = [], []
    of = lambda purpose, text, keys: {
        "purpose": purpose, "keys": [b64(root) for root in keys], "name": name, "text": text}
    sealed = lambda purpose, plaintext, root=ONE: b64(
        seal(root, device_key(purpose)(root, name), bytes(range(120 + len(good), 144 + len(good))), pad(plaintext)))

    for keys, retired in (((ONE,), False), ((TWO, ONE), True)):
        for purpose in DEVICE_PURPOSES:
            key = b"" if purpose == "device registration" else DEVICE_KEY
            plain = encode_transient(until, "", (session_id + key).hex())
            good.append(of(purpose, sealed(purpose, plain), keys) | {
                "until": until, "id": b64(session_id), "key": key.hex() or None, "retired_key": retired})
    for purpose in DEVICE_PURPOSES:
        key = b"" if purpose == "device registration" else DEVICE_KEY
        plain = encode_transient(until, "", (session_id + key).hex())
        for other in [p for p in DEVICE_PURPOSES if p != purpose] + ["transient", "cookie"]:
            bad.append(of(purpose, sealed(other, plain), (ONE,)) | {"what": f"sealed as {other}", "rejection": "tampered"})
        for what, wrong in {
            "a key too much or too few": session_id + (DEVICE_KEY if not key else b""),
            "an id cut off": session_id[:15],
            "a byte more": session_id + key + b"\2",
        }.items():
            bad.append(of(purpose, sealed(purpose, encode_transient(until, "", wrong.hex())), (ONE,))
                       | {"what": what, "rejection": "malformed"})
    identifiers = [
        {"keys": [b64(root) for root in keys], "name": name, "id": b64(session_id), "key": DEVICE_KEY.hex(),
         "identifier": device_identifier(root, name, session_id, DEVICE_KEY)}
        for keys, root in (((ONE,), ONE), ((TWO, ONE), ONE), ((TWO, ONE), TWO))
    ]
    return {"good_device": good, "bad_device": bad, "device_identifiers": identifiers}


def generate_csrf():
    session_id, mask = bytes(range(100, 116)), bytes(range(16, 32))
    of = lambda what, token, keys=(ONE,), name=NAME: {
        "what": what, "keys": [b64(key) for key in keys], "name": name, "id": b64(session_id), "token": token}
    beside = lambda what, cookie, token: of(what, token) | {"id": None, "refused": cookie}
    ended = refused_cookie(session_id)
    token = csrf_token(ONE, NAME, session_id, mask)
    good = [
        of("a token", token),
        of("another mask", csrf_token(ONE, NAME, session_id, bytes(16))),
        of("under a retired key", token, keys=(TWO, ONE)),
        of("another name and key", csrf_token(TWO, "s", session_id, mask), keys=(TWO,), name="s"),
        beside("of a refused cookie", "AQ_not_ours", csrf_token(ONE, NAME, refused_cookie(b"AQ_not_ours"), mask)),
    ]
    tag = csrf_tag(ONE, NAME, session_id)
    bad = [
        of("of another session", csrf_token(ONE, NAME, bytes(16), mask)) | {"rejection": "other_session"},
        of("of another name", csrf_token(ONE, "session", session_id, mask)) | {"rejection": "other_session"},
        of("of the cookie of its session that is over", csrf_token(ONE, NAME, ended, mask)) | {"rejection": "other_session"},
        beside("of another refused cookie", "AQ_other", csrf_token(ONE, NAME, refused_cookie(b"AQ_not_ours"), mask))
        | {"rejection": "other_session"},
        of("not masked", b64(key_id(ONE) + mask + tag)) | {"rejection": "other_session"},
        of("under the key of cookies", b64(key_id(ONE) + mask + xor(mask, hmac.digest(
            cookie_key(ONE, NAME), session_id, "sha256")[:16]))) | {"rejection": "other_session"},
        of("a key that is not in the ring", token, keys=(TWO,)) | {"rejection": "unknown_key"},
        of("a character less", token[:-1]) | {"rejection": "malformed"},
        of("empty", "") | {"rejection": "malformed"},
        of("the alphabet of RFC 4648, section 4", "+" + token[1:]) | {"rejection": "malformed"},
    ]
    return {"good_csrf": good, "bad_csrf": bad}


def generate_cookies():
    good, bad = [], []

    def add(what, header, entries, keys=(ONE,), sealed_by=0, name=NAME, nonce=None):
        nonce = nonce or bytes(range(len(good), len(good) + 24))
        good.append({
            "what": what, "keys": [b64(key) for key in keys], "name": name, "nonce": nonce.hex(),
            "retired_key": sealed_by != 0, "header": header, "entries": entries,
            "value": seal_cookie(keys[sealed_by], name, nonce, pad(encode(header, entries))),
        })

    def refuse(what, rejection, value, keys=(ONE,), name=NAME, opens=False):
        """`opens`: the cipher has nothing against it, only the record."""
        bad.append({
            "what": what, "rejection": rejection, "opens": opens,
            "keys": [b64(key) for key in keys], "name": name, "value": value,
        })

    add("no entries", header(), [])
    add("one entry", header(), [["n", NUMBER]])
    add("subject and generation", header(subject="ada@example.com", generation=2**64 - 1), [["n", NUMBER], ["user", ADA]])
    authenticated = header(subject="ada@example.com", authenticated_at=1767225600456)
    add("authenticated", authenticated, [["n", NUMBER]])
    add("own duration, not persistent", header(own_duration=True, persistent=False, duration=1), [["n", NUMBER]])
    add("persistent", header(persistent=True, counter=2**32 - 1), [["n", NUMBER]])
    add("a reference to a row", header(in_store=True), [])
    add("given nobody knows what", header(given=0), [["n", NUMBER]])
    add("given as long as can be", header(given=255), [["n", NUMBER]])
    add("moments at their ends", header(**{moment: 2**48 - 1 for moment in MOMENTS} | {"created_at": 0}), [])
    add("sealed by a retired key", header(), [["n", NUMBER]], keys=(TWO, ONE), sealed_by=1)
    add("another name and key", header(), [["n", NUMBER]], keys=(TWO,), name="s")
    add("keys beyond ASCII, in the order of their bytes", header(subject="Łódź"), [["", NUMBER], ["z", FIELDS], ["é", ADA], ["😀", NUMBER]])
    add("lengths of three bytes", header(subject="s" * 251), [["k" * 251, "da00fb" + "61" * 251], ["x", "c5012c" + "00" * 300]])
    add("251 entries", header(), [[f"{n:03}", NUMBER] for n in range(251)])
    # 66 bytes of header, 1 of subject, 1 of device key, 1 of count, 1 + 4 of the key, 1 of length: 21 bytes fill the third block.
    add("a record that fills its last block", header(), [["fill", "c413" + "00" * 19]])
    add("one cookie of a sealing epoch", header(), [["n", NUMBER]], nonce=EPOCH + bytes(range(12)))
    add("another cookie of that epoch", header(counter=8), [["n", NUMBER]], nonce=EPOCH + bytes(range(12, 24)))
    add("a cookie of an epoch that begins alike", header(counter=9), [["n", NUMBER]], nonce=EPOCH[:11] + bytes(13))
    add("offered to a device", authenticated | {"device": "offered"}, [["n", NUMBER]])
    add("bound to a device", authenticated | {"device": DEVICE_KEY.hex()}, [["n", NUMBER]])
    add("bound, the other half of the curve", authenticated | {"device": "03" + DEVICE_KEY.hex()[2:], "in_store": True}, [])

    # In that epoch too, so that they meet a key that was derived for others. Each is sealed as it should be but for one thing.
    nonce = EPOCH + bytes(12)
    key = cookie_key(ONE, NAME)
    plain = encode(header(), [["n", NUMBER]])
    whole = seal(ONE, key, nonce, pad(plain))
    value = b64(whole)

    def flip(at):
        return b64(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])

    refuse("tag altered", "tampered", flip(len(whole) - 1))
    refuse("ciphertext altered", "tampered", flip(HEAD))
    refuse("the nonce's first half altered", "tampered", flip(5))
    refuse("the nonce's second half altered", "tampered", flip(28))
    refuse("key id altered", "unknown_key", flip(1))
    refuse("suite altered", "unknown_suite", flip(0))
    refuse("a key that is not in the ring", "unknown_key", value, keys=(TWO,))
    refuse("the id of another key of the ring", "tampered", b64(whole[:1] + key_id(TWO) + whole[5:]), keys=(TWO, ONE))
    refuse("the alphabet of RFC 4648, section 4", "malformed", "+" + value[1:])
    # 141 bytes are whole groups of three; a block more leaves room for padding and loose bits.
    longer = seal(ONE, key, nonce, pad(encode(header(), [["n", NUMBER], ["user", "d920" + "61" * 32]])))
    spare = b64(longer)
    refuse("a padding character", "malformed", spare + "=" * (-len(spare) % 4))
    loose = next(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                 if c != spare[-1] and base64.urlsafe_b64decode(spare[:-1] + c + "=" * (-len(spare) % 4)) == longer)
    refuse("bits set behind the last byte", "malformed", spare[:-1] + loose)
    refuse("a character less", "malformed", value[:-1])
    refuse("a block less", "tampered", b64(whole[:-BLOCK]))
    refuse("a byte more", "malformed", b64(whole + b"\0"))
    refuse("empty", "malformed", "")

    # What the key and the associated data are made of.
    def sealed(key, aad=None):
        return b64(seal(ONE, key, nonce, pad(plain), aad))

    root, name, id = key_id(ONE), NAME.encode(), unb64(header()["id"])
    subkey_of = lambda info: HKDF(hashes.SHA256(), 32, None, info).derive(ONE)
    parts = lambda *parts: b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    refuse("sealed for another cookie name", "tampered", sealed(cookie_key(ONE, "session")))
    refuse("sealed for no cookie name", "tampered", sealed(derive(ONE, b"cookie")))
    refuse("sealed under the subkey of rows", "tampered", sealed(derive(ONE, b"row", name)))
    refuse("sealed under the key of its session's row", "tampered", sealed(row_key(ONE, NAME, id)))
    refuse("sealed under the subkey of places", "tampered", sealed(derive(ONE, b"lookup", name)))
    refuse("sealed under the root key", "tampered", sealed(ONE))
    refuse("sealed as what is read once", "tampered", sealed(transient_key(ONE, NAME)))
    refuse("sealed under the key of tokens", "tampered", sealed(derive(ONE, b"csrf", name)))
    refuse("parts of the info without their lengths", "tampered", sealed(subkey_of(b"sealed-session/1cookie" + name)))
    refuse("parts of the info in another order", "tampered", sealed(subkey_of(parts(b"sealed-session/1", name, b"cookie"))))
    refuse("lengths in the info with their least byte first", "tampered", sealed(subkey_of(
        b"".join(len(part).to_bytes(2, "little") + part for part in (b"sealed-session/1", b"cookie", name)))))
    refuse("associated data with purpose and name", "tampered", sealed(key, parts(b"sealed-session", b"\x01", root, b"cookie", name)))
    refuse("associated data without the suite", "tampered", sealed(key, root))
    refuse("no associated data", "tampered", sealed(key, b""))
    refuse("the nonce in the associated data", "tampered", sealed(key, whole[:HEAD]))

    # What the cipher opens and what is no record.
    def record(what, plaintext):
        refuse(what, "malformed", seal_cookie(ONE, NAME, nonce, plaintext), opens=True)

    def altered(header=header(), entries=(("n", NUMBER),), **changes):
        return pad(encode(header, entries, **changes))

    record("padding that is not zero", pad(plain)[:-1] + b"\1")
    record("a block of padding too many", pad(plain) + bytes(BLOCK))
    record("an unknown flag", altered(more_flags=128))
    record("persistent without the wish", altered(more_flags=8))
    record("a device key without its flag", altered(device_key=DEVICE_KEY))
    record("a device key of 32 bytes", altered(more_flags=16, device_key=DEVICE_KEY[:32]))
    record("a device key of 34 bytes", altered(more_flags=16, device_key=DEVICE_KEY + b"\0"))
    record("a device key of 1 byte", altered(more_flags=16, device_key=b"\2"))
    record("a device key that is no compressed point", altered(more_flags=16, device_key=b"\4" + DEVICE_KEY[1:]))
    record("a subject that is not UTF-8", altered(header(subject="ada")).replace(b"\3ada", b"\3a\xffa"))
    record("entries in descending order", altered(entries=[["b", NUMBER], ["a", NUMBER]]))
    record("an entry twice", altered(entries=[["a", NUMBER], ["a", NUMBER]]))
    record("a key that is not UTF-8", pad(plain[:-3] + b"\xff" + plain[-2:]))
    record("an entry that ends behind the plaintext", pad(plain[:-2] + b"\xfa"))
    record("a header that ends with the plaintext", plain[:64])
    return good, bad


def generate_rows():
    good, bad = [], []
    session_id, subject = bytes(range(100, 116)), "ada@example.com"

    def vector(what, keys, owner, name, data):
        return {"what": what, "keys": [b64(key) for key in keys], "name": name, **owner, "data": data.hex()}

    def add(what, row, keys=(ONE,), sealed_by=0, name=NAME):
        root, nonce = keys[sealed_by], bytes(range(50 + len(good), 74 + len(good)))
        if row["kind"] == "generation":
            unique = place = subject_place(root, name, subject)
            owner = {"subject": subject}
        elif row["kind"] == "roster":
            unique = place = roster_place(root, name, subject)
            ids = [unb64(line["id"]) for line in row["lines"]]
            owner = {"subject": subject, "handles": [b64(handle(root, name, subject, id)) for id in ids]}
        else:
            unique, place = session_id, session_place(session_id)
            owner = {"id": b64(session_id)}
        data = seal(root, row_key(root, name, unique), nonce, pad(encode_row(row)))
        good.append(vector(what, keys, owner, name, data) | {
            "nonce": nonce.hex(), "retired_key": sealed_by != 0, "place": b64(place), "row": row,
        })

    ancestry = bytes(range(100, 124)).hex() + "00" * 8
    live = {"kind": "live", "counter": 2**32 - 1, "ancestry": ancestry, "device": None, "entries": [["n", NUMBER], ["user", ADA]]}
    generation = {"kind": "generation", "generation": 2**64 - 1}
    add("alive", live)
    add("alive, no entries", {"kind": "live", "counter": 0, "ancestry": "00" * 32, "device": None, "entries": []})
    add("alive, lengths of three bytes", {"kind": "live", "counter": 1, "ancestry": "00" * 32, "device": None, "entries": [["k" * 251, "c500ff" + "00" * 255]]})
    add("ended", {"kind": "ended"})
    ada = hashlib.sha256(b"ada").digest()[:16].hex()
    add("replaced by one of ada's, in its cookie until then", {"kind": "replaced", "was_stored": False, "by": ada})
    add("replaced by one of ada's, stored until then", {"kind": "replaced", "was_stored": True, "by": ada})
    add("a subject's generation", generation)
    add("sealed by a retired key", live, keys=(TWO, ONE), sealed_by=1)
    add("a subject's generation under a retired key", generation, keys=(TWO, ONE), sealed_by=1)
    add("another name and key", live, keys=(TWO,), name="s")
    add("a subject's generation, another name and key", generation, keys=(TWO,), name="s")

    lines = [
        {"id": b64(session_id), "generation": 2**64 - 1, "created_at": 1, "authenticated_at": 0, "end": 2**48 - 1, "seen": 0, "label": ""},
        {"id": b64(bytes(range(16, 32))), "generation": 0, "created_at": 1767225600000, "authenticated_at": 1767225600456, "end": 1767312000123,
         "seen": (2**32 - 1) * HOUR, "label": "é" * 60},
    ]
    add("a subject's roster", {"kind": "roster", "lines": lines})
    add("a subject's roster, no lines", {"kind": "roster", "lines": []})
    add("a subject's roster, another name and a retired key", {"kind": "roster", "lines": lines[:1]}, keys=(TWO, ONE), sealed_by=1, name="s")

    device = (b"\3" + bytes(range(200, 232))).hex()
    add("alive, bound to a device", live | {"device": device})
    add("in its cookie, bound to a device", {"kind": "bound", "device": device})

    nonce, text = bytes(range(24)), pad(encode_row(live))

    def refuse(what, rejection, data, keys=(ONE,), opens=False):
        bad.append(vector(what, keys, {"id": b64(session_id)}, NAME, data) | {"rejection": rejection, "opens": opens})

    key, name = row_key(ONE, NAME, session_id), NAME.encode()
    whole = seal(ONE, key, nonce, text)
    refuse("tag altered", "tampered", whole[:-1] + bytes([whole[-1] ^ 1]))
    refuse("suite altered", "unknown_suite", b"\0" + whole[1:])
    refuse("a key that is not in the ring", "unknown_key", whole, keys=(TWO,))
    refuse("a byte more", "malformed", whole + b"\0")
    refuse("nothing but an envelope", "malformed", seal(ONE, key, nonce, b""))
    for what, other in {
        "the row of another session": row_key(ONE, NAME, bytes(16)),
        "of a cookie of another name": row_key(ONE, "session", session_id),
        "sealed under the subkey of rows": derive(ONE, b"row", name),
        "sealed under the key of cookies": cookie_key(ONE, NAME),
        "derived from the root key": derive(ONE, b"row of", session_id),
        "the name not in the subkey": derive(derive(ONE, b"row"), b"row of", session_id),
        "the place for the id": row_key(ONE, NAME, session_place(session_id)),
    }.items():
        refuse(what, "tampered", seal(ONE, other, nonce, text))
    refuse("associated data with purpose and name", "tampered", seal(ONE, key, nonce, text, b"".join(
        len(part).to_bytes(2, "big") + part for part in (b"sealed-session", b"\x01", key_id(ONE), b"row", name))))
    for what, plaintext in {
        "an unknown kind": pad(b"\7"),
        "replaced, and neither in a cookie nor stored until then": pad(b"\6\2" + bytes(16)),
        "replaced and more": pad(b"\6\0" + bytes(16) + b"\1"),
        "bound to a key that is no point": pad(b"\5\4" + bytes(32)),
        "bound and more": pad(b"\5\2" + bytes(32) + b"\1"),
        "alive, bound to a key of 32 bytes": pad(b"\1" + bytes(36) + b"\x20\2" + bytes(31) + b"\0"),
        "alive, bound to a key that is no point": pad(b"\1" + bytes(36) + b"\x21\5" + bytes(32) + b"\0"),
        "a roster with fewer lines than it says": pad(b"\4\2\0" + encode_line(lines[1])),
        "a roster with more lines than it says": pad(b"\4\1\0" + encode_line(lines[1]) * 2),
        "a roster that says 65,535 lines": pad(b"\4\xff\xff"),
        "a line of no session": pad(b"\4\1\0" + encode_line(lines[0] | {"id": b64(bytes(16))})),
        "a label of 121 bytes": pad(b"\4\1\0" + encode_line(lines[0] | {"label": "x" * 121})),
        "a label that is no UTF-8": pad(b"\4\1\0" + encode_line(lines[0])[:-1] + b"\1\xff"),
        "a label that ends behind the roster": pad(b"\4\1\0" + encode_line(lines[0])[:-1] + b"\x78")[:64],
        "ended and more": pad(b"\2\1"),
        "generation 0": pad(b"\3" + bytes(8)),
        "a block of padding too many": text + bytes(BLOCK),
        "entries in descending order": pad(encode_row(live | {"entries": [["b", NUMBER], ["a", NUMBER]]})),
    }.items():
        refuse(what, "malformed", seal(ONE, key, nonce, plaintext), opens=True)
    return good, bad


def refused(vector, read, decrypts):
    """Refused, for the reason that it names, and by the part that it means."""
    try:
        read(vector)
    except Refused as refused:
        assert str(refused) == vector["rejection"], f"{vector['what']}: {refused}"
    else:
        sys.exit(f"accepted: {vector['what']}")
    try:
        decrypts(vector)
    except Refused:
        assert not vector["opens"], vector["what"]
    else:
        assert vector["opens"], vector["what"]


def bound(vector):
    return refused_cookie(vector["refused"].encode()) if "refused" in vector else unb64(vector["id"])


def check():
    path = VECTORS / "cookie-v1.json"
    vectors = json.loads(path.read_text())
    for vector in vectors["good"]:
        assert unseal(vector) == (vector["header"], vector["entries"], vector["retired_key"]), vector["what"]
    for vector in vectors["good_rows"]:
        assert unseal_row(vector) == (vector["row"], vector["retired_key"], vector["place"]), vector["what"]
    roots = lambda vector: [unb64(key) for key in vector["keys"]]
    for vector in vectors["bad"]:
        refused(vector, unseal, lambda vector: open_value(roots(vector), vector["name"], vector["value"]))
    for vector in vectors["bad_rows"]:
        refused(vector, unseal_row, row_text)
    for vector in vectors["good_transient"]:
        wanted = tuple(vector[part] for part in ("until", "suffix", "value", "retired_key"))
        assert open_transient(vector) == wanted, vector["what"]
    for vector in vectors["bad_transient"]:
        refused(vector, open_transient, lambda vector: open_value(roots(vector), vector["base"], vector["cookie"], transient_key))
    for vector in vectors["good_device"]:
        wanted = tuple(vector[part] for part in ("until", "id", "key", "retired_key"))
        assert open_device(vector) == wanted, vector
    for vector in vectors["bad_device"]:
        try:
            open_device(vector)
        except Refused as reason:
            assert str(reason) == vector["rejection"], vector
        else:
            sys.exit(f"accepted: {vector['what']}")
    for vector in vectors["good_csrf"]:
        check_csrf(roots(vector), vector["name"], bound(vector), vector["token"])
    for vector in vectors["bad_csrf"]:
        try:
            check_csrf(roots(vector), vector["name"], bound(vector), vector["token"])
        except Refused as reason:
            assert str(reason) == vector["rejection"], vector["what"]
        else:
            sys.exit(f"accepted: {vector['what']}")
    assert vectors == generate(), "cookie-v1.json is not what `generate` makes"
    official = json.loads((VECTORS / "xaes-256-gcm.json").read_text())["official_vectors"]
    for vector in official:
        sealed = encrypt(*(bytes.fromhex(vector[field]) for field in ("key", "nonce", "aad", "plaintext")))
        assert sealed.hex() == vector["ciphertext_and_tag"], vector["id"]
    counts = (len(vectors[part]) for part in ("good", "good_rows", "good_transient", "good_csrf", "good_device"))
    print(len(official), "official answers; {} golden cookies, {} rows, {} transient cookies, {} tokens, {} of devices".format(*counts))
    print(sum(len(vectors[part]) for part in vectors if part.startswith("bad")), "forgeries of all these")


def verify():
    cookies = rows = 0
    for line in sys.stdin:
        vector = json.loads(line)
        header, entries, _ = unseal(vector)
        assert header == vector["header"], f"{header} is not {vector['header']}"
        assert entries == vector["entries"], vector
        cookies += 1
        for row in vector["rows"]:
            opened = unseal_row(row | {"keys": vector["keys"], "name": vector["name"]})
            assert opened == (row["row"], False, row["place"]), f"{opened} is not {row}"
            rows += 1
    assert cookies and rows > cookies, "nothing to verify on standard input"
    print(f"{cookies} cookies and {rows} rows of the library, read by the independent implementation")


if __name__ == "__main__":
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command == "generate":
        (VECTORS / "cookie-v1.json").write_text(json.dumps(generate(), indent=1, ensure_ascii=False) + "\n")
    elif command in ("check", "verify"):
        {"check": check, "verify": verify}[command]()
    else:
        sys.exit(__doc__)
