"""The table of all settings in docs/settings.md, made of the settings themselves.

python tests/support/settings_page.py
"""

from __future__ import annotations

from command import ROOT

from ecoalign import Settings

PAGE = ROOT / "docs" / "settings.md"

_HEAD = "| name | default | range | meaning |\n| --- | --- | --- | --- |\n"


def rows() -> list[str]:
    """A line of the table for each setting."""
    return [
        f"| `{row.name}` | `{row.value}` | {row.range.replace('|', 'or')} | {row.description} |"
        for row in Settings().explain()
    ]


def page(text: str) -> str:
    """`text` with the table as it has to be."""
    before, head, after = text.partition(_HEAD)
    if not head:
        raise ValueError(f"{PAGE} has no table of settings")
    rest = after.split("\n")
    while rest and rest[0].startswith("| `"):
        del rest[0]
    return before + head + "\n".join([*rows(), *rest])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
