#!/usr/bin/env python3
"""An independent implementation of docs/wire-format.md, to hold the library to its own document.

  wire_format.py check      opens the golden cookies in tests/vectors/, and refuses the forgeries among them
  wire_format.py generate   makes tests/vectors/cookie-v1.json anew
  wire_format.py verify     opens the cookies and rows that the library wrote, a JSON object a line on standard input

It shares nothing with the library but the document. Needs the package `cryptography`.
"""
import base64
import hashlib
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


def derive(root, label, length):
    return HKDF(hashes.SHA256(), length, None, b"sealed-session/1 " + label).derive(root)


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
    return derive(root, b"key id", 4)


def associated_data(root, name, purpose=b"cookie"):
    parts = [b"sealed-session", b"\x01", key_id(root), purpose, name.encode()]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def seal(root, name, nonce, plaintext):
    sealed = encrypt(derive(root, b"cookie", 32), nonce, associated_data(root, name), plaintext)
    return b"\x01" + key_id(root) + nonce + sealed


def open_value(roots, name, value):
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
    text = decrypt(derive(root, b"cookie", 32), data[5:HEAD], associated_data(root, name), data[HEAD:])
    return text, found[0] != 0


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


def encode(header, entries):
    flags = (
        (1 if header["own_duration"] else 0)
        | (2 if header["in_store"] else 0)
        | (0 if header["persistent"] is None else 4)
        | (8 if header["persistent"] else 0)
    )
    subject = (header["subject"] or "").encode()
    out = unb64(header["id"]) + header["counter"].to_bytes(4, "little")
    for moment in ("created_at", "anchor", "sealed_at", "duration", "horizon"):
        out += header[moment].to_bytes(6, "little")
    out += header["generation"].to_bytes(8, "little") + bytes([flags])
    out += put_length(len(subject)) + subject + put_length(len(entries))
    for key, value in entries:
        key, value = key.encode(), bytes.fromhex(value)
        out += put_length(len(key)) + key + put_length(len(value)) + value
    return out


def pad(plaintext):
    return plaintext + bytes(-len(plaintext) % BLOCK)


def decode(plaintext):
    reader = Reader(plaintext)
    header = {"id": b64(reader.take(16)), "counter": reader.integer(4)}
    for moment in ("created_at", "anchor", "sealed_at", "duration", "horizon"):
        header[moment] = reader.integer(6)
    header["generation"] = reader.integer(8)
    flags = reader.integer(1)
    if flags & ~15 or flags & 12 == 8:
        raise Refused("malformed")
    header["own_duration"] = bool(flags & 1)
    header["in_store"] = bool(flags & 2)
    header["persistent"] = bool(flags & 8) if flags & 4 else None
    header["subject"] = reader.text() or None
    return header, decode_entries(reader)


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


def open_row(root, name, session_id, row):
    """The row's key, whether it has ended, its counter and its entries."""
    data = bytes.fromhex(row["data"])
    if data[0] != 1 or data[1:5] != key_id(root) or (len(data) - 45) % BLOCK:
        raise Refused("malformed")
    key = HKDF(hashes.SHA256(), 32, None, b"sealed-session/1 row of " + session_id).derive(derive(root, b"row", 32))
    reader = Reader(decrypt(key, data[5:HEAD], associated_data(root, name, b"row"), data[HEAD:]))
    place = b64(hashlib.sha256(b"sealed-session/1 row\0" + session_id).digest())
    kind = reader.integer(1)
    if kind == 2:
        check_padding(reader)
        return {"key": place, "ended": True, "counter": None, "entries": None}
    if kind != 1:
        raise Refused("malformed")
    return {"key": place, "ended": False, "counter": reader.integer(4), "entries": decode_entries(reader)}


def unseal(vector):
    plaintext, retired = open_value([unb64(key) for key in vector["keys"]], vector["name"], vector["value"])
    header, entries = decode(plaintext)
    return header, entries, retired


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
        "own_duration": False,
        "persistent": None,
        "in_store": False,
        "subject": None,
        "generation": 0,
    }
    return base | changes


def generate():
    good, bad = [], []

    def add(what, header, entries, keys=(ONE,), sealed_by=0, name="__Host-Http-session"):
        nonce = bytes(range(len(good), len(good) + 24))
        value = b64(seal(keys[sealed_by], name, nonce, pad(encode(header, entries))))
        good.append({
            "what": what, "keys": [b64(key) for key in keys], "name": name, "nonce": nonce.hex(),
            "retired_key": sealed_by != 0, "header": header, "entries": entries, "value": value,
        })

    def refuse(what, rejection, value, keys=(ONE,), name="__Host-Http-session"):
        bad.append({"what": what, "rejection": rejection, "keys": [b64(key) for key in keys], "name": name, "value": value})

    # MessagePack: 1, "ada", {"a": nil}.
    one, ada, fields = "01", "a3616461", "81a161c0"
    add("no entries", header(), [])
    add("one entry", header(), [["n", one]])
    add("subject and generation", header(subject="ada@example.com", generation=2**64 - 1), [["n", one], ["user", ada]])
    add("own duration, not persistent", header(own_duration=True, persistent=False, duration=1), [["n", one]])
    add("persistent", header(persistent=True, counter=2**32 - 1), [["n", one]])
    add("sealed by a retired key", header(), [["n", one]], keys=(TWO, ONE), sealed_by=1)
    add("another name and key", header(), [["n", one]], keys=(TWO,), name="s")
    add("keys beyond ASCII, in the order of their bytes", header(subject="Łódź"), [["", one], ["z", fields], ["é", ada], ["😀", one]])
    add("lengths of three bytes", header(subject="s" * 251), [["k" * 251, "da00fb" + "61" * 251], ["x", "c5012c" + "00" * 300]])
    add("251 entries", header(), [[f"{n:03}", one] for n in range(251)])
    # 59 bytes of header, 1 of subject, 1 of count, 1 + 4 of the key, 1 of length: 29 bytes fill the third block.
    add("a record that fills its last block", header(), [["fill", "c41b" + "00" * 27]])

    name, nonce = "__Host-Http-session", bytes(24)
    record = encode(header(), [["n", one]])
    whole = seal(ONE, name, nonce, pad(record))
    value = b64(whole)

    def flip(at):
        return b64(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])

    def sealed(plaintext):
        return b64(seal(ONE, name, nonce, plaintext))

    refuse("tag altered", "tampered", flip(len(whole) - 1))
    refuse("ciphertext altered", "tampered", flip(HEAD))
    refuse("nonce altered", "tampered", flip(5))
    refuse("key id altered", "unknown_key", flip(1))
    refuse("suite altered", "unknown_suite", flip(0))
    refuse("another cookie name", "tampered", value, name="session")
    refuse("a key that is not in the ring", "unknown_key", value, keys=(TWO,))
    refuse("padding characters", "malformed", value + "=" * (-len(value) % 4 or 4))
    refuse("the alphabet of RFC 4648, section 4", "malformed", "+" + value[1:])
    empty = seal(ONE, name, nonce, pad(encode(header(), [])))
    spare = b64(empty)
    loose = next(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                 if c != spare[-1] and base64.urlsafe_b64decode(spare[:-1] + c + "=" * (-len(spare) % 4)) == empty)
    refuse("bits set behind the last byte", "malformed", spare[:-1] + loose)
    refuse("a character less", "malformed", value[:-1])
    refuse("a block less", "tampered", b64(whole[:-BLOCK]))
    refuse("a byte more", "malformed", b64(whole + b"\0"))
    refuse("empty", "malformed", "")
    refuse("padding that is not zero", "malformed", sealed(pad(record)[:-1] + b"\1"))
    refuse("a block of padding too many", "malformed", sealed(pad(record) + bytes(BLOCK)))
    refuse("an unknown flag", "malformed", sealed(pad(record[:58] + b"\x10" + record[59:])))
    refuse("persistent without the wish", "malformed", sealed(pad(record[:58] + b"\x08" + record[59:])))
    refuse("entries in descending order", "malformed", sealed(pad(encode(header(), [["b", one], ["a", one]]))))
    refuse("an entry twice", "malformed", sealed(pad(encode(header(), [["a", one], ["a", one]]))))
    refuse("a key that is not UTF-8", "malformed", sealed(pad(record[:-3] + b"\xff" + record[-2:])))
    refuse("an entry that ends behind the plaintext", "malformed", sealed(pad(record[:-2] + b"\xfa")))
    return {"format": "docs/wire-format.md, version 1", "good": good, "bad": bad}


def check():
    path = VECTORS / "cookie-v1.json"
    vectors = json.loads(path.read_text())
    for vector in vectors["good"]:
        header, entries, retired = unseal(vector)
        assert header == vector["header"] and entries == vector["entries"], vector["what"]
        assert retired == vector["retired_key"], vector["what"]
    for vector in vectors["bad"]:
        try:
            unseal(vector)
        except Refused as refused:
            assert str(refused) == vector["rejection"], f"{vector['what']}: {refused}"
        else:
            sys.exit(f"accepted: {vector['what']}")
    assert vectors == generate(), "cookie-v1.json is not what `generate` makes"
    official = json.loads((VECTORS / "xaes-256-gcm.json").read_text())["official_vectors"]
    for vector in official:
        sealed = encrypt(*(bytes.fromhex(vector[field]) for field in ("key", "nonce", "aad", "plaintext")))
        assert sealed.hex() == vector["ciphertext_and_tag"], vector["id"]
    print(f"{len(official)} official answers, {len(vectors['good'])} golden cookies and {len(vectors['bad'])} forgeries")


def verify():
    count = 0
    for line in sys.stdin:
        vector = json.loads(line)
        header, entries, _ = unseal(vector)
        assert header == vector["header"], f"{header} is not {vector['header']}"
        assert entries == vector["entries"], vector
        row = vector["row"]
        opened = open_row(unb64(vector["keys"][0]), vector["name"], unb64(header["id"]), row)
        assert opened | {"data": row["data"]} == row, f"{opened} is not {row}"
        count += 1
    assert count, "nothing to verify on standard input"
    print(f"{count} cookies and rows of the library, read by the independent implementation")


if __name__ == "__main__":
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command == "generate":
        (VECTORS / "cookie-v1.json").write_text(json.dumps(generate(), indent=1, ensure_ascii=False) + "\n")
    elif command in ("check", "verify"):
        {"check": check, "verify": verify}[command]()
    else:
        sys.exit(__doc__)
