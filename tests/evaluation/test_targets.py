import numpy as np

from modeledit_jax.evaluation.targets import first_met, forgotten, quantiles_of_needed


def test_a_request_is_fulfilled_where_both_conditions_hold():
    forget = np.array([[0.5, 0.01, 0.0], [0.0, 0.0, 0.0], [0.3, 0.2, 0.02]])
    retain = np.array([[0.9, 0.9, 0.9], [0.7, 0.8, 0.9], [0.9, 0.9, 0.9]])
    original = np.array([0.905, 0.91, 0.9])
    met = forgotten(forget, retain, original[:, None])
    assert met.tolist() == [[False, True, True], [False, False, True], [False] * 3]
    np.testing.assert_array_equal(first_met(met, np.array([10, 20, 30])), [20, 30, np.nan])
    assert forgotten(0.01, 0.95, 0.96) and not forgotten(0.0101, 0.95, 0.96)
    assert not forgotten(0.01, 0.9499, 0.96)


def test_a_target_never_met_is_infinitely_far():
    met = np.array([[False, True, False], [False, False, False], [True, True, True]])
    needed = first_met(met, np.array([10, 20, 30]))
    np.testing.assert_array_equal(needed, [20, np.nan, 10])
    assert quantiles_of_needed(needed, (0.0, 0.5, 0.9)) == [10, 20, np.inf]
