"""The benchmark's contestants do what they are timed for. Nothing here looks at the time."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.group_auc import LIMIT, Config, contestants, main

TINY = Config(rounds=2, examples=(64, 100), groups=3, candidates=4, batches=(3,))


def test_contestants_sort_and_score_the_same_candidates():
    timed = contestants(TINY, 100)
    assert set(timed) == {
        *(f"{name}-3" for name in ("sort", "auc", "group_aucs")),
        "sort-all",
    }
    assert {contestant.work for contestant in timed.values()} == {4}
    (scores,) = timed["sort-all"].run.args
    for name in ("sort-all", "sort-3"):
        np.testing.assert_array_equal(timed[name].run(), jnp.sort(scores, axis=-1))
    result = timed["group_aucs-3"].run()
    np.testing.assert_allclose(result.overall, timed["auc-3"].run(), atol=1e-6)
    assert result.bpsn.shape == (4, 3)
    label = timed["auc-3"].run.func.__wrapped__.args[0].keywords["label"]
    np.testing.assert_allclose(
        result.overall, [roc_auc_score(label, z) for z in np.asarray(scores)], atol=1e-6
    )


@pytest.mark.slow
def test_main_writes_costs_and_judges_the_headline_size(tmp_path, capsys):
    main(Config(**{**vars(TINY), "output": tmp_path}))
    (path,) = tmp_path.glob("group-auc-*.json")
    results = json.loads(path.read_text())
    assert set(results["by_examples"]) == {"64", "100"}
    for measured in results["by_examples"].values():
        for cost in measured["cost_in_sorts"].values():
            assert 0 < cost["low"] <= cost["median"] <= cost["high"]
    rate = results["edited_classifiers_per_second"]
    assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    (target,) = results["targets"]
    assert target["name"] == "group_aucs_in_sorts_100"
    assert target["value"] == results["by_examples"]["100"]["cost_in_sorts"]["group_aucs"]["median"]
    assert target["passed"] == (target["value"] <= LIMIT)
    assert capsys.readouterr().out.count("sorts  [") == 4
