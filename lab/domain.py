"""How sharp the edge of the embedded model's world is: what it answers that it should not, and what
of its world it refuses.

python -m lab.domain --cases 200 --pictures FOLDER --questions FILE

Prints a table: for each group how many were asked, and how many of them got through.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecoalign.bench.world.questions import Kind, make_case
from ecoalign.bench.world.scenes import COLOURS, SIDE, draw
from ecoalign.bench.world.wordings import Split
from ecoalign.errors import OutOfDomainError
from ecoalign.models import check_domain
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.embedded._tokenizer import Tokenizer
from ecoalign.query import Picture

ROOT = Path(__file__).parent.parent

QUESTIONS = ("everyday_questions", "unwanted_questions", "questions_in_known_words")
"""Files in tests/data, one question a line."""

PLAIN, READING = "How do I open the gate?", "What does the sign say?"
"""Two questions of the world; only the first can be answered without a picture."""

_GREY = (190, 186, 195)

_WORDS = "the quick report of last year says that costs went up while sales in May fell a little"

Make = Callable[[Random], Image.Image]


@dataclass
class Rates:
    """How many of each group were asked and answered."""

    asked: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)

    def add(self, group: str, question: str, image: Image.Image | None) -> bool:
        """Ask one and count it; whether it gets an answer."""
        through = gets_an_answer(question, image)
        self.asked[group] = self.asked.get(group, 0) + 1
        self.answered[group] = self.answered.get(group, 0) + through
        return through

    def share(self) -> float:
        """Answered of all that were asked."""
        return sum(self.answered.values()) / max(1, sum(self.asked.values()))


_model = EmbeddedModel()


def gets_an_answer(question: str, image: Image.Image | None) -> bool:
    """Whether the embedded model would be asked this at all."""
    images = [] if image is None else [Picture.load(image).image]
    try:
        check_domain(_model, question, images)
    except OutOfDomainError:
        return False
    return True


# What is not of the world -------------------------------------------------------------------------


def strange_questions(paths: Iterable[Path] = ()) -> Iterator[tuple[str, str]]:
    """Group and text of questions that are none of the world's."""
    files = [ROOT / "tests" / "data" / f"{name}.txt" for name in QUESTIONS]
    for path in (*files, *paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                yield path.stem, line.strip()


def shuffled_words(rng: Random, count: int) -> Iterator[str]:
    """Known words in no order."""
    words = [token for token in Tokenizer.load().tokens if token[0].isalpha()]
    for _ in range(count):
        yield " ".join(rng.choices(words, k=rng.randint(2, 9)))


def _noise(rng: Random) -> Image.Image:
    numbers = np.random.default_rng(rng.getrandbits(32))
    side = rng.choice((12, 48, 192, SIDE))
    depth = rng.choice((20, 60, 255))
    base = rng.choice((0, 128, 190)) if depth < 255 else 0
    values = base + numbers.integers(0, depth, (side, side, rng.choice((1, 3))))
    pixels = np.broadcast_to(values.clip(0, 255), (side, side, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _gradient(rng: Random) -> Image.Image:
    turn = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    way = np.hypot(x, y) if rng.random() < 0.3 else x * math.cos(turn) + y * math.sin(turn)
    way = (way - way.min()) / np.ptp(way)
    first, last = (np.asarray([rng.randint(0, 255) for _ in range(3)]) for _ in range(2))
    if rng.random() < 0.3:  # a ground of the world that grows lighter
        first, last = np.asarray((160, 160, 165)), np.asarray((225, 222, 226))
    return Image.fromarray((first + way[..., None] * (last - first)).astype(np.uint8))


def _solid(rng: Random) -> Image.Image:
    colours = [*COLOURS.values(), _GREY, (0, 0, 0), (255, 255, 255), (128, 128, 128)]
    colours.append((rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)))
    return Image.new("RGB", (SIDE, SIDE), rng.choice(colours))


def _canvas(rng: Random, *grounds: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    side = rng.choice((SIDE, SIDE, 512, 768))
    image = Image.new("RGB", (side, side), rng.choice(grounds))
    return image, ImageDraw.Draw(image)


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], size: int, words: str, ink: str
) -> None:
    pen.text(at, words, font=ImageFont.load_default(size), fill=ink)


def _page(rng: Random) -> Image.Image:
    image, pen = _canvas(rng, (255, 255, 255), (250, 246, 235), _GREY)
    size, top = rng.randint(12, 30), 24.0
    words = _WORDS.split()
    while top < image.height - size:
        line = " ".join(rng.choices(words, k=rng.randint(3, 12)))
        _text(pen, (24, top), size, line, rng.choice(("black", "black", "navy")))
        top += size * rng.choice((1.3, 1.3, 2.2))
    return image


def _screenshot(rng: Random) -> Image.Image:
    image, pen = _canvas(rng, (255, 255, 255), (240, 240, 240), (200, 200, 204), (32, 33, 36))
    side = image.width
    pen.rectangle((0, 0, side, 30), fill=(60, 62, 68))
    _text(pen, (10, 6), 16, "Settings - my computer", "white")
    pen.rectangle((0, 30, side // 4, side), fill=(222, 224, 230))
    for row in range(6):
        _text(pen, (8, 44 + 40 * row), 14, rng.choice(_WORDS.split()), "black")
        left = side // 4 + 16
        box = (left, 44 + 52 * row, side - 24, 84 + 52 * row)
        pen.rounded_rectangle(box, 8, fill=rng.choice(("white", "#2f6fed", "#e8e8e8")))
        _text(pen, (left + 8, 52 + 52 * row), 14, _WORDS[: rng.randint(10, 40)], "black")
    return image


def _chart(rng: Random) -> Image.Image:
    image, pen = _canvas(rng, (255, 255, 255), _GREY)
    side, colours = image.width, list(COLOURS.values())
    if rng.random() < 0.3:
        turn = 0.0
        for colour in colours:
            wide = rng.uniform(30, 90)
            pen.pieslice((40, 40, side - 40, side - 40), turn, turn + wide, fill=colour)
            turn += wide
        return image
    pen.line((40, 20, 40, side - 40, side - 20, side - 40), fill="black", width=2)
    count = rng.randint(3, 7)
    tops = [rng.uniform(30, side - 80) for _ in range(count)]
    step = (side - 80) / count
    for i, top in enumerate(tops):
        left = 50 + i * step
        if rng.random() < 0.7:
            pen.rectangle((left, top, left + step * 0.7, side - 40), fill=rng.choice(colours))
        else:
            pen.ellipse((left, top, left + 12, top + 12), fill=rng.choice(colours))
        _text(pen, (left, side - 34), 14, str(2018 + i), "black")
    return image


def _off_the_grid(rng: Random) -> Image.Image:
    """Shapes in the world's colours on the world's ground, and yet no scene."""
    image = Image.new("RGB", (SIDE, SIDE), _GREY)
    pen, colours = ImageDraw.Draw(image), list(COLOURS.values())
    form = rng.choice(
        ("across", "four", "one", "tiny", "ring", "colour", "bar", "frameless", "two")
    )
    cell = SIDE / 3
    centres = [(cell * (i % 3 + 0.5), cell * (i // 3 + 0.5)) for i in range(9)]
    x, y = rng.choice(centres)

    def disc(x: float, y: float, r: float, fill: tuple[int, int, int]) -> None:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    match form:
        case "across":
            for _ in range(rng.randint(1, 4)):
                disc(
                    rng.choice((cell, 2 * cell)) + rng.uniform(-20, 20), y, 40, rng.choice(colours)
                )
        case "four":
            for i in range(16):
                disc(48 + 96 * (i % 4), 48 + 96 * (i // 4), 36, rng.choice(colours))
        case "one":
            disc(SIDE / 2, SIDE / 2, rng.uniform(70, 180), rng.choice(colours))
        case "tiny":
            for x, y in rng.sample(centres, 4):
                disc(x, y, rng.uniform(6, 20), rng.choice(colours))
        case "ring":
            disc(x, y, 44, rng.choice(colours))
            disc(x, y, rng.uniform(15, 35), _GREY)
        case "colour":
            strange = (
                (240, 120, 190),
                (20, 20, 20),
                (255, 255, 255),
                (60, 200, 210),
                (120, 80, 40),
            )
            disc(x, y, 40, rng.choice(strange))
        case "bar":
            wide = rng.uniform(8, 20)
            pen.rectangle((x - 45, y - wide, x + 45, y + wide), fill=rng.choice(colours))
        case "frameless":
            pen.rectangle((x - 40, y - 20, x + 40, y + 20), fill=(252, 251, 246))
            _text(pen, (x - 20, y - 14), 24, "42", "black")
        case "two":
            disc(x - 30, y, 24, rng.choice(colours))
            disc(x + 30, y, 24, rng.choice(colours))
    return image


STRANGE: Mapping[str, Make] = {
    "noise": _noise,
    "gradients": _gradient,
    "solid colours": _solid,
    "pages of text": _page,
    "screenshots": _screenshot,
    "charts": _chart,
    "shapes off the grid": _off_the_grid,
}
"""Pictures that are no scene, by what they are."""


def measure_strange(
    cases: int, pictures: Iterable[Path] = (), questions: Iterable[Path] = ()
) -> Rates:
    """Ask what is not of the world: strange questions on a scene and without one, questions of the
    world on strange pictures."""
    rates, rng = Rates(), Random(11)
    scene = draw(make_case(rng, Kind.ADD, "test")[0])
    for group, question in strange_questions(questions):
        rates.add(f"{group}, on a scene", question, scene)
        rates.add(f"{group}, no picture", question, None)
    for question in shuffled_words(rng, cases):
        rates.add("known words in no order, on a scene", question, scene)
    for group, make in STRANGE.items():
        for i in range(cases):
            rates.add(group, (READING, PLAIN)[i % 2], make(rng))
    for path in pictures:
        with Image.open(path) as opened:
            for question in (READING, PLAIN):
                rates.add("pictures given", question, opened)
    rates.add("no picture where one is needed", READING, None)
    return rates


# What is of the world -----------------------------------------------------------------------------

_FILTERS = [
    Image.Resampling[name]
    for name in ("NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")
]


def as_jpeg(image: Image.Image, rng: Random) -> Image.Image:
    """Saved as a JPEG of quality 80 to 95, with full or half colour."""
    saved = io.BytesIO()
    image.save(saved, "JPEG", quality=rng.randint(80, 95), subsampling=rng.choice((0, 2)))
    return Image.open(saved)


def rescaled(image: Image.Image, rng: Random) -> Image.Image:
    """Scaled by a half to two, with any filter."""
    side = round(SIDE * 2 ** rng.uniform(-1, 1))
    return image.resize((side, side), rng.choice(_FILTERS))


FORMS: Mapping[str, Callable[[Image.Image, Random], Image.Image]] = {
    "as drawn": lambda image, rng: image,
    "as JPEG": as_jpeg,
    "rescaled": rescaled,
    "rescaled, as JPEG": lambda image, rng: as_jpeg(rescaled(image, rng), rng),
}
"""What may happen to a scene on its way."""


def otherwise_written(question: str, rng: Random) -> str:
    """The same question in capitals, without its last mark, or with a courtesy."""
    return rng.choice(
        (
            question.upper(),
            question.capitalize(),
            question.rstrip(".?"),
            f"Hello! {question}",
            f"{question.rstrip('.?')}, please?",
            question.replace(" ", "  "),
        )
    )


def measure_world(cases: int) -> Rates:
    """Ask what is of the world: each kind of question in each split and form, `cases` of each."""
    rates = Rates()
    for split in get_args(Split):
        for kind in Kind:
            rng = Random(f"{split} {kind}")
            for _ in range(cases):
                scene, question = make_case(rng, kind, split)
                image = draw(scene)
                for form, change in FORMS.items():
                    rates.add(f"{split}, {form}", question.text, change(image, rng))
                text = otherwise_written(question.text, rng)
                rates.add(f"{split}, otherwise written", text, image)
    for name in ("shapes", "signs", "thing"):
        with Image.open(ROOT / "examples" / f"{name}.png") as opened:
            rates.add("pictures in examples/", READING, opened)
    return rates


def _show(title: str, rates: Rates) -> None:
    print(f"{title}: {100 * rates.share():.2f} %")
    for group, asked in rates.asked.items():
        answered = rates.answered[group]
        print(f"  {group:48} {answered:6} of {asked:6}  {100 * answered / asked:7.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--pictures", type=Path, help="a folder of other pictures")
    parser.add_argument("--questions", type=Path, nargs="*", default=[], help="files, one a line")
    given = parser.parse_args()
    folder = given.pictures
    found = [] if folder is None else sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES)
    _show("answered, not of the world", measure_strange(given.cases, found, given.questions))
    _show("answered, of the world", measure_world(given.cases))


_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}

if __name__ == "__main__":
    main()
