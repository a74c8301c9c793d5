"""Metrics: what is counted under which name, and that no client can make up labels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from ecoalign.gateway.observe._metrics import METHODS, STAGES, GatewayMetrics
from ecoalign.methods import METHODS as ALL_METHODS


def read(metrics: GatewayMetrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    body, kind = metrics.render()
    assert kind.startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_what_happened_is_counted() -> None:
    metrics = GatewayMetrics()
    metrics.request_finished("ecoalign", 200, 0.2)
    metrics.request_finished("ecoalign:paper", 200, 700.0)
    metrics.request_finished("best-of-8", 429, 0.001)
    metrics.spent("score", 120, 0.25)
    metrics.spent("score", 30, None)
    metrics.refusal("ecoalign")
    metrics.fail_closed("evaluator")
    metrics.turned_away("overloaded")
    metrics.upstream_failed("model", "timeout")
    metrics.image_refused("address")
    metrics.disconnected("base")
    found = read(metrics)
    assert found["ecoalign_requests_total", "ecoalign", "200"] == 2
    assert found["ecoalign_requests_total", "best-of-n", "429"] == 1
    assert found["ecoalign_request_duration_seconds_count", "ecoalign"] == 2
    assert found["ecoalign_request_duration_seconds_sum", "ecoalign"] == 700.2
    assert found["ecoalign_request_duration_seconds_bucket", "0.25", "ecoalign"] == 1
    assert found["ecoalign_spent_tokens_total", "score"] == 150
    assert found["ecoalign_spent_usd_total", "score"] == 0.25
    assert found["ecoalign_unpriced_tokens_total", "score"] == 30
    assert found["ecoalign_refusals_total", "ecoalign"] == 1
    assert found["ecoalign_fail_closed_total", "evaluator"] == 1
    assert found["ecoalign_turned_away_total", "overloaded"] == 1
    assert found["ecoalign_upstream_failures_total", "timeout", "model"] == 1
    assert found["ecoalign_image_url_refusals_total", "address"] == 1
    assert found["ecoalign_disconnects_total", "base"] == 1


def test_the_queue_is_asked_when_it_is_read() -> None:
    metrics = GatewayMetrics()
    waiting = [3.0]
    metrics.queue(lambda: waiting[0], lambda: 1.0)
    assert read(metrics)["ecoalign_queue_waiting",] == 3
    waiting[0] = 0.0
    assert read(metrics)["ecoalign_queue_waiting",] == 0
    assert read(metrics)["ecoalign_requests_running",] == 1


def test_several_gateways_in_one_process_do_not_mix() -> None:
    one, other = GatewayMetrics(), GatewayMetrics()
    one.refusal("base")
    assert ("ecoalign_refusals_total", "base") not in read(other)
    registry = CollectorRegistry()
    assert GatewayMetrics(registry).registry is registry


def test_every_method_has_a_label() -> None:
    metrics = GatewayMetrics()
    for method in ALL_METHODS:
        metrics.refusal(method)
    assert ("ecoalign_refusals_total", "other") not in read(metrics)


def test_negative_spending_is_none() -> None:
    metrics = GatewayMetrics()
    metrics.spent("score", -5, -1.0)
    metrics.request_finished("base", 200, -1.0)
    assert read(metrics)["ecoalign_spent_tokens_total", "score"] == 0


@given(st.lists(st.tuples(st.text(max_size=30), st.integers()), max_size=20))
def test_labels_are_bounded_whatever_comes_in(made_up: list[tuple[str, int]]) -> None:
    metrics = GatewayMetrics()
    for text, number in made_up:
        metrics.request_finished(text, number, 1.0)
        metrics.spent(text, 1, 1.0)
        metrics.refusal(text)
        metrics.fail_closed(text)
        metrics.turned_away(text)
        metrics.upstream_failed(text, text)
        metrics.image_refused(text)
        metrics.disconnected(text)
    known = {name[1] for name in read(metrics) if name[0].startswith("ecoalign_refusals")}
    assert known <= METHODS | {"other"}
    stages = {name[1] for name in read(metrics) if name[0].startswith("ecoalign_spent_tokens")}
    assert stages <= STAGES | {"other"}
