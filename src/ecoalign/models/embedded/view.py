"""What the embedded model sees: any image as 96 x 96 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["VIEW", "to_pixels"]

VIEW = 96
"""Side of the model's view in pixels."""


def to_pixels(image: Image.Image, resample: int = 1) -> NDArray[np.uint8]:
    """`image` as uint8 [96, 96, 3] (RGB), stretched to the square.

    Args:
        image: any PIL image.
        resample: a PIL resampling filter; Lanczos (1) unless told.
    """
    from PIL import Image as PillowImage

    image = image.convert("RGB")  # first, as a palette cannot be resampled
    if image.size != (VIEW, VIEW):
        image = image.resize((VIEW, VIEW), PillowImage.Resampling(resample))
    return np.asarray(image, dtype=np.uint8)
