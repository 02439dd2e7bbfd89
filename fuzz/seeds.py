#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets, with the independent implementation of the wire format: fuzz/seeds.py"""

import json
import pathlib
import random
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "tests"))
import wire_format as wire  # noqa: E402

KEY, NAME = bytes([1]) * 32, "s"


def write(target, seeds):
    folder = ROOT / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        (folder / name).write_bytes(seed)


def cookie(header, entries, key=KEY, name=NAME):
    return wire.seal_cookie(key, name, bytes(range(24)), wire.pad(wire.encode(header, entries)))


def main():
    fresh = {"created_at": 1767225600000, "anchor": 1767225600000, "sealed_at": 1767225600000}
    headers = {
        "plain": wire.header(**fresh),
        "subject": wire.header(**fresh, subject="ada@example.com", generation=7),
        "own": wire.header(**fresh, own_duration=True, persistent=True, duration=3_600_000),
        "reference": wire.header(**fresh, in_store=True),
        "authenticated": wire.header(**fresh, subject="ada@example.com", authenticated_at=fresh["created_at"]),
        "old": wire.header(),
    }
    entries = [["n", "01"], ["user", "a3616461"], ["ключ", "81a161c0"]]
    values = {name: cookie(header, [] if name == "reference" else entries) for name, header in headers.items()}
    plain = values["plain"]
    expired = wire.header(**{what: moment - 7_200_000 for what, moment in fresh.items()})
    tampered = plain[:99] + ("B" if plain[99] == "A" else "A") + plain[100:]
    write("envelope", {
        **{name: value.encode() for name, value in values.items()},
        # Refused, each for another reason.
        "tampered": tampered.encode(),
        "other_key": cookie(headers["plain"], entries, key=bytes([2]) * 32).encode(),
        "other_name": cookie(headers["plain"], entries, name="t").encode(),
        "other_suite": b"Ag" + plain[2:].encode(),
        "padded": plain.encode() + b"=",
    })
    write("cookie_header", {
        **{name: f"s={value}".encode() for name, value in values.items()},
        "others": f"theme=dark; s={values['plain']}; x=\"1\"\ns=garbage".encode(),
        "twice": f"s={values['plain']}; s={values['subject']}; s={values['old']}".encode(),
        "tampered": f"s={tampered}".encode(),
        "expired": f"s={cookie(expired, entries)}".encode(),
        "garbage": b"s=garbage",
        "none": b"theme=dark; ss=1; S=1",
        "foreign": b"a=\xff\xfe; s=" + values["plain"].encode(),
    })
    def once(base="once", suffix="", until=1767226200000, value="81a161c0"):
        plaintext = wire.pad(wire.encode_transient(until, suffix, value))
        return wire.b64(wire.seal(KEY, wire.transient_key(KEY, base), bytes(range(24)), plaintext))

    messages = "82a77375626a656374c0a86d6573736167657391" + "82a56c6576656ca4696e666fa474657874a26869"
    write("transient", {
        "once": f"\nonce={once()}".encode(),
        "of_suffix": f"state\nonce.state={once(suffix='state')}".encode(),
        "among_others": f"state\na=b\nonce.x=1; once.state={once(suffix='state')}; once={once()}; once.{once()}".encode(),
        "quoted": f'\nonce="{once()}"'.encode(),
        "expired": f"\nonce={once(until=1767225600000)}".encode(),
        "other_suffix": f"other\nonce.other={once(suffix='state')}".encode(),
        "other_name": f"\nonce={once(base='s')}".encode(),
        "flash": f"{wire.csrf_token(KEY, NAME, bytes(16), bytes(16))}\ns-flash={once(base='s-flash', value=messages)}".encode(),
        "garbage": b"\nonce=x; once.=; once.\xff=1; =; once",
        "planted": ("state\n" + "; ".join(f"once.p{n}={once(suffix=f'p{n}')}" for n in range(20))).encode(),
        "record": wire.pad(wire.encode_transient(1767226200000, "state", "81a161c0")),
    })
    identifier = wire.device_identifier(KEY, NAME, bytes(range(16)), wire.DEVICE_KEY)
    secret = ec.derive_private_key(7, ec.SECP256R1())
    numbers = secret.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": wire.b64(numbers.x.to_bytes(32, "big")), "y": wire.b64(numbers.y.to_bytes(32, "big"))}

    def jws(head, payload='{"jti":"challenge"}', sign=None):
        text = f"{wire.b64(head.encode())}.{wire.b64(payload.encode())}"
        der = secret.sign(text.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        signature = {None: r.to_bytes(32, "big") + s.to_bytes(32, "big"), "der": der, "zeros": bytes(64)}[sign]
        return f"{text}.{wire.b64(signature)}"

    def head(**changes):
        return json.dumps({"alg": "ES256", "jwk": jwk, "typ": "dbsc+jwt"} | changes, separators=(",", ":"))

    good = jws(head())
    parts = good.split(".")
    proofs = {
        "registration": good,
        "refresh": jws('{"alg":"ES256","typ":"dbsc+jwt"}'),
        "escaped": jws(head().replace("ES256", "\\u0045S256")),
        "other_payload": ".".join([parts[0], wire.b64(b'{"jti":"other"}'), parts[2]]),
        "der": jws(head(), sign="der"),
        "zeros": jws(head(), sign="zeros"),
        "none": jws(head(alg="none")),
        "rs256": jws(head(alg="RS256")),
        "off_curve": jws(head(jwk=jwk | {"y": jwk["x"]})),
        "p384": jws(head(jwk=jwk | {"crv": "P-384"})),
        "twice": jws(head()[:-1] + ',"alg":"none"}'),
        "crit": jws(head(crit=["b64"])),
        "typ": jws(head(typ="jwt")),
        "parts": good + "." + parts[2],
        "empty": "",
    }
    write("device", {
        **{name: f"{identifier}\n{proof}".encode() for name, proof in proofs.items()},
        "long": b"\n" + b"x" * 2049,
        "garbage": b"\xff\n\xfe.\xfd.",
    })
    # Each but for one thing as it should be.
    altered = lambda **changes: wire.pad(wire.encode(headers["plain"], entries, **changes))
    head, text = wire.encode(headers["plain"], [])[:-1], wire.encode(headers["plain"], entries)
    write("record", {
        **{name: wire.pad(wire.encode(header, entries)) for name, header in headers.items()},
        "long": wire.pad(wire.encode(headers["plain"], [["k" * 251, "da00fb" + "61" * 251]])),
        "many": wire.pad(wire.encode(headers["plain"], [[f"{n:03}", "01"] for n in range(251)])),
        # A count that was written longer than it has to be.
        "found_long_length": wire.pad(head + b"\xfd" + (1).to_bytes(8, "little") + b"\0\0"),
        "offered": altered(more_flags=16),
        "bound": altered(more_flags=16, device_key=wire.DEVICE_KEY),
        # Refused.
        "flags": altered(more_flags=8),
        "device_key": altered(device_key=b"\x02" + bytes(range(32))),
        "device_key_cut": altered(more_flags=16, device_key=b"\x02" + bytes(range(31))),
        "order": wire.pad(wire.encode(headers["plain"], [["b", "01"], ["a", "01"]])),
        "padding": wire.pad(text)[:-1] + b"\x01",
        "short": text[:65],
    })
    body = text[len(head):]
    device = b"\x02" + bytes(range(32))
    head = b"\x01\x07\0\0\0" + bytes(range(24)) + bytes(8)
    rows = {"live": head + b"\0" + body, "empty": b"\x01" + bytes(38), "live_bound": head + b"\x21" + device + body, "bound": b"\x05" + device, "ended": b"\x02", "replaced": b"\x06\1" + bytes(range(1, 17)), "generation": b"\x03" + bytes(range(1, 9)),
            "roster": b"\x04\x02\0" + bytes(range(1, 47)) + b"\x06Chrome" + bytes(range(2, 48)) + b"\0"}
    refused = {"kind": b"\x07", "replaced_and_more": b"\x06\2" + bytes(range(1, 17)), "bound_to_no_point": b"\x05\x04" + device[1:], "live_bound_cut": head + b"\x20" + device[:32] + body, "lines": b"\x04\xff\xff", "label": b"\x04\x01\0" + bytes(range(1, 47)) + b"\x79" + b"x" * 121, "ended_and_more": b"\x02\x01"}
    write("row", {name: wire.pad(row) for name, row in (rows | refused).items()} | {"generation_cut": b"\x03\x01"})
    write("stored_row", {**{f"sealed-{name}": b"\x01" + row for name, row in rows.items()}, "garbage": b"\0garbage", "short": b"\0\x01"})
    write("value", {
        "integer": bytes.fromhex("cdffff"), "negative": bytes.fromhex("d3ffffffffffffffff"), "text": bytes.fromhex("a3616461"),
        "map": bytes.fromhex("82a161c0a1629301c3cb3ff8000000000000"), "deep": b"\x91" * 130 + b"\xc0", "bytes": bytes.fromhex("c403010203"),
        "extension": bytes.fromhex("d40001"),
    })
    dice = random.Random(1)
    some = {f"random-{n}": dice.randbytes(40 + 20 * n) for n in range(6)}
    write("session", {**some, "spill": bytes([0, 0, 0, 1, 200, 0, 10, 1, 0, 1, 200, 0, 10, 0, 6, 0, 10, 0, 9])})
    write("lifetime", {**some, "default": (86_400_000).to_bytes(5, "big") + bytes([1, 1, 1]) + dice.randbytes(60)})
    # What a fuzzer would have to find byte by byte: the suite and the key's id in base64, lengths of 251 and more, tags.
    lengths = ["\\xfa", "\\xfb\\xfb\\x00", "\\xfb\\xff\\xff", "\\xfc\\x00\\x00\\x01\\x00", "\\xfd\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00", "\\xfe"]
    hexed = lambda data: "".join(f"\\x{byte:02x}" for byte in data)
    moment, block = hexed(fresh["created_at"].to_bytes(6, "little")), hexed(bytes(32))
    # Neither subject nor device key nor entries.
    entry, nothing, device_key = "\\x01\\x01n\\x01\\x01", "\\x00\\x00\\x00", "\\x21" + hexed(b"\x02" + bytes(range(32)))
    rows = [f"\\x01\\x07\\x00\\x00\\x00{block}\\x00", f"\\x01\\x07\\x00\\x00\\x00{block}{device_key}", "\\x05\\x02", "\\x02", "\\x03\\x01\\x02\\x03\\x04\\x05\\x06\\x07\\x08", "\\x04", entry, nothing]
    for target, words in {
        "cookie_header": ["s=", "; ", "=", "\\x0a", "AQ", "Ag", plain[:7], f"s={plain[:7]}", "\\x22", ";s=", "__Host-", "$Version=1",
                          "Path=/", "HttpOnly", "Max-Age=0", "%3D", "\\x09", "\\xff"],
        "envelope": ["AQ", "Ag", "AA", plain[:7], plain[:39], "=", "==", "-", "_", "+", "/", "A" * 43],
        "record": [*lengths, moment, "n\\x01", entry, nothing, device_key, "\\x0f", "\\x0c", "\\x10", "\\x02", block],
        "device": [identifier, *parts, ".", "eyJhbGciOiJFUzI1NiIs", "ES256", "jwk", "dbsc+jwt", "jti", "crit", "P-256", "\\x0a"],
        "row": [*rows, *lengths, block],
        "stored_row": [*(f"\\x01{row}" for row in rows), *lengths, hexed(b"\0\1" + wire.key_id(KEY)), block],
        # MessagePack: nil, the byte that is none, booleans, numbers, text, bytes, lists, maps, extensions.
        "value": ["\\xc0", "\\xc1", "\\xc3", "\\xca\\x7f\\xc0\\x00\\x00", "\\xcb\\x7f\\xf0\\x00\\x00\\x00\\x00\\x00\\x00",
                  "\\xcf\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff", "\\xd3\\x80\\x00\\x00\\x00\\x00\\x00\\x00\\x00", "\\xa1a", "\\xd9\\x20", "\\xda\\x00\\xfb",
                  "\\xdb\\xff\\xff\\xff\\xff", "\\xc4\\x10", "\\x91", "\\xdc\\xff\\xff", "\\xdd\\xff\\xff\\xff\\xff", "\\x81\\xa1a", "\\x81\\x81",
                  "\\xde\\xff\\xff", "\\xdf\\xff\\xff\\xff\\xff", "\\xd4\\x00", "\\xd8\\x00", "\\xc7\\xff"],
        # The key's number, then the operation: insert with a kind and a size, and the others as in `session`.
        "session": ["\\x00\\x00\\x00\\x7f\\xff\\xff\\xff\\xff", "\\x00\\x00\\x01\\xff", "\\x01\\x00\\x01\\xff", "\\x00\\x02", "\\x00\\x03", "\\x00\\x04", "\\x00\\x05\\x65",
                    "\\x00\\x06", "\\x00\\x07", "\\x00\\x08", "\\x00\\x09", "\\x00\\x0a"],
        # Five bytes a span, the highest first: a millisecond, a minute, five of them, an hour, a day, 400 days and one more.
        "lifetime": ["\\x00\\x00\\x00\\x00\\x00", *(hexed(ms.to_bytes(5, "big")) for ms in (
                         1, 60_000, 300_000, 3_600_000, 86_400_000, 34_560_000_000, 34_560_000_001)), "\\xff\\xff\\xff\\xff\\xff", "\\x00", "\\x01"],
    }.items():
        (ROOT / "dict").mkdir(exist_ok=True)
        (ROOT / "dict" / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in words))


main()
