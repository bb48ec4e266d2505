"""How many candidate edits are evaluated side by side."""

import math

import jax

from modeledit_jax.envs.world import World, WorldParams

# Largest intermediate of an evaluation, in array elements. On CPU an edited layer's outputs that
# outgrow the last-level cache (and are then paged in anew at every call) cost a factor of three:
# 2^20 float32 are 4 MB, for 32 columns the 32768 // N candidates of the recorded benchmark.
# Elsewhere the limit merely bounds memory, at 1 GB.
_LARGEST = {"cpu": 2**20}
_LARGEST_ELSEWHERE = 2**28


def candidates_at_once(env: World, params: WorldParams, total: int) -> int:
    """Returns how many of ``total`` candidates to evaluate at a time, for speed and memory.

    Such batches keep the outputs of the edited layer, ``[batch, N, H]``, in cache on CPU, however
    many candidates there are. They are as equal in size as possible, so that the last is not a
    small one.

    Args:
      env: the world; its widest edited leaf gives ``H``.
      params: its params, which may be traced; the shape of the reward examples gives ``N``.
      total: number of candidates, at least 1.
    """
    columns = max(shape[-1] for _, shape in env.edit.shapes)
    largest = _LARGEST.get(jax.default_backend(), _LARGEST_ELSEWHERE)
    limit = max(largest // max(params.original_outputs.shape[0] * columns, 1), 1)
    return math.ceil(total / math.ceil(total / limit))
