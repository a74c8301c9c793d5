"""What a request that is passed on may cost, whatever the settings say of the engine's own."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image

from ecoalign.gateway._images import Held
from ecoalign.gateway._state import AppState
from ecoalign.gateway.chat._passthrough import _prompt
from ecoalign.models import Profile
from ecoalign.models.openai import OpenAIModel


@pytest.mark.parametrize("detail", [None, "low", "auto", "high"])
def test_images_are_bounded_in_the_dearest_detail(detail: str | None) -> None:
    data = io.BytesIO()
    Image.new("RGB", (1024, 768)).save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    profile = Profile(family="gpt-4o", detail=cast("Any", detail))
    model = OpenAIModel("m", base_url="http://127.0.0.1:9/v1", profile=profile)
    state = cast("AppState", SimpleNamespace(service=SimpleNamespace(model=model)))
    part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    about = {"type": "image/png", "width": 1024, "height": 768}
    bounded = _prompt(state, body, [Held(data.getvalue(), about, lambda size: None, url)])
    assert bounded.image == 85 + 4 * 170
    assert bounded.prompt > bounded.image
