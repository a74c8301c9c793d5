"""Draw the example images of the README.

python -m lab.examples
"""

from __future__ import annotations

from pathlib import Path

from ecoalign.bench.world.examples import EXAMPLES
from ecoalign.bench.world.scenes import draw

FOLDER = Path(__file__).parent.parent / "examples"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for example in EXAMPLES:
        path = FOLDER / f"{example.name}.png"
        draw(example.scene).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
