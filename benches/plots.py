#!/usr/bin/env python3
"""Draws what `cargo bench --all-features --bench scale` printed: benches/plots.py docs/plots < scale.json

One SVG per question, both axes logarithmic.
"""

import json
import math
import pathlib
import sys

COLOURS = ["#0b62a4", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e", "#a16207"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 78, 150, 44, 52


def short(value):
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def ticks(low, high):
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [10.0**e for e in exponents if low <= 10.0**e * 1.0001 and 10.0**e <= high * 1.0001] or [low, high]


def chart(path, title, across, up, series):
    points = [point for line in series.values() for point in line]
    x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
    y0, y1 = min(y for _, y in points) / 1.3, max(y for _, y in points) * 1.3
    # Of one point alone there is nothing to spread.
    part = lambda value, low, high: math.log(value / low) / math.log(high / low) if high > low else 0.5
    scale = lambda value, low, high, start, end: start + part(value, low, high) * (end - start)
    at_x = lambda x: scale(x, x0, x1, LEFT, WIDTH - RIGHT)
    at_y = lambda y: scale(y, y0, y1, HEIGHT - BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16" font-weight="bold" fill="#111827">{title}</text>',
    ]
    for y in ticks(y0, y1):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at_y(y) + 4:.1f}" text-anchor="end" fill="#374151">{short(y)}</text>')
    for x in ticks(x0, x1):
        out.append(f'<line x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#f3f4f6"/>')
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#374151">{short(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle" fill="#374151">{across}</text>')
    out.append(f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" fill="#374151">{up}</text>')
    labels = []
    for (name, line), colour in zip(series.items(), COLOURS):
        way = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        out.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        labels.append([at_y(line[-1][1]) + 4, at_x(line[-1][0]) + 8, name, colour])
    labels.sort()
    for above, below in zip(labels, labels[1:]):
        below[0] = max(below[0], above[0] + 15)
    out += [f'<text x="{max(x, 0):.1f}" y="{y:.1f}" fill="{colour}">{name}</text>' for y, x, name, colour in labels]
    pathlib.Path(path).write_text("\n".join([*out, "</svg>"]) + "\n")
    print(path)


def figure(microseconds):
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.1f}"


def lines(points, *names):
    return {name: [(p["x"], p[name]) for p in points if p.get(name)] for name in names}


def main():
    found, folder = json.load(sys.stdin), pathlib.Path(sys.argv[1])
    chart(folder / "size.svg", "A request by the size of its session", "bytes of data", "nanoseconds", lines(found["size"], "read", "write"))
    chart(folder / "keys.svg", "Loading by the number of keys in the ring", "keys", "nanoseconds",
          lines(found["keys"], "sealed by the first", "sealed by the last"))
    chart(folder / "cookies.svg", "Loading by the number of cookies in the request", "cookies", "nanoseconds",
          lines(found["cookies"], "of other names", "forged ones of ours"))
    for what, name, title, up in (
        ("read", "reads", "A request that reads a stored session", "microseconds"),
        ("write", "writes", "A request that changes a stored session", "microseconds"),
        ("bytes", "memory", "Memory per stored session", "bytes a session"),
    ):
        series = {s["store"]: [(p["x"], p[what]) for p in s["points"] if p[what]] for s in found["stores"]}
        chart(folder / f"{name}.svg", f"{title}, by the number of sessions", "sessions in the store", up,
              {store: line for store, line in series.items() if line})
    print("\n" + "; ".join(f"{name} {what}" for name, what in found["machine"].items()))
    print("\n| store | sessions | a request that reads, µs | one that writes, µs | bytes a session | filled per second | not in time |\n"
          "|---|---|---|---|---|---|---|")
    for store in found["stores"]:
        for p in store["points"]:
            size = f"{p['bytes']:,}" if p["bytes"] is not None else "not told"
            print(f"| {store['store']} | {p['x']:,} | {figure(p['read'])} | {figure(p['write'])} | {size} "
                  f"| {p['filled per second']:,.0f} | {p['failed']} |")
    print("\n| a request; where there is a store, it is in memory | reads, ns | writes, ns | name + value of the cookie, bytes |\n|---|---|---|---|")
    for what, p in found["site"].items():
        print(f"| {what} | {p['read']:,.0f} | {p['write']:,.0f} | {p['cookie']} |")
    print("\n| in Redis | bytes each |\n|---|---|")
    for what, size in found["kept"].items():
        print(f"| {what} | {size:,} |" if size is not None else f"| {what} | not told |")


if __name__ == "__main__":
    main()
