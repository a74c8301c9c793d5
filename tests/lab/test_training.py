"""The packing of rows, the network and its export. Needs torch, which the package does not."""

from __future__ import annotations

from dataclasses import astuple
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ecoalign.models.embedded._network import IMAGE_TOKENS, Network
from ecoalign.models.embedded._tokenizer import Tokenizer
from lab.samples import Row, Segment, row

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[lab]'")

from lab.batches import VERDICT, Packed, attention_mask  # noqa: E402 - they import torch
from lab.net import Decoder, NetConfig, PathProblem  # noqa: E402
from lab.train import CURRICULUM, learning_rate, stage_at  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

T = Tokenizer.load()
TINY = NetConfig(vocabulary=len(T), width=64, layers=2, heads=2, hidden=96)
PACKED = Packed(rows=3, room=104)


def made(seed: int = 1) -> list[Row]:
    rng = Random(seed)
    return [row(rng, PACKED.room, PACKED.length) for _ in range(PACKED.rows)]


def tiny() -> PathProblem:
    torch.manual_seed(3)
    net = PathProblem(TINY)
    net.eval()
    return net


def test_each_segment_is_packed_with_its_own_places_and_only_its_target_to_learn() -> None:
    rows = made()
    pixels, ids, places, parts, sees, targets, weights = PACKED.pack(rows)
    assert pixels.shape == (3, 96, 96, 3)
    for i, one in enumerate(rows):
        for number, segment in enumerate(one.segments, 1):
            here = parts[i] == number
            prompt, target = T.encode(segment.prompt), T.encode(segment.target)
            assert ids[i][here].tolist() == [*prompt, *target]
            assert places[i][here].tolist() == list(range(len(prompt) + len(target)))
            assert sees[i][here].unique().tolist() == [segment.image]
            learned = targets[i][here].tolist()
            assert learned == [-100] * (len(prompt) - 1) + [*target, T.eos]
            heavy = weights[i][here].tolist()
            assert all((w > 0) == (t != -100) for w, t in zip(heavy, learned, strict=True))
        empty = parts[i] == 0
        assert (targets[i][empty] == -100).all()
        assert (ids[i][empty] == T.pad).all()


def test_the_mask_shows_each_token_its_own_past_and_the_image_where_it_may() -> None:
    parts = torch.tensor([[1, 1, 2, 2, 0]])
    sees = torch.tensor([[True, True, False, False, False]])
    mask = attention_mask(parts, sees)[0, 0]
    n = IMAGE_TOKENS
    assert mask[:n, :n].all()
    assert not mask[:n, n:].any()
    assert mask[n : n + 2, :n].all()
    assert not mask[n + 2 :, :n].any()
    assert mask[n:, n:].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_segments_of_a_row_do_not_see_each_other_and_the_blind_not_the_image() -> None:
    net = tiny()
    view = made()[0].pixels
    first = Segment("<ask> where is the owl? <out>", "top.", image=True)
    other = Segment("<ask> what is the sum? <out>", "407.", image=True)
    blind = Segment("<fuse> what is it? <others> a <out>", "a, a", image=False)

    def logits(segments: tuple[Segment, ...], pixels: NDArray[np.uint8]) -> Tensor:
        image, ids, places, parts, sees, *_ = PACKED.pack([Row(pixels, segments)])
        with torch.no_grad():
            out = net(image, ids, places, attention_mask(parts, sees))
        return out[0][parts[0] == len(segments)]

    torch.testing.assert_close(logits((first, blind), view), logits((other, blind), view))
    torch.testing.assert_close(logits((first, blind), view), logits((first, blind), 255 - view))
    changed = (logits((blind, first), view) - logits((blind, first), 255 - view)).abs().max()
    assert changed > 1e-4


def test_a_verdict_weighs_more_than_the_words_around_it() -> None:
    scan = Segment("<scan> hello <out>", "red star top > 1", image=True)
    score = Segment("<score> hello <out>", "9 2", image=True)
    ids = T.encode(scan.target)
    weights = PACKED.weights(scan, [*ids, T.eos]).tolist()
    assert [w for w in weights if w == VERDICT] == [VERDICT]
    assert ids[weights.index(VERDICT)] == T.id("1")
    answer = Segment("<ask> hello <out>", "a is at top, so it is above it, answer: no.", image=True)
    told = T.encode(answer.target)
    decided = PACKED.weights(answer, [*told, T.eos]).tolist()
    heavy = [T.tokens[i] for i, w in zip(told, decided, strict=False) if w == VERDICT]
    assert heavy == ["above", "no"]
    judged = PACKED.weights(score, [*T.encode(score.target), T.eos]).tolist()
    assert judged[:2] == [VERDICT, VERDICT]
    # A long target counts for more in all than a short one, but less than by its length.
    long, short = (PACKED.weights(Segment("<ask> x <out>", "", True), [1] * n) for n in (16, 4))
    assert float(long.sum()) == pytest.approx(2 * float(short.sum()))


def test_batches_go_on_where_they_were_left() -> None:
    whole = [batch[1] for batch in islice(Packed(2, 80), 4)]
    resumed = [batch[1] for batch in islice(Packed(2, 80, start=2), 2)]
    for one, other in zip(whole[2:], resumed, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole[0], whole[1])


def test_the_exported_step_with_its_cache_equals_the_network_that_was_trained() -> None:
    net = tiny()
    decoder = Decoder(net)
    decoder.eval()
    ids = torch.tensor([T.encode("<ask> where is the red star? <out> top-left .")])
    pixels = torch.from_numpy(made()[0].pixels)[None]
    places = torch.arange(ids.shape[1])[None]
    for seen in (True, False):
        parts = torch.ones_like(ids)
        sees = torch.full_like(ids, seen, dtype=torch.bool)
        with torch.no_grad():
            whole = net(pixels, ids, places, attention_mask(parts, sees))[0]
            prefix = net.stem(pixels) if seen else torch.zeros(1, 0, TINY.width)
            past = torch.zeros(TINY.layers, 2, 1, TINY.heads, 0, TINY.width // TINY.heads)
            at = 0
            for n in (5, 3, 1, 1):  # a prompt in pieces, then token by token
                new, where = ids[:, at : at + n], places[:, at : at + n]
                step, past = decoder(prefix, new, where, past)
                at += n
                torch.testing.assert_close(step[0], whole[at - 1], atol=1e-4, rtol=1e-4)
                prefix = torch.zeros(1, 0, TINY.width)


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of itself
def test_what_is_exported_runs_in_the_package_s_runtime_with_the_same_outcome(
    tmp_path: Path,
) -> None:
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason="the export needs it: pip install '.[lab]'")
    from lab.export import export

    net = tiny()
    with torch.no_grad():
        export(net, tmp_path)
        pixels = made()[0].pixels
        ids = T.encode("<scan> where is the red star? <out>")
        parts = torch.ones(1, len(ids), dtype=torch.long)
        mask = attention_mask(parts, parts == 1)
        places = torch.arange(len(ids))[None]
        whole = net(torch.from_numpy(pixels)[None], torch.tensor([ids]), places, mask)[0, -1]
    table = Network(tmp_path).generate(ids, pixels, 1).logprobs[0]
    # The weights are kept in half precision.
    np.testing.assert_allclose(table, torch.log_softmax(whole, dim=-1).numpy(), atol=2e-2)


def test_the_curriculum_goes_through_its_stages_to_the_end_of_the_run() -> None:
    ends = [stage.until for stage in CURRICULUM]
    assert ends == sorted(set(ends))
    assert ends[-1] == 1.0
    assert all(0 < sum(astuple(stage.shares)) < 1 for stage in CURRICULUM)  # the rest is mixed
    assert [stage_at(done) for done in (0.0, *ends)] == [*range(len(ends)), len(ends) - 1]


def test_the_learning_rate_warms_up_stays_and_falls_to_a_fiftieth() -> None:
    assert learning_rate(1.0, 0, 0.0) < 0.01
    assert learning_rate(1.0, 500, 0.1) == pytest.approx(1.0)
    rates = [learning_rate(1.0, 500, done / 20) for done in range(21)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.02)


def test_another_seed_trains_on_other_rows() -> None:
    one, other = (next(iter(Packed(2, 80, seed=seed)))[1] for seed in (1, 2))
    assert not torch.equal(one[:, :20], other[:, :20])
