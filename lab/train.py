"""Train the embedded model: one run, from a seed, by the curriculum below.

python -m lab.train --seed 1                # resumes from lab/runs/main/last.pt if there
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.utils.data import DataLoader

from ecoalign.models.embedded._tokenizer import Tokenizer
from lab.batches import Packed, Shares, attention_mask
from lab.net import NetConfig, PathProblem


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum: it lasts until `until` of the run's samples (0 to 1)."""

    until: float
    shares: Shares


CURRICULUM = (
    # To see and to read, where things are, and what follows from places: relations rest on it.
    Stage(0.25, Shares(looks=0.2, scans=0.25, asks=0.2, laws=0.1, links=0.1)),
    # Every role, with what is learned slowest more often.
    Stage(
        0.6,
        Shares(0.06, 0.06, asks=0.2, laws=0.17, sums=0.06, plans=0.1, reasons=0.1, links=0.05),
    ),
    # Counts and relations, thought through and judged, beside all the rest.
    Stage(
        0.85,
        Shares(0.03, 0.05, asks=0.2, laws=0.12, sums=0.05, plans=0.07, reasons=0.17, links=0.09),
    ),
    # Laws, plans and sums once more, which the stage before blurs.
    Stage(
        1.0,
        Shares(0.03, 0.03, asks=0.14, laws=0.16, sums=0.09, plans=0.16, reasons=0.08, links=0.07),
    ),
)


def stage_at(done: float) -> int:
    """The number of the stage at the share `done` of the run."""
    return next(
        (i for i, stage in enumerate(CURRICULUM) if done < stage.until), len(CURRICULUM) - 1
    )


def learning_rate(peak: float, step: int, done: float, warmup: int = 200) -> float:
    """Linear warm-up by step; flat; then a cosine over the last 70 % of the run to 2 % of peak."""
    fall = min(1.0, max(0.0, done - 0.3) / 0.7)
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * fall)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2_500_000, help="length of the run")
    parser.add_argument("--rows", type=int, default=20, help="rows (images) per batch")
    parser.add_argument("--room", type=int, default=128, help="text tokens per row")
    parser.add_argument("--peak", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--threads", type=int, default=2, help="1 where other work shares the cores"
    )
    parser.add_argument("--run", type=Path, default=Path("lab/runs/main"))
    parser.add_argument("--start", type=Path, help="weights for the last stage alone to begin with")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Where a CPU has no bf16 units it is emulated, and was 14 times slower than float32.
    bf16 = device == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    args.run.mkdir(parents=True, exist_ok=True)
    last = args.run / "last.pt"

    config = NetConfig(vocabulary=len(Tokenizer.load()))
    net = PathProblem(config).to(device)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=args.peak,
        betas=(0.9, 0.98),
        fused=True,
    )
    step, spent, samples = 0, 0.0, 0
    if last.exists():
        saved = torch.load(last, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent, samples = saved["step"], saved["spent"], saved["samples"]
    elif args.start is not None:
        saved = torch.load(args.start, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, from step {step}", flush=True)

    def save() -> None:
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"step": step, "spent": spent, "samples": samples, "config": config.to_dict()}
        torch.save(state, last.with_suffix(".tmp"))
        last.with_suffix(".tmp").replace(last)

    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)  # the run is saved and can be resumed
    log = (args.run / "log.jsonl").open("a")
    running, before, saved_at = math.nan, time.monotonic(), spent
    while samples < args.samples and not stopped:
        now_at = len(CURRICULUM) - 1 if args.start else stage_at(samples / args.samples)
        data = Packed(args.rows, args.room, step, CURRICULUM[now_at].shares, args.seed)
        for batch in DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=8):
            pixels, ids, places, parts, sees, targets, weights = (b.to(device) for b in batch)
            rate = learning_rate(args.peak, step, samples / args.samples)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
                logits = net(pixels, ids, places, attention_mask(parts, sees))
            losses = F.cross_entropy(
                logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
            )
            loss = (losses * weights.flatten()).sum() / weights.sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            now = time.monotonic()
            spent, before = spent + now - before, now
            step += 1
            samples += int(parts.amax(dim=1).sum())
            running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
            if step % 50 == 0:
                line = {"step": step, "minutes": round(spent / 60, 2), "samples": samples}
                line |= {"stage": now_at, "loss": round(running, 4), "rate": round(rate, 6)}
                print(json.dumps(line), flush=True)
                log.write(json.dumps(line) + "\n")
                log.flush()
            if spent - saved_at > 120:
                save()
                saved_at = spent
            if samples >= args.samples or stopped:
                break
            if args.start is None and stage_at(samples / args.samples) != now_at:
                break
    save()


if __name__ == "__main__":
    main()
