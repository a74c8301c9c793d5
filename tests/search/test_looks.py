"""Looks that help: with context, of one size, none of what was seen, and a grid for dense pages."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageDraw
from scripted import Prompt, Script, action, actions, align

from ecoalign.budget import Budget, Ledger
from ecoalign.graph import ActionKind, Region, Thought, ThoughtId, ThoughtKind
from ecoalign.models import ImagePart, Profile
from ecoalign.models.fake import FakeModel
from ecoalign.query import Picture, Query
from ecoalign.search.context import RunContext
from ecoalign.search.scanner import grid
from ecoalign.settings import Settings
from ecoalign.trace.events import ActionsChosen, Proposed

ANSWER = action("answer", "", [[9, 9, 100]])


def context(picture: Image.Image, **profile: object) -> RunContext:
    model = FakeModel(lambda request: "", profile=Profile().with_values(profile, "the test"))
    ledger = Ledger(Budget(tokens=1000))
    return RunContext.of(Query.of(picture, "?"), model, None, ledger, Settings.load(env={}))


def seen(region: Region) -> Thought:
    return Thought(ThoughtId(1), ThoughtKind.LOOK, "seen", 1.0, 0.5, 10.0, region=region)


def lettered(width: int, height: int, size: int = 20) -> Image.Image:
    """A page full of short strokes, as close as print."""
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for y in range(0, height, size):
        for x in range(0, width, size // 2):
            if (x // (size // 2) * 7 + y // size * 13) % 5:
                draw.rectangle((x, y, x + size // 4, y + size // 2), fill="black")
    return page


def test_a_crop_of_an_unknown_model_is_as_large_as_the_view() -> None:
    ctx = context(Image.new("RGB", (1600, 1200)))
    (view,) = ctx.sized().views
    for edges in ((0, 0, 0.1, 0.1), (0.5, 0.2, 0.6, 0.9), (0.9, 0.9, 1, 1)):
        crop = ctx.crop(Region(*edges))
        assert (crop.width, crop.height, crop.detail) == (view.width, view.height, view.detail)


def test_a_known_family_gets_what_it_likes_and_one_size_for_all() -> None:
    ctx = context(Image.new("RGB", (1600, 1200)), family="qwen", crop_pixels=896)
    sizes = {
        (ctx.crop(Region(*edges)).width, ctx.crop(Region(*edges)).height)
        for edges in ((0, 0, 0.1, 0.1), (0.5, 0.2, 0.6, 0.9), (0.9, 0.9, 1, 1))
    }
    assert sizes == {(896, 672)}
    thin = context(Image.new("RGB", (1600, 20)), family="qwen", smallest_image=28)
    assert min(thin.crop(Region(0, 0, 0.1, 1)).height, thin.sized().views[0].height) == 28


def test_a_look_has_to_show_more_than_was_seen() -> None:
    ctx = context(Image.new("RGB", (1600, 1200)))
    assert ctx.gain(Region(0, 0, 1, 1), ()) == 1.0
    assert ctx.gain(Region(0, 0, 0.9, 0.9), ()) < 1.1
    small = Region(0.4, 0.4, 0.6, 0.6)
    # A fifth and a tenth of it on either side: a little more than four times as large.
    assert ctx.gain(small, ()) == pytest.approx(1 / 0.24, rel=0.02)
    # What an earlier look had is not looked at again, unless much closer.
    assert ctx.gain(small, (seen(small),)) == 1.0
    assert ctx.gain(Region(0.45, 0.45, 0.55, 0.55), (seen(small),)) == pytest.approx(2, rel=0.05)
    assert ctx.gain(Region(0.7, 0.7, 0.9, 0.9), (seen(small),)) > 4
    assert ctx.gain(Region(0.4, 0.4, 0.6, 0.6, 0), (seen(Region(0.4, 0.4, 0.6, 0.6, 1)),)) > 4


async def test_looks_at_what_was_seen_are_dropped_for_free_and_counted() -> None:
    def propose(prompt: Prompt) -> str:
        whole = action("look", "all", [[9, 9, 100]], region=[0, 0, 1000, 1000])
        half = action("look", "most", [[9, 9, 100]], region=[0, 0, 900, 900])
        return actions(whole, half, ANSWER)

    query = Query.of(Image.new("RGB", (1600, 1200)), "What does it say?")
    result = await align(Script(propose=propose).model(), query=query)
    proposed = next(event for event in result.trace if isinstance(event, Proposed))
    assert [one.kind for one in proposed.candidates] == [ActionKind.ANSWER]
    assert (proposed.dropped, proposed.seen) == (2, 2)
    assert result.spent.by_stage["execute"].calls == 1


def test_the_grid_covers_dense_pages_and_no_other_pictures() -> None:
    page = context(lettered(1240, 1754))
    page.views = page.sized().views
    cells = grid(page)
    assert len(cells) == 9
    assert {(cell.x0, cell.y0) for cell in cells} == {
        (x / 3, y / 3) for x in range(3) for y in range(3)
    }
    assert all(page.gain(cell, ()) >= 1.5 for cell in cells)
    near = context(lettered(1240, 1754), family="qwen", crop_pixels=1024)
    near.views = near.sized().views
    assert len(grid(near)) == 4
    for other in (Image.new("RGB", (1240, 1754)), lettered(600, 800), Image.radial_gradient("L")):
        plain = context(other.convert("RGB"))
        plain.views = plain.sized().views
        assert grid(plain) == ()
    embedded = context(lettered(1240, 1754), dialect="compact")
    embedded.views = embedded.sized().views
    assert grid(embedded) == ()


async def test_cells_of_a_dense_page_are_looked_at_where_nothing_better_is_proposed() -> None:
    def propose(prompt: Prompt) -> str:
        return actions(action("think", "on", [[9, 1, 400]]))

    query = Query.of(lettered(1240, 1754), "What does the page say?")
    result = await align(Script(propose=propose).model(), query=query, max_thoughts=8)
    first, *_ = [event for event in result.trace if isinstance(event, Proposed)]
    assert [one.kind for one in first.candidates] == [ActionKind.LOOK] * 9
    chosen = next(event for event in result.trace if isinstance(event, ActionsChosen))
    assert set(chosen.actions) <= set(range(9))

    def better(prompt: Prompt) -> str:
        return actions(ANSWER)

    spared = await align(Script(propose=better).model(), query=query, max_thoughts=8)
    chosen = next(event for event in spared.trace if isinstance(event, ActionsChosen))
    assert chosen.actions == (9,)
    off = await align(Script(propose=better).model(), query=query, look=False)
    assert all(
        one.kind is not ActionKind.LOOK
        for event in off.trace
        if isinstance(event, Proposed)
        for one in event.candidates
    )


def test_a_close_up_has_its_region_and_some_of_what_is_around_it() -> None:
    image = Image.new("RGB", (400, 300), "white")
    image.paste("red", (200, 150, 240, 180))
    picture = Picture.load(image)
    part = picture.close_up(Region(0.5, 0.5, 0.6, 0.6), (400, 300))
    assert isinstance(part, ImagePart)
    with Image.open(io.BytesIO(part.data)) as opened:
        shown = opened.convert("RGB")
    assert shown.size == (400, 300)
    red = [shown.getpixel((x, 150))[1] < 128 for x in range(400)]  # type: ignore[index]
    # 40 px of what is four times enlarged, 100 px to 400: a margin on both sides.
    assert 150 <= sum(red) <= 170
    assert not red[0]
    assert not red[-1]
    # At the edge it is moved inside, and never larger than the picture.
    corner = picture.close_up(Region(0.95, 0.95, 1, 1), (400, 300))
    assert (corner.width, corner.height) == (400, 300)
    assert picture.magnification(Region(0, 0, 1, 1), (400, 300)) == 1.0


@pytest.mark.parametrize(("width", "height"), [(10, 10), (300, 5), (5, 300), (27, 100), (100, 28)])
def test_small_views_are_enlarged_to_the_smallest_that_is_taken(width: int, height: int) -> None:
    picture = Picture.load(Image.new("RGB", (width, height), "red"))
    view = picture.view(512, 28)
    assert min(view.width, view.height) >= 28
    assert max(view.width, view.height) <= 512
    again = picture.sized_view(512, 28)
    assert (again.width, again.height, again.detail) == (view.width, view.height, view.detail)
    assert picture.view(512).width == width
