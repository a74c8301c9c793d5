"""The bounds of the embedded model's world, on a part of what `python -m lab.domain` measures."""

from __future__ import annotations

from lab.domain import measure_strange, measure_world


def test_at_most_one_per_cent_of_what_is_strange_gets_an_answer() -> None:
    rates = measure_strange(12)
    assert rates.asked["everyday_questions, no picture"] == 300
    assert rates.share() <= 0.01, rates
    assert max(rates.answered[group] / asked for group, asked in rates.asked.items()) <= 0.01


def test_nothing_of_the_world_is_lost() -> None:
    rates = measure_world(1)
    assert sum(rates.asked.values()) > 150
    assert rates.share() >= 0.995, rates
