"""llama.cpp's own HTTP server on the loopback interface: `llama_server.py MODEL PORT [VISION]`.

It runs until it is told to end. The name of the model there is `smollm2`.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import xllamacpp

NAME = "smollm2"


def main(model: str, port: str, vision: str = "") -> None:
    """Serve the weights in `model`, with images where `vision` names a vision half."""
    chosen = xllamacpp.CommonParams()
    chosen.model.path = model
    chosen.mmproj.path = vision
    chosen.model_alias = {NAME}
    chosen.port = int(port)
    # Two requests at a time, 8,192 tokens each. Old prompts are kept in up to 8 GB by default.
    chosen.n_ctx, chosen.n_parallel, chosen.cache_ram_mib = 16384, 2, 128
    # Several threads wait for each other without sleep, which starves a machine with other work.
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(chosen)
    sys.stdout.write(f"listening on {server.listening_address} for {Path(model).name}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(*sys.argv[1:])
