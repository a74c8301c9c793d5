"""docs/prompts.md shows the prompts as they are."""

from __future__ import annotations

from prompt_page import PAGE, page


def test_the_page_of_prompts_is_made_of_the_prompts() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python tests/support/prompt_page.py"
