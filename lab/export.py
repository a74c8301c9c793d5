"""Export a checkpoint to the two ONNX graphs in the package, weights stored in half precision.

python -m lab.export --run lab/runs/main
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from lab.net import IMAGE_TOKENS, Decoder, NetConfig, PathProblem

PACKAGE = Path(__file__).parent.parent / "src/ecoalign/models/embedded"


def load(path: Path) -> PathProblem:
    """The network of a checkpoint, in evaluation mode."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    net = PathProblem(NetConfig(**saved["config"]))
    net.load_state_dict(saved["net"])
    return net.eval()


def halve(model: onnx.ModelProto) -> None:
    """Store float weights as float16 behind a Cast, which the runtime folds away at load."""
    graph = model.graph
    kept, casts = [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 64:
            kept.append(tensor)
            continue
        values = numpy_helper.to_array(tensor).astype(np.float16)
        kept.append(numpy_helper.from_array(values, tensor.name + "_half"))
        casts.append(
            helper.make_node("Cast", [tensor.name + "_half"], [tensor.name], to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(model)


def export(net: PathProblem, folder: Path) -> None:
    """Write stem.onnx and decoder.onnx into `folder`."""
    config = net.config
    head = config.width // config.heads
    # Example batches of 2: a batch of 1 would be frozen into the graph.
    pixels = torch.zeros(2, 96, 96, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    stem = torch.onnx.export(
        net.stem,
        (pixels,),
        dynamo=True,
        input_names=["pixels"],
        output_names=["prefix"],
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    prefix = torch.zeros(2, IMAGE_TOKENS, config.width)
    ids, places = torch.zeros(2, 2, 5, dtype=torch.int64).unbind()  # one tensor would be one input
    past = torch.zeros(config.layers, 2, 2, config.heads, 7, head)
    image, new, earlier = (torch.export.Dim(name) for name in ("image", "new", "earlier"))
    decoder = torch.onnx.export(
        Decoder(net).eval(),
        (prefix, ids, places.clone(), past),
        dynamo=True,
        input_names=["prefix", "ids", "places", "past"],
        output_names=["logits", "present"],
        dynamic_shapes=(
            {0: batch, 1: image},
            {0: batch, 1: new},
            {0: batch, 1: new},
            {2: batch, 4: earlier},
        ),
        verbose=False,
    )
    for name, program in (("stem", stem), ("decoder", decoder)):
        assert program is not None  # noqa: S101 - dynamo=True always returns a program
        model = program.model_proto
        halve(model)
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("lab/runs/main"))
    parser.add_argument("--to", type=Path, default=PACKAGE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        export(load(args.run / "last.pt"), args.to)


if __name__ == "__main__":
    main()
