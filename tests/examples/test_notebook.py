"""The notebook runs from top to bottom on the embedded model, and is kept without its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TOUR = EXAMPLES / "tour.ipynb"


def cells() -> list[dict[str, Any]]:
    body = json.loads(TOUR.read_text(encoding="utf-8"))
    return list(body["cells"])


def test_it_is_short_and_kept_without_output() -> None:
    assert len(cells()) < 12
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert {(cell["execution_count"], len(cell["outputs"])) for cell in code} == {(None, 0)}
    assert "](tour.ipynb)" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The outputs of each cell of code, in order."""
    nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        notebook = nbformat.read(TOUR, as_version=4)
        where = {"metadata": {"path": str(EXAMPLES)}}
        # A cell that raises ends it.
        nbclient.NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources=where
        ).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def shown(outputs: Any, kind: str = "text/html") -> list[str]:
    """What is displayed as `kind`, and as text what is printed."""
    return [
        output["text"] if output.output_type == "stream" else output.data.get(kind, "")
        for output in outputs
    ]


# A kernel is started, and the model loaded: several seconds.
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_cell_runs_and_shows_what_the_text_around_it_says(ran: list[Any]) -> None:
    picture, asked, path, compared, streamed, judged = ran
    assert "image/png" in picture[0].data
    (page,) = shown(asked)
    assert "59." in page
    assert "<svg" in page
    assert "What it cost" in page
    assert "answer" in "".join(shown(path))
    forbidden, harmless = shown(compared)
    assert "tap it twice" in forbidden
    assert "answer this" in forbidden
    assert harmless.count("owl.") == 2
    assert "the answer: 59." in "".join(shown(streamed))
    (page,) = shown(judged)
    assert "green" not in page.partition("<svg")[0]
    assert not [output for outputs in ran for output in outputs if output.get("name") == "stderr"]
