#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets, with the independent implementation of the wire format: fuzz/seeds.py"""

import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "tests"))
import wire_format as wire  # noqa: E402

KEY, NAME = bytes([1]) * 32, "s"


def write(target, seeds):
    folder = ROOT / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        (folder / name).write_bytes(seed)


def cookie(header, entries):
    return wire.b64(wire.seal(KEY, NAME, bytes(range(24)), wire.pad(wire.encode(header, entries))))


def main():
    fresh = {"created_at": 1767225600000, "anchor": 1767225600000, "sealed_at": 1767225600000}
    headers = {
        "plain": wire.header(**fresh),
        "subject": wire.header(**fresh, subject="ada@example.com", generation=7),
        "own": wire.header(**fresh, own_duration=True, persistent=True, duration=3_600_000),
        "reference": wire.header(**fresh, in_store=True),
        "old": wire.header(),
    }
    entries = [["n", "01"], ["user", "a3616461"], ["ключ", "81a161c0"]]
    values = {name: cookie(header, [] if name == "reference" else entries) for name, header in headers.items()}
    write("envelope", {name: value.encode() for name, value in values.items()})
    write("cookie_header", {
        **{name: f"s={value}".encode() for name, value in values.items()},
        "others": f"theme=dark; s={values['plain']}; x=\"1\"\ns=garbage".encode(),
        "twice": f"s={values['plain']}; s={values['subject']}; s={values['old']}".encode(),
        "foreign": b"a=\xff\xfe; s=" + values["plain"].encode(),
    })
    write("record", {
        **{name: wire.pad(wire.encode(header, entries)) for name, header in headers.items()},
        "long": wire.pad(wire.encode(headers["plain"], [["k" * 251, "da00fb" + "61" * 251]])),
        "many": wire.pad(wire.encode(headers["plain"], [[f"{n:03}", "01"] for n in range(251)])),
    })
    body = wire.encode(headers["plain"], entries)[60:]
    rows = {"live": b"\x01\x07\0\0\0" + body, "empty": b"\x01\0\0\0\0\0", "ended": b"\x02", "generation": b"\x03" + bytes(range(1, 9))}
    write("row", {name: wire.pad(row) for name, row in rows.items()})
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
    for target, words in {
        "cookie_header": ["s=", "; ", "=", "\\x0a", "AQ", values["plain"][:6]], "envelope": [values["plain"][:6], "AQ", "=", "-", "_"],
        "record": ["\\xfb", "\\xfc", "\\xfd", "n\\x01"], "row": ["\\x01", "\\x02", "\\x03", "\\xfb"],
        "value": ["\\xc0", "\\xd4", "\\xdf", "\\xdd", "\\xca"], "session": ["\\x00\\x01", "\\x0a", "\\x06"],
        "lifetime": ["\\x00\\x00\\x00", "\\xff\\xff"], "stored_row": ["\\x01\\x01", "\\x01\\x02", "\\x01\\x03", "\\xfb"],
    }.items():
        (ROOT / "dict").mkdir(exist_ok=True)
        (ROOT / "dict" / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in words))


main()
