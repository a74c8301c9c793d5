"""`python -m ecoalign`: the command line, where its script is not on the path."""

from __future__ import annotations

from ecoalign.cli import main

if __name__ == "__main__":
    main()
