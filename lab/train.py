"""Train the embedded model.

python -m lab.train --minutes 90            # resumes from lab/runs/main/last.pt if there
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import fields
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.utils.data import DataLoader

from ecoalign.models.embedded._tokenizer import Tokenizer
from lab.batches import Packed, Shares, attention_mask
from lab.net import NetConfig, PathProblem


def learning_rate(peak: float, step: int, done: float, warmup: int = 200) -> float:
    """Linear warm-up by step, then a cosine over the share `done` of the run, to 2 % of peak."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return peak * min(1.0, (step + 1) / warmup) * cosine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90, help="training time in all")
    parser.add_argument("--rows", type=int, default=20, help="rows (images) per batch")
    parser.add_argument("--room", type=int, default=104, help="text tokens per row")
    parser.add_argument("--peak", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, default=Path("lab/runs/main"))
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--start", type=Path, help="weights to begin with, lab/checkpoint.pt say")
    parser.add_argument("--bf16", action="store_true", help="autocast (GPU, or a CPU with bf16)")
    for field in fields(Shares):
        text = f"share of batches that are {field.name} alone"
        parser.add_argument(f"--{field.name}", type=float, default=field.default, help=text)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.run.mkdir(parents=True, exist_ok=True)
    last = args.run / "last.pt"

    config = NetConfig(
        vocabulary=len(Tokenizer.load()),
        layers=args.layers,
        width=args.width,
        heads=args.width // 32,
        hidden=3 * args.width,
    )
    net = PathProblem(config).to(device)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=args.peak,
        betas=(0.9, 0.98),
    )
    step, spent, samples = 0, 0.0, 0
    source = last if last.exists() else args.start
    if source is not None:
        saved = torch.load(source, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
        if "optimizer" in saved:
            optimizer.load_state_dict(saved["optimizer"])
        step, spent, samples = saved["step"], saved["spent"], saved["samples"]
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, from step {step}", flush=True)

    shares = Shares(*(getattr(args, field.name) for field in fields(Shares)))
    data = Packed(args.rows, args.room, step, shares)
    loader = DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=8)
    log = (args.run / "log.jsonl").open("a")
    seconds = args.minutes * 60
    first = step
    running, before, saved_at = math.nan, time.monotonic(), spent
    for batch in loader:
        pixels, ids, places, parts, sees, targets, weights = (part.to(device) for part in batch)
        rate = learning_rate(args.peak, step - first, spent / seconds)
        for group in optimizer.param_groups:
            group["lr"] = rate
        # bf16 helps on a GPU and on CPUs with bf16 units; emulated, it was 14 times slower.
        with torch.autocast(device, dtype=torch.bfloat16, enabled=args.bf16):
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
        last_loss = loss.item()
        running = last_loss if math.isnan(running) else 0.98 * running + 0.02 * last_loss
        if step % 50 == 0:
            line = {"step": step, "minutes": round(spent / 60, 2), "samples": samples}
            line |= {"loss": round(running, 4), "rate": round(rate, 6)}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
        done = spent >= seconds
        if done or spent - saved_at > 120:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"step": step, "spent": spent, "samples": samples}
            state |= {"config": config.to_dict()}
            torch.save(state, last.with_suffix(".tmp"))
            last.with_suffix(".tmp").replace(last)
            saved_at = spent
        if done:
            break


if __name__ == "__main__":
    main()
