"""A search is traced once for all that is compiled of it: a second run waits for little else."""

import jax

from modeledit_jax import struct
from modeledit_jax.editors.search.evolution import RandomSearch
from modeledit_jax.run.edit_many import edit_many
from tests import tiny

TRACED = []


@struct.dataclass
class Counted(RandomSearch):
    """Notes when its Python runs."""

    def update(self, env, params, state):
        TRACED.append(1)
        return super().update(env, params, state)


def test_an_update_is_traced_once_however_many_chunks():
    search = Counted(budget=13 * Counted().evaluations_per_update)  # two chunks, the last shorter
    tasks = [tiny.task(index) for index in range(2)]
    results = edit_many(search, tasks, jax.random.key(0))
    assert results[0].trace.plans.shape[0] == 13
    assert len(TRACED) == 1
