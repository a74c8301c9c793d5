"""Draw the example images of the README.

python -m lab.examples
"""

from __future__ import annotations

from pathlib import Path

from ecoalign.bench.world.scenes import Scene, Shape, Sign, draw

FOLDER = Path(__file__).parent.parent / "examples"
SCENES = {
    # Two small signs: their digits are lost in the low-resolution view, so only a look helps.
    "signs.png": Scene(
        (Shape(1, "red", "circle"), Shape(3, "blue", "star"), Shape(7, "green", "triangle")),
        (Sign(2, "42", big=False), Sign(6, "17", big=False)),
        seed=14,
    ),
    # A request that arises only from the image and the question together.
    "thing.png": Scene(
        (Shape(0, "yellow", "square"), Shape(8, "purple", "cross")),
        (Sign(5, "owl", big=False),),
        seed=12,
    ),
    "shapes.png": Scene(
        (
            Shape(0, "red", "circle"),
            Shape(2, "blue", "circle"),
            Shape(4, "green", "square"),
            Shape(6, "orange", "circle"),
        ),
        (),
        seed=13,
    ),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, scene in SCENES.items():
        draw(scene).save(FOLDER / name, optimize=True)
        print(FOLDER / name)


if __name__ == "__main__":
    main()
