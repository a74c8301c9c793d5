"""Links lead somewhere: to files and headings that are there. Outside links are in one list."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command import ROOT
from documented import PAGES, anchors, links

OUTSIDE = {
    host.strip()
    for host in (ROOT / "tests" / "docs" / "outside.txt").read_text("utf-8").splitlines()
    if host.strip() and not host.startswith("#")
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_a_page_of_the_site_links_to_no_file_beside_it(page: Path) -> None:
    """What is not in docs/ is not on the site: such a link goes to the repository."""
    assert [link for link in links(page) if link.startswith("..")] == []


def test_outside_links_are_all_in_one_list() -> None:
    """They are not fetched: the list is short enough to be read, and nothing else slips in."""
    found = {link.partition("#")[0] for page in PAGES for link in links(page) if "://" in link}
    assert found == OUTSIDE
    assert all(urlsplit(link).scheme == "https" for link in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_two_headings_of_a_page_are_the_same(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ .+$", text, re.MULTILINE)
    assert sorted(set(headings)) == sorted(headings)


def test_a_dead_link_and_a_dead_anchor_are_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n\n[a](#one-two-three) [b](#four) [c](no.md) `[d](e)`\n")
    assert links(page) == ["#one-two-three", "#four", "no.md"]
    assert anchors(page) == {"one-two-three"}


def test_no_page_is_left_out_of_the_site() -> None:
    config = (ROOT / "zensical.toml").read_text("utf-8")
    listed = re.findall(r'= "([\w-]+\.md)"', config)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
