"""The vocabulary: every word that the world, its questions and the teacher can use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

from ecoalign.bench.world.rulebook import NOUNS, RECIPES, VERBS
from ecoalign.bench.world.wordings import all_templates
from ecoalign.models.embedded._tokenizer import LETTERS, PIECE, SPECIALS
from lab.samples import UNKNOWN, row

VOCABULARY = Path(__file__).parent.parent / "src/ecoalign/models/embedded/vocabulary.txt"
# Words a person may well use; the model has not seen them but need not spell them either.
EXTRA = (
    *("kind", "answer", "request", "text", "strategy", "refusal", "image"),
    *("scene", "photo", "does", "about", "with", "are"),
)


def build_vocabulary(corpus: Iterable[str]) -> list[str]:
    """The sorted vocabulary of `corpus`, specials first, digits and letters always included."""
    pieces = {piece for text in corpus for piece in PIECE.findall(text.lower())}
    pieces |= {str(d) for d in range(10)} | set(".,?!;:|()+=#>'\"-/")
    pieces |= {f"##{c}" for c in LETTERS}
    return [*SPECIALS, *sorted(pieces - set(SPECIALS))]


def make_vocabulary(rows: int = 3000) -> list[str]:
    """The vocabulary, from the templates and from `rows` sampled training rows."""
    corpus = [template.replace("{", " ").replace("}", " ") for template in all_templates()]
    corpus += [*NOUNS, *RECIPES, *VERBS, *EXTRA, UNKNOWN]
    rng = Random(7)
    for _ in range(rows):
        for segment in row(rng, 10**6, lambda _: 1).segments:
            if "capital of" not in segment.prompt:
                corpus += [segment.prompt, segment.target]
    return build_vocabulary(corpus)


if __name__ == "__main__":
    words = make_vocabulary()
    VOCABULARY.write_text("\n".join(words) + "\n", encoding="utf-8")
    print(f"{len(words)} tokens -> {VOCABULARY}")
