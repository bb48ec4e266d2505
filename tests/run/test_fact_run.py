"""Where a run on a stream of facts stops to ask."""

import numpy as np
import pytest

from modeledit_jax.run.fact_run import points


@pytest.mark.parametrize("total", [1, 2, 10, 11, 12, 13, 37, 100, 1000])
def test_points_cover_the_stream_ever_further_apart(total):
    bounds = points(total)
    assert bounds[0] == 0 and bounds[-1] == total and len(bounds) <= 11
    assert (np.diff(bounds) > 0).all()
    assert total == 1 or bounds[1] == 1
    assert sum(bounds) <= 3 * total  # what asking costs, in answers to all edits
    assert points(total, 1) == [0, total]
