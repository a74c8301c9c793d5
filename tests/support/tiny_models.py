"""Checkpoints of the families of vision-language models: their own classes, a few random weights, a
small tokenizer and a template of the family's form; saved as a user's folder is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HIDDEN = 32

WORDS = """The capital of France is Paris. What colour is the sign on the left of the picture?
{"safety": 9, "utility": 7, "caption": "a red circle"} yes no safe unsafe
Look at image 1 and answer. äöü 日本語 🦉 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ
abcdefghijklmnopqrstuvwxyz !?.,:;()[]<>|/_-+=*"""

CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}\
{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAMA = """{{ bos_token }}{% set seen = messages | map(attribute='content') | sum(start=[]) \
| selectattr('type', 'equalto', 'image') | list %}{% for m in messages %}\
{% if m.role == 'system' and seen %}\
{{ raise_exception('Prompting with images is incompatible with system messages.') }}\
{% endif %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{% for c in m.content %}{% if c.type == 'image' %}<|image|>{% else %}{{ c.text | trim }}{% endif %}\
{% endfor %}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant\
<|end_header_id|>

{% endif %}"""

LLAVA = """{% for m in messages %}{% if m.role == 'system' %}{% for c in m.content %}{{ c.text }} \
{% endfor %}{% else %}{{ m.role | upper }}: {% for c in m.content if c.type == 'image' %}<image>
{% endfor %}{% for c in m.content if c.type == 'text' %}{{ c.text }} {% endfor %}{% endif %}\
{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}\
{% set first = messages[0].content[0].text + '\n\n' %}\
{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}\
{% endif %}{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}<start_of_turn>\
{{ 'model' if m.role == 'assistant' else m.role }}
{{ first if loop.first }}{% for c in m.content %}{% if c.type == 'image' %}\
<start_of_image>{% else %}{{ c.text | trim }}{% endif %}{% endfor %}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


@dataclass(frozen=True)
class Family:
    """How to make one.

    Attributes:
        marks: added tokens by the name that the tokenizer gives them; those under "" have none.
        template: of the chat.
        end: the mark that ends a turn.
        begin: the mark that begins a prompt, or None.
        model: makes the model for a vocabulary of so many tokens and the ids of its marks.
        image_processor: makes the image processor.
        processor: its class's name and its parameters; None for a model without images.
        folds: whether a system message goes into the user's turn.
        reuses: whether key-values can be kept.
        image: the tokens of one image of 60x40 pixels, worked out by hand.
    """

    marks: Mapping[str, Any]
    template: str
    end: str
    begin: str | None
    model: Callable[[int, Callable[[str], int]], Any]
    image_processor: Callable[[], Any] | None
    processor: tuple[str, Mapping[str, Any]] | None
    reuses: bool
    image: int
    folds: bool = False


def _text(vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        **more,
    }


def _clip(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        **more,
    }


def _qwen2_5(size: int, mark: Callable[[str], int]) -> Any:
    rope = {"type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    return t.Qwen2_5_VLForConditionalGeneration(
        t.Qwen2_5_VLConfig(
            text_config=_text(size, rope_parameters=rope),
            vision_config={
                "depth": 2,
                "hidden_size": HIDDEN,
                "intermediate_size": 48,
                "num_heads": 4,
                "out_hidden_size": HIDDEN,
                "fullatt_block_indexes": [1],
                "window_size": 56,
            },
            image_token_id=mark("<|image_pad|>"),
            video_token_id=mark("<|video_pad|>"),
            vision_start_token_id=mark("<|vision_start|>"),
            vision_end_token_id=mark("<|vision_end|>"),
        )
    )


def _qwen3(size: int, mark: Callable[[str], int]) -> Any:
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    return t.Qwen3VLForConditionalGeneration(
        t.Qwen3VLConfig(
            text_config=_text(size, head_dim=8, rope_parameters=rope),
            vision_config={
                "depth": 2,
                "hidden_size": HIDDEN,
                "intermediate_size": 48,
                "num_heads": 4,
                "out_hidden_size": HIDDEN,
                "deepstack_visual_indexes": [0, 1],
                "num_position_embeddings": 64,
            },
            image_token_id=mark("<|image_pad|>"),
            video_token_id=mark("<|video_pad|>"),
            vision_start_token_id=mark("<|vision_start|>"),
            vision_end_token_id=mark("<|vision_end|>"),
        )
    )


def _internvl(size: int, mark: Callable[[str], int]) -> Any:
    return t.InternVLForConditionalGeneration(
        t.InternVLConfig(
            text_config={"model_type": "qwen2", **_text(size)},
            vision_config=_clip(image_size=[56, 56], patch_size=[14, 14]),
            image_token_id=mark("<IMG_CONTEXT>"),
            image_seq_length=4,
        )
    )


def _mllama(size: int, mark: Callable[[str], int]) -> Any:
    text = _text(size, num_hidden_layers=3, cross_attention_layers=[1])
    return t.MllamaForConditionalGeneration(
        t.MllamaConfig(
            text_config=text,
            vision_config={
                "hidden_size": HIDDEN,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "attention_heads": 4,
                "image_size": 56,
                "patch_size": 14,
                "vision_output_dim": 2 * HIDDEN,
                "intermediate_layers_indices": [0],
                "supported_aspect_ratios": [
                    *([1, 1], [1, 2], [1, 3], [1, 4]),
                    *([2, 1], [2, 2], [3, 1], [4, 1]),
                ],
            },
            image_token_index=mark("<|image|>"),
        )
    )


def _smolvlm(size: int, mark: Callable[[str], int]) -> Any:
    return t.SmolVLMForConditionalGeneration(
        t.SmolVLMConfig(
            text_config={"model_type": "llama", **_text(size)},
            vision_config=_clip(image_size=32, patch_size=4),
            scale_factor=4,
            image_token_id=mark("<image>"),
        )
    )


def _llava(size: int, mark: Callable[[str], int]) -> Any:
    return t.LlavaForConditionalGeneration(
        t.LlavaConfig(
            text_config={"model_type": "llama", **_text(size)},
            vision_config={
                "model_type": "clip_vision_model",
                **_clip(image_size=28, patch_size=7, projection_dim=HIDDEN),
            },
            image_token_index=mark("<image>"),
            image_seq_length=16,
        )
    )


def _onevision(size: int, mark: Callable[[str], int]) -> Any:
    return t.LlavaOnevisionForConditionalGeneration(
        t.LlavaOnevisionConfig(
            text_config={"model_type": "qwen2", **_text(size)},
            vision_config={
                "model_type": "siglip_vision_model",
                **_clip(image_size=28, patch_size=7),
                "vision_use_head": False,
            },
            image_token_id=mark("<image>"),
            video_token_id=mark("<video>"),
            image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]],
            vision_feature_select_strategy="full",
        )
    )


def _gemma3(size: int, mark: Callable[[str], int]) -> Any:
    return t.Gemma3ForConditionalGeneration(
        t.Gemma3Config(
            text_config=_text(
                size,
                head_dim=8,
                sliding_window=16,
                layer_types=["sliding_attention", "full_attention"],
            ),
            vision_config={
                "model_type": "siglip_vision_model",
                **_clip(image_size=28, patch_size=7),
                "vision_use_head": False,
            },
            mm_tokens_per_image=4,
            image_token_id=mark("<image_soft_token>"),
            boi_token_id=mark("<start_of_image>"),
            eoi_token_id=mark("<end_of_image>"),
        )
    )


def _llama(size: int, mark: Callable[[str], int]) -> Any:
    return t.LlamaForCausalLM(t.LlamaConfig(**_text(size, max_position_embeddings=1_000_000)))


def _qwen_images() -> Any:
    # One token for each 28x28 pixels.
    return t.Qwen2VLImageProcessor(
        size={"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 40}
    )


def _qwen3_images() -> Any:
    return t.Qwen2VLImageProcessor(
        size={"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 40},
        patch_size=16,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def _tiles() -> Any:
    return t.GotOcr2ImageProcessor(
        size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
    )


VISION = ("<|vision_start|>", "<|vision_end|>")

FAMILIES: Mapping[str, Family] = {
    "qwen2.5-vl": Family(
        {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "": VISION},
        CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
        "<|im_end|>",
        None,
        _qwen2_5,
        _qwen_images,
        ("Qwen2_5_VLProcessor", {}),
        reuses=True,
        image=6,  # enlarged to the least area, 84x56, in cells of 28
    ),
    "qwen3-vl": Family(
        {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "": VISION},
        CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
        "<|im_end|>",
        None,
        _qwen3,
        _qwen3_images,
        ("Qwen3VLProcessor", {}),
        reuses=True,
        image=6,  # enlarged to 96x64, in cells of 32
    ),
    "internvl3": Family(
        {
            "image_token": "<IMG_CONTEXT>",
            "context_image_token": "<IMG_CONTEXT>",
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "video_token": "<video>",
        },
        CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
        "<|im_end|>",
        None,
        _internvl,
        _tiles,
        ("InternVLProcessor", {"image_seq_length": 4}),
        reuses=True,
        image=4,
    ),
    "llama-3.2-vision": Family(
        {"": ("<|image|>", "<|python_tag|>", "<|start_header_id|>", "<|end_header_id|>")},
        LLAMA,
        "<|eot_id|>",
        "<|begin_of_text|>",
        _mllama,
        lambda: t.MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=4),
        ("MllamaProcessor", {}),
        reuses=False,
        image=1 + 2 * 17,  # a mark, and two tiles of 16 patches and a class embedding
        folds=True,
    ),
    "smolvlm": Family(
        {
            "": (
                "<image>",
                "<fake_token_around_image>",
                "<global-img>",
                "<end_of_utterance>",
                *(f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4)),
            )
        },
        CHATML.replace("IMAGE", "<image>"),
        "<|im_end|>",
        None,
        _smolvlm,
        lambda: t.SmolVLMImageProcessor(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
        ),
        ("SmolVLMProcessor", {"image_seq_len": 4}),
        reuses=True,
        image=20,  # two by two tiles and the whole, 4 each
    ),
    "llava": Family(
        {"": ("<image>",)},
        LLAVA,
        "</s>",
        "<s>",
        _llava,
        lambda: t.CLIPImageProcessor(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
        ),
        (
            "LlavaProcessor",
            {
                "patch_size": 7,
                "vision_feature_select_strategy": "default",
                "num_additional_image_tokens": 1,
            },
        ),
        reuses=True,
        image=16,
    ),
    "llava-onevision": Family(
        {"": ("<image>", "<video>")},
        CHATML.replace("IMAGE", "<image>\n"),
        "<|im_end|>",
        None,
        _onevision,
        lambda: t.LlavaOnevisionImageProcessor(
            size={"height": 28, "width": 28},
            image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]],
        ),
        (
            "LlavaOnevisionProcessor",
            {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        ),
        reuses=True,
        image=16 + 6 * 9,  # the whole, and six rows of eight, each with its end
    ),
    "gemma-3": Family(
        {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "": ("<start_of_turn>",),
        },
        GEMMA,
        "<end_of_turn>",
        "<bos>",
        _gemma3,
        lambda: t.Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        ("Gemma3Processor", {"image_seq_length": 4}),
        reuses=False,
        image=4,
    ),
    "text": Family(
        {}, CHATML, "<|im_end|>", None, _llama, None, None, reuses=True, image=0
    ),
}  # fmt: skip


def make(family: str, folder: Path, *, seed: int = 0, vocabulary: int = 600) -> Path:
    """Save a checkpoint of `family` in `folder`, which is made."""
    how = FAMILIES[family]
    tokenizer = _tokenizer(how, vocabulary)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = how.model(len(tokenizer), tokenizer.convert_tokens_to_ids)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:  # as initialised, the answer would hardly depend on the prompt
                weights.normal_(0.0, 0.25 if "embed" in name else 0.12)
            elif "gate" in name:
                weights.fill_(0.5)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    if how.image_processor is not None and how.processor is not None:
        how.image_processor().save_pretrained(folder)
        kind, values = how.processor
        said = {"processor_class": kind, **values}
        (folder / "processor_config.json").write_text(json.dumps(said))
    (folder / "chat_template.jinja").write_text(how.template)
    return folder


def _tokenizer(how: Family, vocabulary: int) -> Any:
    """A byte-level tokenizer of `vocabulary` tokens and the family's marks."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(WORDS.splitlines() * 3, trainer)
    named = {name: mark for name, mark in how.marks.items() if name}
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=how.end,
        **({"bos_token": how.begin} if how.begin else {}),
        extra_special_tokens=named,
    )
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    others = [*how.marks.get("", ()), "<|im_start|>", how.end]
    tokenizer.add_tokens(others, special_tokens=True)
    return tokenizer
