from __future__ import annotations

import subprocess
import sys

import pytest

from ecoalign.errors import InputError
from ecoalign.models import open_model, profile_of
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.fake import FakeModel
from ecoalign.models.openai._model import OpenAIModel
from ecoalign.settings import Settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-12345678")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def test_openai() -> None:
    model = open_model("openai:gpt-4o", timeout=5)
    assert isinstance(model, OpenAIModel)
    assert (model.name, model.timeout) == ("openai:gpt-4o", 5)
    assert model.base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("llava", "llava"),
        ("llama3.2-vision:11b", "llama3.2-vision:11b"),
        ("openai:qwen2.5-vl:7b", "qwen2.5-vl:7b"),
        (" Qwen/Qwen3-VL-8B ", "Qwen/Qwen3-VL-8B"),
        ("hf.co/org/model:Q4", "hf.co/org/model:Q4"),
    ],
)
def test_a_server_takes_any_name(spec: str, name: str) -> None:
    model = open_model(spec, "http://localhost:11434/v1")
    assert isinstance(model, OpenAIModel)
    assert model.model == name
    assert model.base_url == "http://localhost:11434/v1"


def test_the_image_family_can_be_told() -> None:
    model = Settings(base_url="http://h/v1", image_family="qwen").open_model("my-alias")
    assert profile_of(model).family == "qwen"


def test_a_model_object_is_itself() -> None:
    model = FakeModel(lambda _: "")
    assert open_model(model) is model
    with pytest.raises(InputError, match="base URL"):
        open_model(model, "http://h/v1")


@pytest.mark.parametrize(
    ("spec", "guess"),
    [
        ("embeded", "'embedded'"),
        ("opnai:gpt-4o", "'openai:gpt-4o'"),
        ("OpenAI:gpt-4o", "'openai:gpt-4o'"),
        ("openai", "'openai:NAME'"),
        ("gpt-4o", "'openai:gpt-4o'"),
        ("", "'openai:NAME'"),
        ("gemini-2.5-flash", "'gemini:gemini-2.5-flash'"),
        ("claude-sonnet-4-5", "'anthropic:claude-sonnet-4-5'"),
    ],
)
def test_unkncustom_models_get_a_guess_and_the_choices(spec: str, guess: str) -> None:
    with pytest.raises(InputError) as caught:
        open_model(spec)
    assert guess in str(caught.value)
    assert "Providers: embedded, hf, openai, gemini" in str(caught.value)


def test_a_name_is_needed() -> None:
    with pytest.raises(InputError, match="no name"):
        open_model("openai: ")


def test_a_provider_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"Providers: embedded, hf, openai, .*lmstudio.* base URL"):
        open_model("hg:org/model")


def test_the_embedded_model() -> None:
    assert isinstance(open_model("embedded"), EmbeddedModel)
    with pytest.raises(InputError, match="one embedded model"):
        open_model("embedded:big")
    with pytest.raises(InputError, match="openai:embedded"):
        open_model("embedded", "http://h/v1")


def test_nothing_heavy_is_imported_to_open_a_server_model() -> None:
    code = (
        "import sys\n"
        "from ecoalign.models._registry import open_model\n"
        "import ecoalign.query._pictures, ecoalign.models.fake\n"
        "open_model('m', 'http://localhost/v1')\n"
        "heavy = {'openai', 'httpx2', 'PIL', 'numpy', 'torch'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
