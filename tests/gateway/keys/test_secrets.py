from __future__ import annotations

import hashlib

import pytest

from ecoalign.gateway.keys._policy import digest_of, matches, mint, split


def test_a_key_has_an_id_and_a_secret_of_256_bits() -> None:
    made = mint()
    word, key_id, secret = made.text.split("-")
    assert (word, key_id) == ("eco", made.id)
    # 52 letters of 5 bits hold 256 bits; the id has 60.
    assert (len(key_id), len(secret)) == (12, 52)
    assert split(made.text) == made.id
    assert secret not in repr(made)
    assert len({mint().text for _ in range(200)} | {mint().id for _ in range(200)}) == 400


def test_the_digest_is_that_of_the_whole_key() -> None:
    made = mint()
    assert made.digest == hashlib.sha256(made.text.encode()).hexdigest() == digest_of(made.text)
    assert matches(made.text, made.digest)
    other = mint()
    # The right secret under another id is another key.
    mixed = f"eco-{other.id}-{made.text.split('-')[2]}"
    assert not matches(mixed, made.digest)
    assert not matches(other.text, made.digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-abc",
        "eco--",
        f"eco-{'a' * 12}-{'b' * 51}",
        f"eco-{'a' * 12}-{'b' * 53}",
        f"eco-{'a' * 11}1-{'b' * 52}",
        f"eco-{'A' * 12}-{'b' * 52}",
        f" eco-{'a' * 12}-{'b' * 52}",
        f"eco-{'a' * 12}-{'b' * 52}\n",
        f"eco-{'ä' * 12}-{'b' * 52}",
    ],
)
def test_what_cannot_be_a_key(text: str) -> None:
    assert split(text) is None
