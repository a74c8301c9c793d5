"""The network: a strided convolutional stem, then a decoder-only transformer.

The 36 image tokens are a prefix that sees itself both ways; text is causal. Training packs
several segments about one image into a row: each sees the image (or not) and itself only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

IMAGE_TOKENS = 36


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the network; `longest` is the most text tokens of one segment."""

    vocabulary: int
    width: int = 192
    layers: int = 5
    heads: int = 6
    hidden: int = 576
    longest: int = 224

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(F.gelu(self.norm(x)))
        return x + self.second(F.gelu(y))


class Stem(nn.Module):
    """uint8 pixels [B, 96, 96, 3] -> image tokens [B, 36, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            Residual(64),
            nn.GELU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            Residual(128),
            nn.GELU(),
            nn.Conv2d(128, width, 3, stride=2, padding=1),
            Residual(width),
        )
        # Without it the tokens' scale grows in training until no layer can add to them.
        self.norm = nn.LayerNorm(width)
        self.place = nn.Parameter(torch.randn(IMAGE_TOKENS, width) * 0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x = self.layers(x)
        tokens: Tensor = self.norm(x.flatten(2).transpose(1, 2))
        return tokens + self.place


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.norm2 = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D], mask [B or 1, 1, T, S + T] (True: may look) -> x, keys, values."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        if past is not None:
            k = torch.cat([past[0], k], dim=2)
            v = torch.cat([past[1], v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return x, k, v


class PathProblem(nn.Module):
    """The whole model; the output weights are the embedding's."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config.width)
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.place = nn.Embedding(config.longest, config.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.embed.weight)

    def forward(self, pixels: Tensor, ids: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """pixels [B,96,96,3], ids and places [B,T], mask [B,1,36+T,36+T] -> logits [B,T,V]."""
        x = torch.cat([self.stem(pixels), self.embed(ids) + self.place(places)], dim=1)
        for block in self.blocks:
            x, _, _ = block(x, mask)
        return self.logits(x[:, IMAGE_TOKENS:])


class Decoder(nn.Module):
    """The exported step: image prefix (36 or 0 tokens), new ids and the past -> logits, present."""

    def __init__(self, net: PathProblem) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, prefix: Tensor, ids: Tensor, places: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """prefix [B,P,D], ids and places [B,T], past [L,2,B,H,S,D/H] -> [B,V], present.

        The logits are those of the last position.
        """
        x = torch.cat([prefix, self.net.embed(ids) + self.net.place(places)], dim=1)
        length, earlier, image = x.shape[1], past.shape[4], prefix.shape[1]
        rows = torch.arange(length, device=x.device).unsqueeze(1) + earlier
        columns = torch.arange(length + earlier, device=x.device).unsqueeze(0)
        mask = (columns <= rows) | ((columns < image) & (rows < image))
        present = []
        for i, block in enumerate(self.net.blocks):
            x, k, v = block(x, mask[None, None], (past[i, 0], past[i, 1]))
            present.append(torch.stack([k, v]))
        return self.net.logits(x[:, -1:])[:, 0], torch.stack(present)
