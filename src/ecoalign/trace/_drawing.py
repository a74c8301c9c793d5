"""A run as one still picture: an SVG that stands alone in a file or in the middle of a page."""

from __future__ import annotations

import hashlib
import html
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from ecoalign._text import harmless, short
from ecoalign.trace import look
from ecoalign.trace._story import Node, Story

__all__ = ["drawing"]

Theme = Literal["light", "dark", "auto"]

_Place = tuple[float, float]

_CARD_W, _CARD_H, _TEXT_X = 184.0, 60.0, 50.0
_LAYER, _ROW = 228.0, 84.0
_EDGE = 24.0
_LEAST_WIDTH = 620.0
_THUMB = 150.0
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

_STYLE = """
text{font:12px FONT;fill:var(--ink)}
.quiet{fill:var(--quiet)}
.cost{font-size:10.5px;fill:var(--quiet)}
.asked{font-size:14px;fill:var(--quiet)}
.said{font-size:21px;font-weight:650}
.tag{font-size:10.5px;font-weight:700;paint-order:stroke;stroke:var(--page);stroke-width:5px;stroke-linejoin:round}
.page{fill:var(--page);stroke:var(--rule)}
.edge{fill:none;stroke:var(--edge);stroke-width:1.5}
.edge.on{stroke:var(--ink);stroke-width:4}
.edge.cut{stroke-dasharray:6 4}
.edge.into{stroke-width:2;stroke-dasharray:1.5 4.5;stroke-linecap:round}
.card{fill:var(--card);stroke:var(--edge);stroke-width:1.3}
.draft .card{stroke-dasharray:10 3 2 3}
.pruned .card{stroke-dasharray:6 4;stroke:var(--quiet)}
.merged .card{stroke-width:2;stroke-dasharray:1.5 4;stroke-linecap:round}
.path .card{stroke:var(--ink);stroke-width:3;stroke-dasharray:none}
.path .words{font-weight:600}
.pruned .words,.merged .words{fill:var(--quiet)}
.ring{fill:none;stroke:var(--ink);stroke-width:1.2}
.shape{stroke:var(--ink);stroke-opacity:.55}
.merged .shape{fill-opacity:.25}
.icon{fill:none;stroke-width:1.6;stroke-linecap:round;stroke-linejoin:round}
.merged .icon{stroke:var(--ink)}
.cross{fill:none;stroke:var(--ink);stroke-width:2.2;stroke-linecap:round}
.back{fill:none;stroke:#14181c;stroke-width:3}
.region{fill:none;stroke:#ffd84d;stroke-width:1.6}
"""


def drawing(
    story: Story,
    *,
    theme: Theme = "auto",
    images: Mapping[str, str] | None = None,
    title: bool = True,
    note: str = "",
) -> str:
    """The graph of a run as an SVG element: the same shapes, colours and outlines as on the page.

    Its style and ids are its own, so that several can stand in one page.

    Args:
        story: of a run that has ended or goes on; without thoughts only the title is drawn.
        theme: "auto" follows the reader's.
        images: `data:` URIs by the SHA-256 that the trace has; the regions that were looked at are
            drawn on them.
        title: whether question, answer and spending stand above, and the legend below.
        note: put into the description, such as the command that made it.
    """
    nodes = list(story.nodes.values())
    places = story.layout()
    thumbs = _thumbs(story, images or {}) if title else []
    left = _EDGE + (max(w for w, _ in (size for _, _, size in thumbs)) + 24 if thumbs else 0)
    head, top = _heading(story, left) if title else ([], 14.0)
    right = max((x for x, _ in places.values()), default=0.0) * _LAYER + _CARD_W
    if any(node.into for node in nodes):
        right += 30.0  # the arrows beside the last layer
    below = max((y for _, y in places.values()), default=-1.0) * _ROW
    width = max(left + right + _EDGE if nodes else 0.0, _LEAST_WIDTH if title else 0.0)
    graph_left = left + max(0.0, (width - left - _EDGE - right) / 2)
    bottom = top + (below + _CARD_H if nodes else 0.0)
    if thumbs:
        bottom = max(bottom, _EDGE + sum(h + 12 for _, _, (_, h) in thumbs))
    foot, height = _legend(nodes, bottom + 34, width) if title and nodes else ([], bottom + 18)

    def at(name: str) -> _Place:
        x, y = places[name]
        return graph_left + x * _LAYER, top + y * _ROW

    most = max((node.utility or 0.0 for node in nodes), default=1.0)
    body = [
        f'<rect class="page" x=".5" y=".5" width="{width - 1:.1f}" height="{height - 1:.1f}" '
        'rx="12"/>'
    ]
    body += head
    y = _EDGE
    for uri, marks, (w, h) in thumbs:
        body.append(_thumb(uri, marks, _EDGE, y, w, h))
        y += h + 12
    body += [edge for node in nodes for edge in _edges(node, story, at)]
    body += [_card(node, at(node.id), most) for node in nodes]
    body += foot
    return _whole(body, width, height, theme, _summary(story), note)


def _whole(
    body: Sequence[str], width: float, height: float, theme: Theme, summary: str, note: str
) -> str:
    inner = "".join(body)
    name = "eco-" + hashlib.sha256(f"{theme}{inner}".encode()).hexdigest()[:10]

    def those(table: Mapping[str, str]) -> str:
        return "".join(f"--{key}:{value};" for key, value in table.items())

    first = look.DARK if theme == "dark" else look.LIGHT
    rules = [f"#{name}{{{those(first)}}}"]
    if theme == "auto":
        rules.append(f"@media (prefers-color-scheme:dark){{#{name}{{{those(look.DARK)}}}}}")
    for line in _STYLE.replace("FONT", _FONT).strip().splitlines():
        selectors, _, rest = line.partition("{")
        rules.append(",".join(f"#{name} {one}" for one in selectors.split(",")) + "{" + rest)
    rules += [
        f"#{name} .s{i} .shape,#{name} .s{i}.shape{{fill:var(--s{i})}}"
        f"#{name} .s{i} .icon{{stroke:var(--on{i})}}"
        for i in range(len(look.BOUNDS) + 1)
    ]
    described = f"<desc>{_escaped(note)}</desc>" if note else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'style="max-width:100%;height:auto" aria-labelledby="{name}-t">'
        f'<title id="{name}-t">{_escaped(summary)}</title>{described}'
        f"<style>{''.join(rules)}</style>{inner}</svg>\n"
    )


# -- what stands above -----------------------------------------------------------------------------


def _heading(story: Story, left: float) -> tuple[list[str], float]:
    """Question, answer and spending from `left` on, and the y below them."""
    run, result, gauges = story.run, story.result or {}, story.gauges
    lines: list[tuple[str, str, float]] = []
    for line in _wrapped(str(run.get("question", "")), 560, 2, 14):
        lines.append(("asked", line, 20))
    said = str(result.get("error") or result.get("answer") or "")
    for line in _wrapped(said, 560, 2, 21):
        lines.append(("said", line, 28))
    spent = [f"{gauges.tokens:,} tokens"]
    if limit := (run.get("budget") or {}).get("tokens"):
        spent[0] += f" of {limit:,}"
    if gauges.usd:
        spent.append(f"${gauges.usd:.4f}")
    spent.append(f"{gauges.seconds:.1f} s")
    spent.append(f"{gauges.calls} calls, {gauges.in_line} in line")
    if (safety := result.get("safety")) is not None:
        spent.insert(0, f"safety {_signed(safety)}")
    lines.append(("quiet", f"{_ending(story)}: {'; '.join(spent)}", 20))
    out, y = [], _EDGE - 6
    for cls, text, step in lines:
        y += step
        out.append(_text(left, y, text, cls))
    return out, y + 30


def _ending(story: Story) -> str:
    result = story.result
    if result is None:
        return "Under way"
    if result.get("error"):
        return "Failed"
    if result.get("refused"):
        return "Refused"
    ways = {
        "drafted": "The draft stood",
        "searched": "Found by a search",
        "budget": "The budget ended the search",
    }
    return ways.get(result.get("ended", ""), "Answered")


def _summary(story: Story) -> str:
    """The picture in words, for who does not see it."""
    result = story.result or {}
    parts = [f"Search for an answer to: {short(str(story.run.get('question', '')), 120)}"]
    if answer := result.get("answer"):
        parts.append(f"{_ending(story)}: {short(str(answer), 160)}")
    pruned = sum("pruned" in node.marks for node in story.nodes.values())
    parts.append(f"{len(story.nodes)} thoughts, {pruned} pruned.")
    if story.path:
        steps = [story.nodes[name] for name in story.path if name in story.nodes]
        chain = " > ".join(f"{look.KINDS.get(n.kind, n.kind)}: {short(n.text, 50)}" for n in steps)
        parts.append(f"Winning path: {chain}")
    return " ".join(parts)


_Thumb = tuple[str, list[tuple[float, float, float, float]], tuple[float, float]]


def _thumbs(story: Story, images: Mapping[str, str]) -> list[_Thumb]:
    """URI, regions and size in px of each image that is given."""
    out: list[_Thumb] = []
    for index, info in enumerate(story.run.get("images", ())):
        uri = images.get(info["sha256"], "")
        if not uri.startswith("data:image/"):
            continue
        scale = _THUMB / max(info["width"], info["height"])
        size = info["width"] * scale, info["height"] * scale
        regions = [
            (r["x0"], r["y0"], r["x1"], r["y1"])
            for node in story.nodes.values()
            if (r := node.region) and r["image"] == index and "merged" not in node.marks
        ]
        out.append((uri, list(dict.fromkeys(regions)), size))
    return out


def _thumb(
    uri: str,
    regions: Sequence[tuple[float, float, float, float]],
    x: float,
    y: float,
    w: float,
    h: float,
) -> str:
    parts = [
        f'<image href="{_escaped(uri)}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" '
        'preserveAspectRatio="none"/>'
    ]
    for x0, y0, x1, y1 in regions:
        place = (
            f'x="{x + x0 * w:.1f}" y="{y + y0 * h:.1f}" '
            f'width="{(x1 - x0) * w:.1f}" height="{(y1 - y0) * h:.1f}" rx="2"'
        )
        parts.append(f'<rect class="back" {place}/><rect class="region" {place}/>')
    return "".join(parts)


# -- the graph -------------------------------------------------------------------------------------


def _edges(node: Node, story: Story, at: Callable[[str], _Place]) -> list[str]:
    x1, y1 = at(node.id)
    out = []
    for parent in node.parents:
        if parent not in story.nodes:
            continue
        x0, y0 = at(parent)
        on = (parent, node.id) in zip(story.path, story.path[1:], strict=False)
        cls = "edge on" if on else "edge cut" if "pruned" in node.marks else "edge"
        sx, sy, ex, ey = x0 + _CARD_W, y0 + _CARD_H / 2, x1, y1 + _CARD_H / 2
        bend = max(18.0, (ex - sx) / 2)
        curve = _curve(sx, sy, sx + bend, sy, ex - bend, ey, ex, ey)
        out.append(f'<path class="{cls}" d="{curve}"/>')
    if node.into and node.into in story.nodes:
        x0, y0 = at(node.into)
        down = 1.0 if y0 > y1 else -1.0
        if abs(x0 - x1) < 1:
            x, sy, ey = x1 + _CARD_W, y1 + _CARD_H / 2, y0 + _CARD_H / 2 - down * 14
            curve = _curve(x, sy, x + 34, sy, x + 34, ey, x, ey)
            curve += f"M{x + 7:.1f} {ey - 5:.1f}L{x:.1f} {ey:.1f}L{x + 7:.1f} {ey + 5:.1f}"
        else:
            sx, sy = x1 + _CARD_W / 2, y1 + (_CARD_H if down > 0 else 0)
            ex, ey = x0 + _CARD_W / 2, y0 + (0 if down > 0 else _CARD_H)
            back = ey - down * 7
            curve = _curve(sx, sy, sx, sy + down * 26, ex, ey - down * 26, ex, ey)
            curve += f"M{ex - 5:.1f} {back:.1f}L{ex:.1f} {ey:.1f}L{ex + 5:.1f} {back:.1f}"
        out.append(f'<path class="edge into" d="{curve}"/>')
    return out


def _curve(*places: float) -> str:
    """A cubic curve by its four points."""
    x0, y0, *rest = places
    return f"M{x0:.1f} {y0:.1f}C" + " ".join(f"{one:.1f}" for one in rest)


def _card(node: Node, place: _Place, most: float) -> str:
    marks = [mark for mark in look.MARKS if mark in node.marks]
    parts = [
        f'<g class="s{look.shade(node.safety)} {" ".join(marks)}" '
        f'transform="translate({place[0]:.1f} {place[1]:.1f})">'
    ]
    if "confirmed" in marks:
        parts.append(
            f'<rect class="ring" x="-4" y="-4" width="{_CARD_W + 8:.0f}" '
            f'height="{_CARD_H + 8:.0f}" rx="11"/>'
        )
    parts.append(f'<rect class="card" width="{_CARD_W:.0f}" height="{_CARD_H:.0f}" rx="8"/>')
    size = 13.0 if node.kind == "root" else look.radius(node.utility, most)
    parts.append(_glyph(node.kind, size, 25, 30, crossed="pruned" in marks))
    said = node.text or look.KINDS.get(node.kind, node.kind)
    wide = 13.2 if "path" in marks else 12.5  # it is bold
    for i, line in enumerate(_wrapped(said, _CARD_W - _TEXT_X - 8, 2, wide)):
        parts.append(_text(_TEXT_X, 20 + 15 * i, line, "words"))
    cost = f"{node.cost:,.0f} tok"
    if node.safety is not None:
        cost += f" · safety {_signed(node.safety)}"
    parts.append(_text(_TEXT_X, 52, cost, "cost"))
    tags = [
        mark_word(node, mark)
        for mark in marks
        if mark != "path" and not (mark == "unsafe" and "pruned" in marks)
    ]
    if tags:
        parts.append(_text(2, -8, " · ".join(tags), "tag"))
    return "".join(parts) + "</g>"


def mark_word(node: Node, mark: str) -> str:
    """What is said of a mark on a thought: "confirmed ×2", "merged into t3"."""
    if mark == "confirmed" and len(node.verdicts) > 1:
        return f"{look.MARKS[mark]} ×{len(node.verdicts)}"
    if mark == "merged" and node.into:
        return f"{look.MARKS[mark]} into {node.into}"
    return look.MARKS[mark]


def _glyph(kind: str, size: float, x: float, y: float, *, crossed: bool = False) -> str:
    known = kind if kind in look.SHAPES else "think"
    shape = f'<path class="shape" d="{look.scaled(look.SHAPES[known], size)}"/>'
    icon = f'<path class="icon" d="{look.scaled(look.ICONS[known], size)}"/>'
    cross = f'<path class="cross" d="{look.scaled(look.CROSS, size + 1)}"/>'
    inner = shape + (cross if crossed else icon)
    return f'<g transform="translate({x:.1f} {y:.1f})">{inner}</g>'


# -- the legend ------------------------------------------------------------------------------------


def _legend(nodes: Sequence[Node], y: float, width: float) -> tuple[list[str], float]:
    """What the colours and outlines of this drawing mean, and the height of it all."""
    out: list[str] = []
    x = _EDGE

    def room(wanted: float) -> None:
        nonlocal x, y
        if x > _EDGE and x + wanted > width - _EDGE:
            x, y = _EDGE, y + 24

    room(210)
    out.append(_text(x, y + 4, "unsafe", "cost"))
    for i in range(len(look.BOUNDS) + 1):
        out.append(
            f'<rect class="s{i} shape" x="{x + 42 + 14 * i:.1f}" y="{y - 5:.1f}" width="14" '
            'height="10" stroke="none"/>'
        )
    out.append(_text(x + 146, y + 4, "safe", "cost"))
    x += 196
    for kind in look.KINDS:
        if any(node.kind == kind for node in nodes):
            words = look.KINDS[kind]
            room(34 + _width(words, 10.5) + 12)
            out.append(f'<g class="s6">{_glyph(kind, 7, x + 9, y)}</g>')
            out.append(_text(x + 23, y + 4, words, "cost"))
            x += 34 + _width(words, 10.5)
    for mark in ("path", "draft", "pruned", "merged", "confirmed"):
        if any(mark in node.marks for node in nodes):
            words = look.MARKS[mark]
            room(46 + _width(words, 10.5) + 12)
            place = f'x="{x - 3:.1f}" y="{y - 10:.1f}"'
            ring = (
                f'<rect class="ring" {place} width="34" height="20" rx="6"/>'
                if mark == "confirmed"
                else ""
            )
            out.append(
                f'<g class="{mark}">{ring}<rect class="card" x="{x:.1f}" y="{y - 7:.1f}" '
                'width="28" height="14" rx="4"/></g>'
            )
            out.append(_text(x + 36, y + 4, words, "cost"))
            x += 50 + _width(words, 10.5)
    words = "size: utility"
    room(_width(words, 10.5) + 12)
    out.append(_text(x, y + 4, words, "cost"))
    return out, y + 24


# -- text ------------------------------------------------------------------------------------------


def _text(x: float, y: float, text: str, cls: str) -> str:
    return f'<text class="{cls}" x="{x:.1f}" y="{y:.1f}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    # XML has no such characters at all, whatever they are escaped as.
    known = harmless(text).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    return html.escape(known, quote=True)


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.2f}"


_NARROW = frozenset("iljtfrI.,:;'|!()[] ")
_BROAD = frozenset("mwMW@%")


def _width(text: str, size: float) -> float:
    """About how wide a text is in px; nothing here can measure it."""
    em = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in {"W", "F"}:
            em += 1.0
        elif char in _NARROW:
            em += 0.33
        elif char in _BROAD:
            em += 0.92
        elif char.isupper():
            em += 0.7
        else:
            em += 0.6
    return em * size


def _wrapped(text: str, width: float, most: int, size: float) -> list[str]:
    """`text` in at most `most` lines of `width` px."""
    rest = short(text, 400)
    lines: list[str] = []
    while rest and len(lines) < most:
        if _width(rest, size) <= width:
            return [*lines, rest]
        last = len(lines) == most - 1
        end = len(rest)
        while end > 1 and _width(rest[:end] + ("…" if last else ""), size) > width:
            end -= 1
        space = rest.rfind(" ", 0, end + 1)
        if not last and space > end / 3:
            end = space
        lines.append(rest[:end].rstrip() + ("…" if last else ""))
        rest = rest[end:].lstrip()
    return lines
