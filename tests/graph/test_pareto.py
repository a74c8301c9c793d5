"""Extraction equals brute force over all paths: every aggregator, every economy, every tie."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import networkx as nx
import pytest

from ecoalign.graph import ROOT, Thought, ThoughtGraph, ThoughtId, ThoughtKind
from ecoalign.graph._thought_graph import PrunedError
from ecoalign.graph.economics import (
    Economy,
    SafetyAggregator,
    UtilityAggregator,
    path_cost,
    path_safety,
    path_utility,
    worth,
)
from ecoalign.graph.pareto import Frontier, Limits, RankedPath, track, track_thoughts
from ecoalign.graph.pareto._label_setting import LabelSetting, Objective, build_problem
from ecoalign.graph.pareto._lagrangian import Band, Relaxation

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

THINK, ANSWER, REFUSAL = ThoughtKind.THINK, ThoughtKind.ANSWER, ThoughtKind.REFUSAL
OBJECTIVES = list(itertools.product(SafetyAggregator, Economy, UtilityAggregator))

# How many random graphs are tried: a few in the fast tests, all in the whole suite.
FEW_OR_MANY = pytest.mark.parametrize(
    "graphs", [pytest.param(40, id="few"), pytest.param(250, id="many", marks=pytest.mark.slow)]
)

# Small graphs never need the bands: these limits send them there.
ALWAYS_BANDS = Limits(plain=0, beam_width=1, band=10**6, total=10**9)
ALWAYS_SPLIT = Limits(plain=0, beam_width=1, band=0, total=10**9)
SOME_SPLIT = Limits(plain=0, beam_width=2, band=3, total=10**9)
NO_WORK = Limits(plain=0, beam_width=1, band=0, total=0)
LITTLE_WORK = Limits(plain=0, beam_width=1, band=5, total=30)

Key = tuple[float, float, float, float, int, tuple[int, ...]]


def brute_force(
    thoughts: Sequence[Thought], ends: Collection[int], budget: float, objective: Objective
) -> list[Key]:
    """All paths within the budget, the best first; networkx lists them, economics values them."""
    net: nx.DiGraph[int] = nx.DiGraph()
    net.add_nodes_from(t.id for t in thoughts)
    ids = set(net)
    net.add_edges_from((p, t.id) for t in thoughts for p in t.parents if p in ids)
    by_id = {t.id: t for t in thoughts}
    keys: list[Key] = []
    for path in nx.all_simple_paths(net, 0, [e for e in ends if e]):
        steps = [by_id[ThoughtId(i)] for i in path[1:]]
        utility = path_utility((t.utility for t in steps), objective.utility)
        cost = path_cost(t.cost for t in steps)
        safety = path_safety([t.safety for t in steps], objective.aggregator)
        if cost <= budget and safety >= objective.least:
            value = worth(objective.economy, safety, utility, cost, objective.price)
            keys.append((-value, -safety, cost, -utility, len(steps), tuple(path)))
    return sorted(keys)


def key(path: RankedPath) -> Key:
    return (
        -path.gamma, -path.safety, path.cost, -path.utility, len(path.ids) - 1, tuple(path.ids)
    )  # fmt: skip


def random_thoughts(
    rng: random.Random, aggregator: SafetyAggregator = SafetyAggregator.MIN
) -> tuple[list[Thought], set[ThoughtId]]:
    """A small DAG; coarse numbers make ties and zeros frequent, fine ones test the arithmetic.

    By the last thought or the average, half of them have thoughts with s < 0 that are alive.
    """
    least = 0 if aggregator is SafetyAggregator.MIN or rng.random() < 0.5 else -1
    mode = rng.choice(["coarse", "very coarse", "fine"])
    width = rng.randint(1, 5)
    thoughts = [Thought(ROOT, ThoughtKind.ROOT, "", rng.uniform(-1, 1), 1.0, 7.0)]
    for i in range(1, rng.randint(2, 11)):
        above = sorted(rng.sample(range(i), min(i, rng.randint(1, width))))
        if mode == "coarse":
            scores = (
                rng.randint(8 * least, 8) / 8,
                rng.randint(0, 4) / 4,
                float(rng.randint(0, 5)),
            )
        elif mode == "very coarse":
            scores = (
                rng.choice([least / 2, 0.0, 0.5, 1.0]),
                rng.choice([0.0, 1.0]),
                rng.choice([0.0, 1.0]),
            )
        else:
            scores = (rng.uniform(least, 1), rng.random(), rng.uniform(0.1, 3))
        parents = tuple(ThoughtId(p) for p in above)
        thoughts.append(Thought(ThoughtId(i), THINK, "", *scores, parents))
    return thoughts, {t.id for t in thoughts[1:] if rng.random() < 0.4}


def random_budget(rng: random.Random, thoughts: Sequence[Thought]) -> float:
    total = sum(t.cost for t in thoughts)
    return rng.choice(
        [0.0, math.inf, rng.uniform(0, total), float(rng.randint(0, 9)), total / 3, total / 6]
    )


@FEW_OR_MANY
@pytest.mark.parametrize(("aggregator", "economy", "utility"), OBJECTIVES)
def test_extraction_equals_brute_force(
    aggregator: SafetyAggregator, economy: Economy, utility: UtilityAggregator, graphs: int
) -> None:
    rng = random.Random(f"{aggregator}/{economy}/{utility}")
    found = 0
    for _ in range(graphs):
        thoughts, ends = random_thoughts(rng, aggregator)
        budget = random_budget(rng, thoughts)
        least = 0.0 if aggregator is SafetyAggregator.MIN else rng.choice([0.0, 0.25])
        objective = Objective(economy, aggregator, rng.choice([0.0, 0.125, 0.25]), utility, least)
        expected = brute_force(thoughts, ends, budget, objective)
        found += bool(expected)
        for limits in (Limits(), rng.choice([ALWAYS_BANDS, ALWAYS_SPLIT, SOME_SPLIT])):
            frontier = track_thoughts(thoughts, ends, budget, objective, limits=limits)
            assert frontier.exact
            assert frontier.epsilon == 0.0
            if not expected:
                assert frontier.best is None
                assert frontier.paths == ()
                continue
            assert frontier.best is not None
            assert key(frontier.best) == expected[0]
            assert frontier.bound == frontier.best.gamma
    assert found > 0.4 * graphs


@FEW_OR_MANY
@pytest.mark.parametrize(("aggregator", "economy", "utility"), OBJECTIVES)
def test_without_enough_work_the_gap_that_is_stated_holds(
    aggregator: SafetyAggregator, economy: Economy, utility: UtilityAggregator, graphs: int
) -> None:
    rng = random.Random(f"gap {aggregator}/{economy}/{utility}")
    inexact = 0
    for _ in range(graphs // 2):
        thoughts, ends = random_thoughts(rng, aggregator)
        budget = random_budget(rng, thoughts)
        objective = Objective(economy, aggregator, rng.choice([0.0, 0.125]), utility)
        expected = brute_force(thoughts, ends, budget, objective)
        for limits, epsilon in itertools.product((NO_WORK, LITTLE_WORK, SOME_SPLIT), (0.0, 0.2)):
            frontier = track_thoughts(
                thoughts, ends, budget, objective, limits=limits, epsilon=epsilon
            )
            if not expected:
                assert frontier.best is None
                continue
            assert frontier.best is not None
            assert key(frontier.best) in expected
            gamma, optimum = frontier.best.gamma, -expected[0][0]
            assert frontier.bound >= optimum or frontier.bound == pytest.approx(optimum)
            if frontier.exact:
                assert gamma == optimum
                assert frontier.epsilon == 0.0
            else:
                inexact += 1
                assert frontier.epsilon > 0.0
                assert gamma >= (1 - frontier.epsilon) * optimum or frontier.epsilon == math.inf
            if limits is SOME_SPLIT:
                assert frontier.epsilon <= epsilon + 1e-9
    assert inexact > 0.04 * graphs


def random_graph(rng: random.Random, aggregator: SafetyAggregator) -> ThoughtGraph:
    """Grown as a search grows it: thoughts fused, merged and pruned, some of them unsafe."""
    threshold = rng.choice([0.0, 0.25])
    graph = ThoughtGraph(
        "root",
        safety=rng.uniform(-1, 1),
        cost=99.0,
        threshold=threshold,
        aggregator=aggregator,
    )
    for _ in range(rng.randint(5, 18)):
        live = [t.id for t in graph]
        safety = rng.choice([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
        utility, cost = rng.randint(0, 4) / 4, float(rng.randint(0, 5))
        a, b = rng.choice(live), rng.choice(live)
        action = rng.random()
        try:
            if action < 0.2:
                graph.fuse([a, b], "f", safety=safety, utility=utility, cost=cost)
            elif action < 0.35:
                graph.merge(a, b)
            elif action < 0.4:
                graph.prune(a)
            else:
                kind = rng.choice([THINK, THINK, ANSWER, REFUSAL])
                graph.add(kind, "t", parent=a, safety=safety, utility=utility, cost=cost)
        except (PrunedError, ValueError):
            continue
    return graph


@pytest.mark.parametrize(("aggregator", "economy", "utility"), OBJECTIVES)
def test_extraction_from_grown_graphs_equals_brute_force(
    aggregator: SafetyAggregator, economy: Economy, utility: UtilityAggregator
) -> None:
    rng = random.Random(f"grown {aggregator}/{economy}/{utility}")
    several = unsafe = 0
    for _ in range(150):
        graph = random_graph(rng, aggregator)
        live = list(graph)
        unsafe += any(t.safety < graph.threshold for t in live[1:])
        several += any(len(t.parents) > 1 for t in live)
        any_end = rng.random() < 0.3
        ends = [t.id for t in live if t.id and (any_end or t.kind in (ANSWER, REFUSAL))]
        budget = random_budget(rng, live)
        objective = Objective(economy, aggregator, 0.125, utility, graph.threshold)
        expected = brute_force(live, ends, budget, objective)
        frontier = track(
            graph,
            budget,
            aggregator=aggregator,
            economy=economy,
            utility=utility,
            price=0.125,
            any_end=any_end,
        )
        best = frontier.best
        assert (best is None) == (not expected)
        if best is not None:
            assert key(best) == expected[0]
            assert best.safety >= graph.threshold
            assert graph.path(best.ids)[-1].id == best.ids[-1]
            assert not any(graph.is_pruned(i) for i in best.ids)
    assert several > 30
    # By the weakest link such a thought is pruned; else it leads to paths that may be safe.
    assert (unsafe > 30) is (aggregator is not SafetyAggregator.MIN)


def chain(*steps: tuple[float, float, float], end: ThoughtKind = ANSWER) -> ThoughtGraph:
    graph = ThoughtGraph("root", safety=-1.0, utility=9.0, cost=1000.0)
    last = ROOT
    for i, (safety, utility, cost) in enumerate(steps):
        kind = end if i == len(steps) - 1 else THINK
        last = graph.add(
            kind, "", parent=last, safety=safety, utility=utility, cost=cost
        ).id  # fmt: skip
    return graph


def best_of(frontier: Frontier) -> RankedPath:
    assert frontier.best is not None
    return frontier.best


def test_the_numbers_of_a_path_leave_the_root_out() -> None:
    graph = chain((0.5, 1.0, 10.0), (0.8, 2.0, 20.0))
    best = best_of(track(graph, 30.0))
    assert best == RankedPath((ROOT, ThoughtId(1), ThoughtId(2)), 3.0, 30.0, 0.5, 0.05)
    for aggregator, safety in [("last", 0.8), ("mean", 0.65)]:
        other = best_of(track(graph, 30.0, aggregator=SafetyAggregator(aggregator)))
        assert other.safety == pytest.approx(safety)


def test_the_budget_is_a_hard_limit_that_may_be_met() -> None:
    for less in (29.999, math.nextafter(30.0, 0.0)):
        graph = chain((0.5, 1.0, 10.0), (0.8, 2.0, 20.0))
        assert track(graph, 30.0).best is not None
        nothing = track(graph, less)
        assert nothing.best is None
        assert nothing.exact
        graph.add(ANSWER, "", parent=ROOT, safety=1.0, utility=0.0, cost=1.0)
        assert all(path.cost <= less for path in track(graph, less).paths)


def test_what_only_paths_beyond_the_budget_reach_is_no_part_of_the_problem() -> None:
    graph = chain((1.0, 0.5, 5.0), (1.0, 0.5, 1.0))
    cheap = graph.add(ANSWER, "", parent=ROOT, safety=1.0, utility=0.5, cost=5.0)
    assert build_problem(graph.topological(), graph.ends, 5.0).ids == [ROOT, cheap.id]
    assert len(build_problem(graph.topological(), graph.ends, 6.0).ids) == 4


def test_only_an_answer_or_a_refusal_ends_a_path_unless_told_otherwise() -> None:
    thought_only = chain((1.0, 1.0, 1.0), end=THINK)
    none = track(thought_only, 10.0)
    assert (none.best, none.exact, none.epsilon, none.bound) == (None, True, 0.0, -math.inf)
    assert best_of(track(thought_only, 10.0, any_end=True)).ids == (0, 1)
    assert best_of(track(chain((1.0, 1.0, 1.0), end=REFUSAL), 10.0)).ids == (0, 1)
    assert track(ThoughtGraph("root"), 10.0, any_end=True).best is None


def test_an_unsafe_thought_is_on_no_path_under_any_aggregator() -> None:
    for aggregator in SafetyAggregator:
        graph = chain((-0.1, 9.0, 1.0))
        safe = graph.add(ANSWER, "", parent=ROOT, safety=0.1, utility=0.1, cost=50.0)
        assert best_of(track(graph, 99.0, aggregator=aggregator)).ids == (ROOT, safe.id)
    unsafe = Thought(ThoughtId(1), ANSWER, "", -0.1, 1.0, 1.0, (ROOT,))
    with pytest.raises(ValueError, match="pruned"):
        track_thoughts([graph.root, unsafe], {unsafe.id}, 9.0, Objective())


def test_a_dear_detour_through_a_weak_link_does_not_win() -> None:
    graph = ThoughtGraph("root")
    weak = graph.add(THINK, "", parent=ROOT, safety=0.1, utility=5.0, cost=10.0)
    safe = graph.add(THINK, "", parent=ROOT, safety=0.9, utility=1.0, cost=10.0)
    one = graph.add(ANSWER, "", parent=weak.id, safety=1.0, utility=1.0, cost=10.0)
    two = graph.add(ANSWER, "", parent=safe.id, safety=0.9, utility=1.0, cost=10.0)
    assert best_of(track(graph, 99.0)).ids[-1] == two.id
    assert best_of(track(graph, 99.0, aggregator=SafetyAggregator.LAST)).ids[-1] == one.id


def test_a_path_through_one_parent_of_a_fusion_sees_the_safety_of_all() -> None:
    graph = ThoughtGraph("root")
    clean = graph.add(THINK, "", parent=ROOT, safety=1.0, utility=1.0, cost=1.0)
    risky = graph.add(THINK, "", parent=ROOT, safety=0.1, utility=1.0, cost=1.0)
    fused = graph.fuse([clean.id, risky.id], "", safety=1.0, utility=9.0, cost=1.0)
    answer = graph.add(ANSWER, "", parent=fused.id, safety=1.0, utility=1.0, cost=1.0)
    best = best_of(track(graph, 99.0))
    assert best.ids == (ROOT, clean.id, fused.id, answer.id)
    assert best.safety == 0.1


def test_ties_fall_to_safety_cost_steps_and_then_ids() -> None:
    def add(
        graph: ThoughtGraph, parent: int, safety: float, utility: float, cost: float
    ) -> ThoughtId:
        return graph.add(
            ANSWER, "", parent=ThoughtId(parent), safety=safety, utility=utility, cost=cost
        ).id  # fmt: skip

    graph = ThoughtGraph("root")
    add(graph, 0, 0.5, 2.0, 2.0)
    safer = add(graph, 0, 1.0, 1.0, 2.0)
    assert best_of(track(graph, 9.0)).ids == (ROOT, safer)
    cheaper = add(graph, 0, 1.0, 0.5, 1.0)
    assert best_of(track(graph, 9.0)).ids == (ROOT, cheaper)
    add(graph, 0, 1.0, 0.5, 1.0)
    assert best_of(track(graph, 9.0)).ids == (ROOT, cheaper)
    graph = ThoughtGraph("root")
    longer = add(graph, add(graph, 0, 1.0, 0.5, 0.5), 1.0, 0.5, 1.5)
    shorter = add(graph, 0, 1.0, 1.0, 2.0)
    assert longer < shorter
    assert best_of(track(graph, 9.0, economy=Economy.NO_COST)).ids == (ROOT, shorter)


def starts_that_meet(*scores: tuple[float, float, float]) -> tuple[list[Thought], set[ThoughtId]]:
    """Alternative starts under the root that meet in one thought; its child is the answer."""
    thoughts = [Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)]
    for i, score in enumerate(scores[:-1], start=1):
        thoughts.append(Thought(ThoughtId(i), THINK, "", *score, (ROOT,)))
    parents = tuple(t.id for t in thoughts[1:])
    meet, end = ThoughtId(len(scores)), ThoughtId(len(scores) + 1)
    thoughts.append(Thought(meet, THINK, "", 1.0, 0.0, 0.0, parents))
    return [*thoughts, Thought(end, ANSWER, "", *scores[-1], (meet,))], {end}


def test_an_advantage_in_safety_that_vanishes_later_decides_no_tie() -> None:
    thoughts, ends = starts_that_meet((0.8, 1.0, 1.0), (0.9, 1.0, 1.0), (0.5, 1.0, 1.0))
    for limits in (Limits(), ALWAYS_BANDS, ALWAYS_SPLIT):
        best = best_of(track_thoughts(thoughts, ends, 9.0, Objective(), limits=limits))
        assert best.ids == (0, 1, 3, 4)


def test_a_tie_hidden_behind_a_more_promising_start_is_still_broken_rightly() -> None:
    tempting, dear, cheap = (0.5, 4.0, 4.0), (1.0, 1.1875, 3.0), (1.0, 0.25, 1.0)
    for starts in itertools.permutations((tempting, dear, cheap)):
        thoughts, ends = starts_that_meet(*starts, (1.0, 0.6875, 1.0))
        for limits in (Limits(), ALWAYS_BANDS, ALWAYS_SPLIT):
            frontier = track_thoughts(thoughts, ends, 9.0, Objective(), limits=limits)
            best = best_of(frontier)
            assert frontier.exact
            assert (best.gamma, best.safety, best.cost) == (0.46875, 1.0, 2.0)


def test_a_run_that_gives_labels_up_says_so() -> None:
    thoughts, ends = starts_that_meet((0.5, 2.0, 4.0), (1.0, 0.25, 1.0), (1.0, 1.0, 1.0))
    label_setting = LabelSetting(build_problem(thoughts, ends, 9.0), 9.0, Objective())
    assert label_setting.run(beam_width=2, allowance=math.inf).complete
    beam = label_setting.run(beam_width=1, allowance=math.inf)
    assert not beam.complete
    assert beam.excess == math.inf
    assert len(beam.ends) == 1
    assert label_setting.run(beam_width=math.inf, allowance=5).complete is False


def test_a_path_that_costs_nothing_is_worth_infinitely_much_if_it_is_worth_anything() -> None:
    graph = chain((0.5, 1.0, 0.0))
    other = graph.add(ANSWER, "", parent=ROOT, safety=1.0, utility=9.0, cost=1.0)
    for limits in (Limits(), ALWAYS_SPLIT):
        assert best_of(track(graph, 9.0, limits=limits)).gamma == math.inf
    graph = chain((0.5, 0.0, 0.0))
    other = graph.add(ANSWER, "", parent=ROOT, safety=1.0, utility=9.0, cost=1.0)
    for limits in (Limits(), ALWAYS_SPLIT):
        assert best_of(track(graph, 9.0, limits=limits)).ids == (ROOT, other.id)


def test_alternatives_are_the_next_best_undominated_paths_to_each_end() -> None:
    graph = ThoughtGraph("root")
    for safety, utility, cost in [(0.9, 1.0, 10.0), (0.5, 1.0, 10.0), (0.2, 1.0, 10.0)]:
        graph.add(ANSWER, "", parent=ROOT, safety=safety, utility=utility, cost=cost)
    frontier = track(graph, 99.0)
    assert [p.ids[-1] for p in frontier.paths] == [1, 2, 3]
    assert [p.ids[-1] for p in track(graph, 99.0, alternatives=2).paths] == [1, 2]
    assert frontier.whole


def test_the_frontier_is_every_undominated_path_to_each_end() -> None:
    rng = random.Random(5)
    for _ in range(100):
        thoughts, ends = random_thoughts(rng)
        budget = random_budget(rng, thoughts)
        keys = brute_force(thoughts, ends, budget, Objective())
        frontier = track_thoughts(thoughts, ends, budget, Objective(), alternatives=10**6)
        got = [key(path) for path in frontier.paths]
        assert got == sorted(got)
        assert set(got) <= set(keys)
        for end in ends:
            triples = {k[1:4] for k in keys if k[5][-1] == end}
            best = {
                t for t in triples
                if not any(o != t and all(x <= y for x, y in zip(o, t, strict=True))
                           for o in triples)
            }  # fmt: skip
            assert best <= {k[1:4] for k in got if k[5][-1] == end}


def dense(seed: int, nodes: int, fan: int) -> tuple[list[Thought], set[ThoughtId]]:
    rng = random.Random(seed)
    thoughts = [Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)]
    for i in range(1, nodes):
        parents = tuple(ThoughtId(p) for p in rng.sample(range(i), min(i, rng.randint(1, fan))))
        scores = (rng.random(), rng.random(), rng.uniform(1, 100))
        thoughts.append(Thought(ThoughtId(i), THINK, "", *scores, parents))
    return thoughts, {t.id for t in thoughts[1:] if rng.random() < 0.2}


@pytest.mark.parametrize("economy", Economy)
def test_the_bands_agree_with_plain_labels_on_graphs_too_large_to_enumerate(
    economy: Economy,
) -> None:
    for seed, aggregator in enumerate(SafetyAggregator):
        thoughts, ends = dense(seed, 90, 6)
        for budget in (150.0, 600.0):
            objective = Objective(economy, aggregator, 0.002)
            patient = Limits(plain=10**7)
            plain = track_thoughts(thoughts, ends, budget, objective, limits=patient)
            bands = track_thoughts(
                thoughts, ends, budget, objective, limits=Limits(plain=0, total=10**7)
            )
            assert plain.whole
            assert plain.exact
            assert bands.exact
            assert not bands.whole
            assert bands.best == plain.best


def test_where_frontiers_explode_the_work_is_bounded_and_the_gap_is_small() -> None:
    thoughts, ends = dense(1, 400, 20)
    objective = Objective(Economy.NO_COST, SafetyAggregator.MEAN)
    few = Limits(plain=2000, band=1000, total=10_000)
    frontier = track_thoughts(thoughts, ends, 400.0, objective, limits=few)
    assert not frontier.exact
    assert 0.0 < frontier.epsilon < 0.5
    more = track_thoughts(thoughts, ends, 400.0, objective, limits=Limits(total=60_000))
    assert best_of(more).gamma <= frontier.bound
    assert best_of(frontier).gamma <= more.bound


@pytest.mark.parametrize(("starts", "exact"), [(0, True), (100, False)])
def test_the_work_that_is_allowed_also_pays_for_the_edges_of_longest_paths(
    starts: int, exact: bool
) -> None:
    """Starts that are not worth following add no labels, but every longest path sees them."""
    tempting, dear, cheap, useless = (0.5, 4, 4), (1, 1.1875, 3), (1, 0.25, 1), (0.1, 0.01, 8)
    thoughts, ends = starts_that_meet(tempting, dear, cheap, *[useless] * starts, (1, 0.6875, 1))
    limits = Limits(plain=0, beam_width=1, band=0, total=30)
    frontier = track_thoughts(thoughts, ends, 9.0, Objective(), limits=limits)
    assert frontier.exact is exact
    assert frontier.whole is False


def test_at_500_thoughts_the_paper_s_objective_is_exact() -> None:
    thoughts, ends = dense(2, 500, 20)
    frontier = track_thoughts(thoughts, ends, 2000.0, Objective())
    assert frontier.exact
    assert frontier.best is not None


@pytest.mark.parametrize(
    "options",
    [
        {"budget": -1.0}, {"budget": math.nan}, {"price": -0.1}, {"price": math.inf},
        {"alternatives": 0}, {"epsilon": 1.0}, {"epsilon": -0.1}, {"epsilon": math.nan},
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(options: dict[str, float]) -> None:
    graph = chain((1.0, 1.0, 1.0))
    values: dict[str, float] = {"budget": 9.0, "price": 0.0, "epsilon": 0.0, **options}
    with pytest.raises(ValueError, match="must be"):
        track(
            graph,
            values["budget"],
            price=values["price"],
            epsilon=values["epsilon"],
            alternatives=int(values.get("alternatives", 1)),
        )


def test_limits_have_a_range() -> None:
    for wrong in ({"beam_width": 0}, {"plain": -1}, {"band": -1}, {"total": -1}):
        with pytest.raises(ValueError, match="Limits"):
            Limits(**wrong)


def test_between_free_paths_the_safer_one_wins_though_a_beam_has_lost_it() -> None:
    """Both are worth infinitely much, and at the beam's width the costly start hides them."""
    free, costly, meet = ThoughtId(1), ThoughtId(2), ThoughtId(3)
    root = Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)
    thoughts = [
        Thought(free, THINK, "", 1.0, 0.0, 0.0, (ROOT,)),
        Thought(costly, THINK, "", 1.0, 5.0, 1.0, (ROOT,)),
        Thought(meet, THINK, "", 1.0, 0.0, 0.0, (free, costly)),
        Thought(ThoughtId(4), ANSWER, "", 0.5, 3.0, 0.0, (meet,)),
        Thought(ThoughtId(5), ANSWER, "", 1.0, 1.0, 0.0, (meet,)),
    ]
    aside = [
        Thought(ThoughtId(6), THINK, "", 1.0, 1.0, 1.0, (ROOT,)),
        Thought(ThoughtId(7), ANSWER, "", 1.0, 1.0, 1.0, (ThoughtId(6),)),
    ]
    ends = {ThoughtId(4), ThoughtId(5), ThoughtId(7)}
    orders = ([root, *thoughts, *aside], [root, *aside, *thoughts])
    for limits, order in itertools.product((Limits(), ALWAYS_BANDS, ALWAYS_SPLIT), orders):
        frontier = track_thoughts(order, ends, 9.0, Objective(), limits=limits)
        assert best_of(frontier).ids == (0, 1, 3, 5)
        assert best_of(frontier).gamma == frontier.bound == math.inf
        assert frontier.exact


def relaxation(economy: Economy, budget: float = math.inf) -> Relaxation:
    """Of the one path with S = 0.5, U = 2 and C = 4."""
    graph = chain((0.5, 1.5, 3.0), (0.8, 0.5, 1.0))
    objective = Objective(economy, price=0.1)
    return Relaxation(build_problem(graph.topological(), graph.ends, budget), budget, objective)


@pytest.mark.parametrize("economy", [Economy.SURPLUS, Economy.NO_COST])
def test_without_a_ratio_the_bound_is_the_value_and_what_may_be_gained(economy: Economy) -> None:
    found = relaxation(economy)
    assert found.bound(Band(0.0, 1.0), 0.5, 0.25) == 0.75
    assert found.bound(Band(0.0, 1.0), 0.5, -1.0) == 0.5


def test_of_a_ratio_the_bound_is_the_best_ratio_of_the_relaxed_paths() -> None:
    ratio = relaxation(Economy.RATIO)
    assert ratio.bound(Band(0.5, 0.5), 0.0, 9.0) == pytest.approx(0.5 * 2.0 / 4.0)
    assert ratio.bound(Band(0.5, 1.0), 0.0, 9.0) == pytest.approx(1.0 * 2.0 / 4.0)
    assert ratio.bound(Band(0.0, 0.5), 0.0, 9.0) == pytest.approx(0.5 * 2.0 / 4.0)
    # What is stated as the excess may be tighter; the least cost of a path is 4.
    assert ratio.bound(Band(0.5, 1.0), 0.2, 0.4) == pytest.approx(0.2 + 0.4 / 4.0)
    assert ratio.bound(Band(0.5, 0.5), 0.3, -1.0) == pytest.approx(0.3)


def test_the_excess_of_a_band_is_that_of_its_longest_path() -> None:
    for economy, value, excess in (
        (Economy.RATIO, 0.125, 0.8 * 2.0 - 0.125 * 4.0),
        (Economy.NO_COST, 0.125, 0.8 * 2.0 - 0.125),
        (Economy.SURPLUS, 0.125, 0.8 * 2.0 - 0.1 * 4.0 - 0.125),
    ):
        relaxed = relaxation(economy)
        (solved,) = relaxed.relax(Band(0.4, 0.8), value)
        assert relaxed.solved == 1
        assert solved.excess == pytest.approx(excess)
        assert solved.path == [1, 2]
    assert relaxation(Economy.RATIO).relax(Band(0.6, 0.8), 0.0) == []


def test_between_worthless_paths_the_cheaper_one_wins_though_a_beam_has_lost_it() -> None:
    thoughts, ends = starts_that_meet((1.0, 1.0, 5.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0))
    for limits in (Limits(), ALWAYS_BANDS, ALWAYS_SPLIT):
        best = best_of(track_thoughts(thoughts, ends, 9.0, Objective(), limits=limits))
        assert (best.gamma, best.cost, best.ids) == (0.0, 2.0, (0, 2, 3, 4))


@pytest.mark.parametrize("aggregator", SafetyAggregator)
def test_a_label_carries_the_safety_of_its_path(aggregator: SafetyAggregator) -> None:
    objective = Objective(Economy.RATIO, aggregator)
    for safeties in ([0.7], [0.3, 0.7], [0.9, 0.2, 0.6]):
        carried = 0.0 if aggregator is SafetyAggregator.MEAN else -1.0
        for safety in safeties:
            carried = objective.carry(carried, safety)
        found = objective.safety(carried, len(safeties))
        assert found == pytest.approx(path_safety(safeties, aggregator))


def test_where_only_the_last_safety_counts_a_band_has_the_paths_that_end_in_it() -> None:
    graph = chain((0.5, 1.5, 3.0), (0.8, 0.5, 1.0))
    objective = Objective(Economy.RATIO, SafetyAggregator.LAST)
    problem = build_problem(graph.topological(), graph.ends, 9.0)
    found = Relaxation(problem, 9.0, objective)
    assert found.relax(Band(0.4, 0.6), 0.0) == []
    (solved,) = found.relax(Band(0.7, 0.9), 0.0)
    assert solved.path == [1, 2]
    assert found.label(solved.path) == (4.0, -2.0, -0.8, 2, (0, 1, 2))


def test_the_only_safe_path_is_found_where_a_narrow_beam_loses_it() -> None:
    """On average the useful start is not safe enough at the end, and looks better until then."""
    useful, careful = (-0.3, 9.0, 1.0), (0.1, 1.0, 1.0)
    thoughts, ends = starts_that_meet(useful, careful, (0.0, 0.0, 1.0))
    last = replace(thoughts[-1], safety=-0.9)
    objective = Objective(Economy.NO_COST, SafetyAggregator.MEAN)
    frontier = track_thoughts([*thoughts[:-1], last], ends, 9.0, objective, limits=ALWAYS_SPLIT)
    assert best_of(frontier).ids[1] == 2
    assert frontier.exact
    assert best_of(frontier).safety == pytest.approx(0.2 / 3)
