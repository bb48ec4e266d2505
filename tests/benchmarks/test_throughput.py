"""The benchmark's contestants agree, and its results have the promised structure.

Nothing here looks at how long anything takes.
"""

import json
import math
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import throughput
from benchmarks.ceilings import Sizes, copy, evaluation_bytes, large_gemm
from benchmarks.figure import draw
from benchmarks.throughput import Config, judge, main, run
from benchmarks.timing import Contestant, Rates, fastest, flatness, measure, ratio, summary
from benchmarks.torch_loop import available, torch_loop
from benchmarks.workload import (
    DeepCNN,
    environment,
    evaluation_flops,
    full_forward,
    gemm,
    make_task,
    ppo_training,
    stacked_networks,
)
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.subjects.image_classifiers import CNN

EXAMPLES, CANDIDATES = 100, 6
TINY = Config(
    rounds=2,
    examples=EXAMPLES,
    candidates=(2, CANDIDATES),
    headline=CANDIDATES,
    full_candidates=4,
    gemm_chunks=(1, 2),
    depths=(1, 2),
    ppo_examples=EXAMPLES,
    ppo_updates=2,
)


@lru_cache
def cnn_task():
    return make_task(CNN(), EXAMPLES)


@lru_cache
def results():
    return run(TINY)


@pytest.mark.slow
@pytest.mark.parametrize("world", [ShiftWorld, MaskWorld])
def test_contestants_give_the_same_rewards(world):
    task = cnn_task()
    env = world(task)
    step = np.asarray(environment(env, CANDIDATES).run())[0]
    full = np.asarray(full_forward(env, task, CANDIDATES).run())
    assert step.std() > 0.01  # the candidates differ, so that agreement means something
    np.testing.assert_allclose(full, step, atol=1e-6)
    if available():
        # Another library rounds otherwise, which may turn an image now and then.
        torch_rewards = torch_loop(env, task, CANDIDATES).run()
        assert np.isclose(torch_rewards, step, atol=1e-6).mean() >= 0.8
        np.testing.assert_allclose(torch_rewards, step, atol=2 / (EXAMPLES // 10))


@pytest.mark.slow
def test_the_full_forward_shares_nothing_between_candidates():
    task = cnn_task()
    networks = stacked_networks(ShiftWorld(task), task, CANDIDATES)
    for stacked, leaf in zip(
        jax.tree.leaves(networks), jax.tree.leaves(task.subject.params), strict=True
    ):
        assert stacked.shape == (CANDIDATES, *leaf.shape)


@pytest.mark.slow
def test_deep_cnn_of_depth_one_is_the_cnn_and_deeper_ones_share_its_suffix():
    task = cnn_task()
    x, params = jnp.asarray(task.roles["reward"].x), task.subject.params
    np.testing.assert_array_equal(
        DeepCNN(1).apply({"params": params}, x), CNN().apply({"params": params}, x)
    )
    deep = make_task(DeepCNN(4), EXAMPLES)
    assert sum(name.startswith("conv") for name in deep.subject.params) == 8
    features = [ShiftWorld(t).default_params.features for t in (task, deep)]
    shapes = [jax.tree.map(lambda leaf: leaf.shape, feature) for feature in features]
    assert shapes[0] == shapes[1]
    assert evaluation_flops(deep) == 2 * EXAMPLES * (128 * 32 + 32 * 10)


def test_gemm_computes_the_product_it_counts():
    contestant = gemm(cnn_task(), chunk=3, products=2)
    assert contestant.run().shape == (EXAMPLES, 3 * 32)
    assert contestant.work == 2 * EXAMPLES * 128 * 3 * 32 * 2
    features, weights = contestant.run.args
    np.testing.assert_allclose(
        contestant.run(), np.asarray(features) @ np.asarray(weights[-1]), rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_ppo_and_the_environment_alone_make_the_same_number_of_evaluations():
    training, evaluations = ppo_training(ShiftWorld(cnn_task()), updates=3)
    state, metrics = training.run()
    assert int(state.updates) == 3 and metrics["reward"].shape == (3,)
    rewards = evaluations.run()
    assert rewards.size == training.work == evaluations.work


def test_rates_ratios_and_flatness_by_hand():
    fast = Rates(wall=np.array([4.0, 8.0, 6.0]), cpu=np.array([2.0, 2.0, 4.0]))
    slow = Rates(wall=np.array([2.0, 2.0, 1.0]), cpu=np.array([1.0, 1.0, 1.0]))
    # Round by round 2, 4 and 6.
    assert ratio(fast, slow) == {"median": 4, "low": 3, "high": 5, "best": 4, "cpu": 2}
    assert ratio(fast, slow, factor=0.5)["median"] == 2
    assert summary(fast) == {"median": 6, "low": 5, "high": 7, "best": 8, "cpu": 2}
    assert flatness([fast, slow]) == {"median": 3, "best": 4, "cpu": 2}
    assert fastest({"slow": slow, "fast": fast}) == "fast"


def test_every_contestant_runs_once_to_compile_and_then_in_every_round():
    turns = []
    contestants = {
        name: Contestant(lambda name=name: turns.append(name), work=5.0) for name in ("a", "b")
    }
    rates = measure(contestants, rounds=3)
    assert "".join(turns) == "ab" + "ab" + "ba" + "ab"
    assert all(rate.wall.shape == (3,) and (rate.wall > 0).all() for rate in rates.values())
    with pytest.raises(ValueError, match="at least 1"):
        measure(contestants, rounds=0)


@pytest.mark.slow
def test_results_have_every_measurement_with_its_spread():
    measured = results()
    assert measured["schema"] == throughput.SCHEMA
    assert {"name", "cpu_cores", "kind"} <= set(measured["device"])
    assert measured["software"]["jax"] == jax.__version__
    names = {f"{world}-{number}" for world in ("shift", "mask") for number in TINY.candidates}
    names |= {"full_forward", "soft_reward"} | ({"torch_loop"} if available() else set())
    assert set(measured["candidates"]["evaluations_per_second"]) == names
    rates = [
        rate
        for section in ("candidates", "depth", "ppo")
        for rate in measured[section]["evaluations_per_second"].values()
    ]
    for rate in [*rates, measured["candidates"]["peak_flops_per_second"]]:
        assert 0 < rate["low"] <= rate["median"] <= rate["high"] <= rate["best"]
    share = measured["ppo"]["ratios"]["ppo_share_weights"]
    assert share["low"] <= share["median"] <= share["high"] < 1
    assert math.isclose(
        share["cpu"],
        1
        - measured["ppo"]["evaluations_per_second"]["training_weights"]["cpu"]
        / measured["ppo"]["evaluations_per_second"]["environment"]["cpu"],
    )
    assert ("PyTorch" in " ".join(measured["notes"])) != available()


@pytest.mark.slow
def test_targets_are_judged_by_their_bounds():
    sections = {name: results()[name] for name in ("candidates", "depth", "ppo")}
    names = [target["name"] for target in judge(sections, TINY)]
    assert names == [
        "speedup_over_full_forward",
        "peak_fraction_shift",
        "flatness_shift",
        "peak_fraction_mask",
        "flatness_mask",
        "environment_depth_2",
        "ppo_share_time",
    ]
    made_up = dict(zip(names, (10.0, 0.49, 1.2, 0.5, 1.21, 1.11, 0.15), strict=True))
    ratios = {name: {"median": value} for name, value in made_up.items()}
    judged = judge({"all": {"ratios": ratios}}, TINY)
    passed = [target["passed"] for target in judged]
    assert passed == [True, False, True, True, False, False, True]


@pytest.mark.slow
def test_main_writes_json_and_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "run", lambda config: results())
    main(replace(TINY, output=tmp_path))
    name = results()["device"]["name"]
    assert json.loads((tmp_path / f"{name}.json").read_text())["targets"] == results()["targets"]
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("ppo_share") == 1


@pytest.mark.slow
def test_figure_shows_every_contestant(tmp_path):
    figure = draw(results(), tmp_path / "figure.png")
    candidates, depth, ppo = figure.axes
    labels = [text.get_text() for text in candidates.get_legend().get_texts()]
    assert any("ShiftWorld" in label and "peak" in label for label in labels)
    assert any("PyTorch" in label for label in labels) == available()
    assert len(depth.get_legend().get_texts()) == 3
    assert len(ppo.patches) == 4  # two bars in two parts


def test_ceilings_count_what_they_do():
    sizes = Sizes(rows=8, numbers=64)
    product = large_gemm(sizes)
    one, other = product.run.args
    np.testing.assert_allclose(product.run(), np.asarray(one) @ np.asarray(other), rtol=1e-5)
    assert product.work == 8 * 8 * (8 + 8)  # products and sums
    copied = copy(sizes)
    np.testing.assert_array_equal(copied.run(), 2 * np.ones(64))
    assert copied.work == 64 * 4 * 2  # read and written
    # Hidden layer of 32 and 10 logits, float32, written and read.
    assert evaluation_bytes(cnn_task()) == EXAMPLES * (32 + 10) * 4 * 2
