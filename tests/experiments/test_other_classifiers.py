from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from experiments.bias_mitigation.other_classifiers import under_other_classifiers
from experiments.common.methods import Evaluation, Result
from modeledit_jax.editors.editor import Cost

SEEDS, FOLDS = (3, 4, 5), 2


def network(seed):
    return {
        "language_model": {"down": {"kernel": jnp.zeros(())}},
        "fc2": {"kernel": jnp.asarray(seed)},
    }


def leaves_of(path, fold, seed):
    return {path: jnp.asarray(100.0 * fold + seed)}


def setup_and_results(path, seeds=SEEDS):
    tasks = [SimpleNamespace(subject=SimpleNamespace(params=network(seed))) for _ in range(FOLDS)
             for seed in seeds]  # fmt: skip
    setup = SimpleNamespace(seeds=list(seeds), tasks=tasks)
    leaves = [leaves_of(path, fold, seed) for fold in range(FOLDS) for seed in seeds]
    results = [
        Result("original", [{}] * len(tasks), [Cost()] * len(tasks)),
        Result("ppo-shift", [{}] * len(tasks), [Cost()] * len(tasks), leaves=leaves),
    ]
    return setup, results


def outputs(task, params):
    """The two parts of the network that was judged."""
    parts = params["language_model"]["down"]["kernel"], params["fc2"]["kernel"]
    return {"test": np.array([float(part) for part in parts])}


EVALUATION = Evaluation(outputs, ("test",))


def test_edits_are_judged_under_the_next_classifier_of_their_fold():
    (found,) = under_other_classifiers(*setup_and_results("language_model/down/kernel"), EVALUATION)
    assert found.method == "ppo-shift-other-classifier" and found.leaves is None
    judged = [one["test"].tolist() for one in found.outputs]
    assert judged == [[5, 3], [3, 4], [4, 5], [105, 3], [103, 4], [104, 5]]


def test_edits_of_the_classifier_and_single_classifiers_are_not():
    assert under_other_classifiers(*setup_and_results("fc2/kernel"), EVALUATION) == []
    alone = setup_and_results("language_model/down/kernel", seeds=(3,))
    assert under_other_classifiers(*alone, EVALUATION) == []
