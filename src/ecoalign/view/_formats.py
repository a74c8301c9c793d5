"""A run as text: a tree for a terminal, Mermaid, Graphviz, and plain JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ecoalign._text import harmless, short
from ecoalign.trace import Node, Story, look, mark_word

__all__ = ["TreeLine", "graphviz", "mermaid", "state", "tree"]


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A thought in a tree."""

    branch: str
    """The lines before it, from the left edge."""
    node: Node
    """The thought."""
    text: str
    """Its text on one line, harmless."""
    scores: str
    """Safety, utility and cost, in words."""
    marks: str
    """What it is and became; "" if nothing beside a thought."""


def tree(story: Story, most: int = 72) -> list[TreeLine]:
    """The graph as a tree, each thought under the first that it was made from.

    Args:
        story: of the run.
        most: characters of a text.
    """
    children: dict[str, list[Node]] = {}
    tops: list[Node] = []
    for node in story.nodes.values():
        if node.parents and node.parents[0] in story.nodes:
            children.setdefault(node.parents[0], []).append(node)
        else:
            tops.append(node)
    lines: list[TreeLine] = []
    # A stack and no recursion: a path may be longer than Python's stack.
    waiting = [(node, "", "") for node in reversed(tops)]
    while waiting:
        node, branch, below = waiting.pop()
        lines.append(TreeLine(branch, node, short(node.text, most), _scores(node), _words(node)))
        kin = children.get(node.id, [])
        for child in reversed(kin):
            last = child is kin[-1]
            waiting.append(
                (child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
            )
    return lines


def _scores(node: Node) -> str:
    parts = []
    if node.safety is not None:
        parts.append(f"safety {node.safety:+.2f}")
    if node.utility is not None and node.kind != "root":
        parts.append(f"utility {node.utility:.2f}")
    parts.append(f"{node.cost:,.0f} tokens")
    return ", ".join(parts)


def _words(node: Node) -> str:
    words = [
        mark_word(node, mark)
        for mark in look.MARKS
        if mark in node.marks and not (mark == "path" and "answer" in node.marks)
    ]
    if node.kind == "fuse" and len(node.parents) > 1 and "fused" not in node.marks:
        words.append(look.MARKS["fused"])
    if len(node.parents) > 1:
        words.append("from " + " and ".join(node.parents))
    return ", ".join(words)


def state(story: Story) -> dict[str, Any]:
    """What the run knew at its end, or knows now, as plain JSON: `run`, `result`, `nodes`, `path`,
    `frontier`, `gauges` and `layout`; see `Story`."""
    return {
        "run": story.run,
        "result": story.result,
        "nodes": [asdict(node) for node in story.nodes.values()],
        "path": story.path,
        "frontier": story.frontier,
        "gauges": asdict(story.gauges),
        "layout": {name: list(place) for name, place in story.layout().items()},
    }


# -- edges, the same in both languages -------------------------------------------------------------


def _edges(story: Story) -> Iterator[tuple[str, str, str]]:
    """From, to, and how: "path", "plain", "cut" or "into"."""
    steps = set(zip(story.path, story.path[1:], strict=False))
    for node in story.nodes.values():
        for parent in node.parents:
            if parent in story.nodes:
                cut = "pruned" in node.marks or "merged" in node.marks
                how = "path" if (parent, node.id) in steps else "cut" if cut else "plain"
                yield parent, node.id, how
        if node.into and node.into in story.nodes:
            yield node.id, node.into, "into"


def _label(node: Node, escape: Callable[[str], str], line: str) -> str:
    """Three lines: what it is, what it says, what it scored."""
    words = f"{node.id} {look.KINDS.get(node.kind, node.kind)}"
    if marks := _words(node):
        words += f" ({marks})"
    parts = [words, short(node.text, 60), _scores(node)]
    return line.join(escape(part) for part in parts if part)


# -- Mermaid ---------------------------------------------------------------------------------------

_MERMAID = {
    "root": ('["', '"]'),
    "strategy": ('{{"', '"}}'),
    "think": ('("', '")'),
    "look": ('(["', '"])'),
    "fuse": ('{"', '"}'),
    "answer": ('[["', '"]]'),
    "refusal": ('[/"', '"/]'),
}

_MERMAID_EDGES = {"path": "==>", "plain": "-->", "cut": "-.->", "into": "-. same as .->"}

_PLAIN = re.compile(r"[^\w .,+−·-]")


def mermaid(story: Story) -> str:
    """A Mermaid flowchart. What a model wrote is in it as characters, never as syntax."""
    lines = ["flowchart LR"]
    for node in story.nodes.values():
        start, end = _MERMAID.get(node.kind, _MERMAID["think"])
        lines.append(f"  {node.id}{start}{_label(node, _entities, '<br/>')}{end}")
    lines += [f"  {a} {_MERMAID_EDGES[how]} {b}" for a, b, how in _edges(story)]
    for i in range(len(look.BOUNDS) + 1):
        if names := [n.id for n in story.nodes.values() if look.shade(n.safety) == i]:
            fill, ink = look.LIGHT[f"s{i}"], look.LIGHT[f"on{i}"]
            lines.append(f"  classDef s{i} fill:{fill},color:{ink},stroke:#1c2127")
            lines.append(f"  class {','.join(names)} s{i}")
    styles = {
        "path": "stroke-width:4px",
        "pruned": "stroke-dasharray:6 4,opacity:0.7",
        "merged": "stroke-dasharray:2 4,opacity:0.7",
    }
    for mark, style in styles.items():
        if names := [n.id for n in story.nodes.values() if mark in n.marks]:
            lines.append(f"  classDef {mark} {style}")
            lines.append(f"  class {','.join(names)} {mark}")
    return "\n".join(lines) + "\n"


def _entities(text: str) -> str:
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", " ".join(harmless(text).split()))


# -- Graphviz --------------------------------------------------------------------------------------

_DOT = {
    "root": "box",
    "strategy": "hexagon",
    "think": "ellipse",
    "look": "cds",
    "fuse": "diamond",
    "answer": "note",
    "refusal": "octagon",
}

_DOT_EDGES = {
    "path": "penwidth=3",
    "plain": "",
    "cut": "style=dashed",
    "into": 'style=dotted, constraint=false, label="same as"',
}


def graphviz(story: Story) -> str:
    """A Graphviz digraph. What a model wrote is in it as quoted text, never as syntax."""
    lines = [
        "digraph search {",
        '  graph [rankdir=LR, fontname="sans-serif"]',
        '  node [fontname="sans-serif", fontsize=11, style=filled]',
        '  edge [fontname="sans-serif", fontsize=9]',
    ]
    for node in story.nodes.values():
        shade = look.shade(node.safety)
        style = "filled"
        if "pruned" in node.marks:
            style += ",dashed"
        elif "merged" in node.marks:
            style += ",dotted"
        bold = "penwidth=3" if "path" in node.marks else "penwidth=1"
        rings = 2 if "confirmed" in node.marks else 1
        lines.append(
            f'  {node.id} [label="{_label(node, _quoted, chr(92) + "n")}", '
            f'shape={_DOT.get(node.kind, "ellipse")}, style="{style}", {bold}, '
            f'peripheries={rings}, fillcolor="{look.LIGHT[f"s{shade}"]}", '
            f'fontcolor="{look.LIGHT[f"on{shade}"]}"]'
        )
    lines += [f"  {a} -> {b} [{_DOT_EDGES[how]}]" for a, b, how in _edges(story)]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    # A backslash begins an escape of a label, and an ampersand an entity.
    line = " ".join(harmless(text).split())
    return line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
