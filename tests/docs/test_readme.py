"""The README is short, in the order in which a stranger reads, and true on a package index, too."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from command import ROOT
from documented import words

README = (ROOT / "README.md").read_text("utf-8")


def test_it_has_at_most_700_words_of_prose() -> None:
    """With its inline code counted, which is stricter than to leave that out."""
    assert words(re.sub(r"(?<!`)`(?!`)", "", README)) <= 700


def test_words_are_counted_without_code_tables_and_targets() -> None:
    page = "One `two` [three](four.md)\n\n| a | b |\n\n```sh\nfive\n```\n<!-- six --> 7\n"
    assert words(page) == 3


def test_it_says_first_things_first() -> None:
    """One sentence, a picture, the demonstration, for whom, models, Python, others, evidence."""
    parts = [
        "# EcoAlign\n",
        "<picture>",
        "<!-- ci: run -->",
        "--compare",
        "## Use it if",
        "**Don't**",
        "## A real model",
        "```python",
        "## Against what you would otherwise use",
        "## Evidence",
        "## More",
        "<!-- ci: test -->",
    ]
    places = [README.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    first = README.split("\n\n")[1]
    assert first.count(".") == 1
    assert first.endswith(".")


def test_evidence_is_five_lines() -> None:
    evidence = README.partition("## Evidence")[2].partition("\n## ")[0]
    assert len(re.findall(r"^- ", evidence, re.MULTILINE)) == 5


def test_its_pictures_are_there_light_and_dark_and_told_in_words() -> None:
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(pictures) == 2
    for name in pictures:
        root = ElementTree.parse(ROOT / name).getroot()  # noqa: S314  # ours
        assert root.tag.endswith("svg")
    assert re.search(r'<img alt="[^"]{20,}"', README)


def test_every_alternative_has_its_sources() -> None:
    page = (ROOT / "docs" / "alternatives.md").read_text("utf-8")

    def table(text: str) -> list[str]:
        start = text.index("| | hard budget")
        return text[start:].split("\n\n", maxsplit=1)[0].splitlines()

    assert table(README) == table(page)
    names = [re.sub(r"\*", "", row.split("|")[1]).strip() for row in table(page)[2:]]
    headings = " ".join(re.findall(r"^### (.*)$", page, re.MULTILINE)).lower()
    for name in names:
        assert name.partition(",")[0].lower() in headings
