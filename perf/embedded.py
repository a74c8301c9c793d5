"""How fast the embedded model is at one thread: reading a prompt, writing a token, a whole call.

    python perf/embedded.py [--repeats 40] [--weights FOLDER]

`stem` is the image alone (96 x 96 pixels to 36 positions), `prefill` the 36 image positions and a
prompt of `--prompt` tokens, `token` one further token with the KV cache, measured between answers
of 1 and of 33 tokens. `call` is `EmbeddedModel.complete` as the engine calls it, PNG included.
Medians of wall-clock, and of processor time in brackets, which other work on the machine
disturbs less.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from ecoalign.bench.world.questions import Kind, make_case
from ecoalign.bench.world.scenes import draw
from ecoalign.models import ChatRequest, ImagePart, Message, TextPart
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.embedded._network import IMAGE_TOKENS, Network, to_pixels

Timing = tuple[float, float]
LONG = 32


def measure(work: Callable[[int], object], repeats: int) -> Timing:
    """Median milliseconds of wall-clock and of processor time; two calls are not counted."""
    walls, cpus = [], []
    for number in range(repeats + 2):
        wall, cpu = time.perf_counter(), time.process_time()
        work(number)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return 1e3 * statistics.median(walls[2:]), 1e3 * statistics.median(cpus[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--prompt", type=int, default=20, help="tokens of the prompt")
    parser.add_argument("--weights", type=Path, default=None, help="folder of other graphs")
    args = parser.parse_args()
    begun = time.perf_counter()
    network = Network(args.weights)
    loaded = time.perf_counter() - begun

    scene = draw(make_case(Random(1), Kind.ADD, "dev", big=False)[0])
    view = to_pixels(scene)
    # Another image each time, as the network keeps the prefixes of those that it has seen.
    views = [np.roll(view, shift, axis=1) for shift in range(96)]
    # Random words: a prompt that makes sense may be answered with less than LONG tokens.
    rng = Random(2)
    tokens = range(40, len(network.tokenizer))
    prompts = [[rng.choice(tokens) for _ in range(args.prompt)] for _ in range(args.repeats + 2)]
    known = network.prefix(view)

    stem = measure(lambda i: network.prefix(views[i % 96] ^ np.uint8(i // 96)), args.repeats)
    prefill = measure(lambda i: network.generate(prompts[i], view, 1), args.repeats)
    written = []

    def answer(i: int) -> None:
        written.append(len(network.generate(prompts[i], view, LONG + 1, 2.0, seed=i).logprobs))

    whole = measure(answer, args.repeats)
    further = statistics.median(written[2:]) - 1
    token = tuple((a - b) / further for a, b in zip(whole, prefill, strict=True))

    png = io.BytesIO()
    scene.save(png, "PNG")
    part = ImagePart(png.getvalue(), "image/png", scene.width, scene.height)
    text = TextPart("<scan> what is the sum of the two numbers? <out>")
    request = ChatRequest(
        (Message("user", (text, part)),), 72, "scan", top_logprobs=10, extra={"prompt": "compact"}
    )
    model = EmbeddedModel(args.weights)
    used = asyncio.run(model.complete(request)).usage
    call = measure(lambda _: asyncio.run(model.complete(request)), args.repeats)

    def told(timing: tuple[float, ...]) -> str:
        return f"{timing[0]:7.2f} ms ({timing[1]:.2f})"

    print(f"{platform.machine()}, Python {platform.python_version()}, one thread")
    print(f"load     {1e3 * loaded:7.0f} ms")
    print(f"stem     {told(stem)} for {known.shape[1]} image positions")
    print(f"prefill  {told(prefill)} for {IMAGE_TOKENS} + {args.prompt} positions, stem cached")
    print(f"token    {told(token)}, {1e3 / token[0]:.0f} tokens/s ({1e3 / token[1]:.0f})")
    print(f"call     {told(call)} for a scan of {used.completion if used else 0} tokens")


if __name__ == "__main__":
    main()
