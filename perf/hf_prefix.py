"""What keeping the key-values of prefixes saves a local model, in seconds.

    python perf/hf_prefix.py MODEL [--images 2] [--calls 12] [--words 300] [--tokens 8]

The calls of a search: each has the same system message, pictures and request (`--words` of it) and
a stage's part of its own (40 words), and writes `--tokens` tokens. They are made one after the
other and, as a search makes them, four at once; with nothing kept and with what is kept by default.
`MODEL` is a name on the hub or a folder, as after "hf:". The first call of a way is not counted: it
reads the prefix. Seconds are wall-clock, of processor time in brackets.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import platform
import time

import numpy as np
from PIL import Image

from ecoalign.models import ChatRequest, ImagePart, Message, TextPart, Usage
from ecoalign.models.hf import HFModel

STAGES = ("look", "compare", "count", "read", "check", "describe", "name", "measure", "judge")


def picture(seed: int, side: int) -> ImagePart:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return ImagePart(out.getvalue(), "image/png", side, side)


def calls(args: argparse.Namespace) -> list[ChatRequest]:
    views = [picture(seed, args.side) for seed in range(args.images)]
    request = TextPart(" ".join(f"word{i % 97}" for i in range(args.words)))
    system = Message("system", (TextPart("You answer questions about pictures."),))
    made = []
    for number in range(args.calls + 1):
        part = TextPart(f"Stage {number}: " + " ".join([STAGES[number % len(STAGES)]] * 40))
        turn = Message("user", (*views, request, part))
        made.append(ChatRequest((system, turn), args.tokens, "perf"))
    return made


async def timed(
    args: argparse.Namespace, kept: int, at_once: int
) -> tuple[float, float, Usage, list[str]]:
    """Wall-clock and processor seconds, the tokens, and what was answered."""
    model = HFModel(args.model, prefix_bytes=kept, max_batch=at_once)
    first, *rest = calls(args)
    await model.complete(first)
    wall, cpu, used, texts = time.perf_counter(), time.process_time(), Usage(), []
    for begin in range(0, len(rest), at_once):
        group = rest[begin : begin + at_once]
        for completion in await asyncio.gather(*(model.complete(one) for one in group)):
            used += completion.usage or Usage()
            texts.append(completion.text)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    await model.aclose()
    return *spent, used, texts


async def run(args: argparse.Namespace) -> None:
    model = HFModel(args.model)
    print(f"{model!r}; {platform.machine()}, Python {platform.python_version()}")
    await model.aclose()
    for at_once in (1, 4):
        none, none_cpu, used, texts = await timed(args, 0, at_once)
        some, some_cpu, kept, same = await timed(args, 1 << 30, at_once)
        print(
            f"{at_once} at once, {args.calls} calls of {used.prompt / args.calls:.0f} tokens "
            f"({used.image / args.calls:.0f} of images): nothing kept {none:.1f} s "
            f"[{none_cpu:.1f}], kept {some:.1f} s [{some_cpu:.1f}]: {none / some:.1f} times as "
            f"fast, {kept.cached / kept.prompt:.0%} of the tokens not read again; "
            f"{sum(a == b for a, b in zip(texts, same, strict=True))} of {len(texts)} answers equal"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--side", type=int, default=512, help="pixels of a picture's side")
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--words", type=int, default=300, help="words of the request")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of each answer")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
