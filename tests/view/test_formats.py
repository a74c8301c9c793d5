"""A run as text: nothing that a model wrote becomes syntax."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stories import grown

from ecoalign.trace import Story
from ecoalign.view import graphviz, mermaid, state, tree

HOSTILE = (
    'a"] ; evil [label="x\\" -->|b| </b><script> \\N \\n &amp; {} #35; `c` \x1b[2J \u202e end %%'
)

texts = st.text(st.characters(exclude_categories=()), max_size=40)

MERMAID_LINE = re.compile(
    r"""\ \ (t\d+(\["|\{\{"|\("|\(\["|\{"|\[\["|\[/")([\w .,+−·-]|\#\d+;|<br/>)*
          ("\]|"\}\}|"\)|"\]\)|"\}|"\]\]|"/\])
        |t\d+\ (==>|-->|-\.->|-\.\ same\ as\ \.->)\ t\d+
        |classDef\ \w+\ [\w\#:,.\- ]+
        |class\ [t\d,]+\ \w+)""",
    re.VERBOSE,
)

DOT_LINE = re.compile(
    r"""\ \ (t\d+\ \[label="([^"\\]|\\\\|\\"|\\n)*",\ [\w=\#",\ ]+\]
        |t\d+\ ->\ t\d+\ \[[\w=\#",\ ]*\]
        |(graph|node|edge)\ \[[\w=\#",.\- ]+\])""",
    re.VERBOSE,
)


@given(st.lists(texts, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_mermaid_is_made_of_our_syntax_alone(said: list[str]) -> None:
    lines = mermaid(Story.of(grown(14, texts=[*said, HOSTILE]))).split("\n")
    assert lines[0] == "flowchart LR"
    assert lines[-1] == ""
    for line in lines[1:-1]:
        assert MERMAID_LINE.fullmatch(line), line


@given(st.lists(texts, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_graphviz_is_made_of_our_syntax_alone(said: list[str]) -> None:
    lines = graphviz(Story.of(grown(14, texts=[*said, HOSTILE]))).split("\n")
    assert lines[0] == "digraph search {"
    assert lines[-2:] == ["}", ""]
    for line in lines[1:-2]:
        assert DOT_LINE.fullmatch(line), line


@pytest.mark.slow
def test_graphviz_itself_draws_it_as_it_is() -> None:
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("needs Graphviz: there is no dot")
    text = 'say "hi" \\N \\l &amp; <b>{x|y}</b>'
    story = Story.of(grown(30, texts=[text]))
    done = subprocess.run(
        [dot, "-Tsvg"], input=graphviz(story).encode(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr == b""
    drawn = ElementTree.fromstring(done.stdout)  # noqa: S314 - it is made here
    space = "{http://www.w3.org/2000/svg}"
    groups = [g for g in drawn.iter(f"{space}g") if g.get("class") == "node"]
    assert len(groups) == 30
    said = {one.text for one in drawn.iter(f"{space}text")}
    assert text in said


def test_the_tree_has_each_thought_once_and_says_what_became_of_it() -> None:
    story = Story.of(grown(60))
    lines = tree(story)
    assert sorted(line.node.id for line in lines) == sorted(story.nodes)
    seen: set[str] = set()
    for line in lines:
        assert all(parent in seen for parent in line.node.parents[:1])
        seen.add(line.node.id)
        if "pruned" in line.node.marks:
            assert "pruned" in line.marks
        if line.node.into:
            assert f"merged into {line.node.into}" in line.marks
    assert {line.node.id for line in lines if "path" in line.node.marks} == set(story.path)


def test_a_chain_of_thoughts_may_be_longer_than_pythons_stack() -> None:
    from ecoalign.trace import Node

    story = Story()
    for i in range(5000):
        parents = [f"t{i - 1}"] if i else []
        story.nodes[f"t{i}"] = Node(f"t{i}", "think", parents=parents, depth=i)
    assert len(tree(story)) == 5000


def test_json_is_plain_and_whole() -> None:
    story = Story.of(grown(20))
    body = json.loads(json.dumps(state(story), allow_nan=False))
    assert [node["id"] for node in body["nodes"]] == list(story.nodes)
    assert body["path"] == story.path
    assert body["result"]["answer"] == "It says: give way."
    assert set(body["layout"]) == set(story.nodes)
