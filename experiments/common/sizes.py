"""What a search will take, known from shapes alone: before any network is trained."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.memory import FLOAT, check_memory
from experiments.common.options import ActionOptions
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.edits.parametrization import matrix_shape
from modeledit_jax.edits.site import leaf_paths, match_paths
from modeledit_jax.edits.site_choice import site_choice
from modeledit_jax.memory import machine_memory

Shapes = Mapping[str, tuple[int, ...]]


def site_shapes(module: nn.Module, examples: np.ndarray, site: Sequence[str]) -> Shapes:
    """Shapes of the leaves that may be edited, by path; nothing is computed.

    Args:
      module: the architecture.
      examples: ``[N, ...]``.
      site: patterns.

    Raises:
      ValueError: one that matches no leaf; the message lists the leaves there are.
    """
    example = jax.ShapeDtypeStruct((1, *examples.shape[1:]), examples.dtype)
    params = jax.eval_shape(module.init, jax.random.key(0), example)["params"]
    shapes = dict(zip(leaf_paths(params), map(jnp.shape, jax.tree.leaves(params)), strict=True))
    return {path: shapes[path] for path in match_paths(params, site)}


def check_search_memory(
    config: ActionOptions, searches: Sequence[SearchEditor], shapes: Shapes, tasks: int
) -> None:
    """Refuses searches that cannot choose so many leaves, or whose course alone needs more memory.

    Args:
      config: options.
      searches: to be run.
      shapes: of the leaves that may be edited.
      tasks: edited side by side.

    Raises:
      ValueError: one does not fit; the message names the options and the largest sensible values.
    """
    for search in searches:
        site_choice(search.sites_chosen, len(shapes), search.sites_drawn)
        size = sum(search.parametrization.size(shape) for shape in shapes.values())
        population = search.evaluations_per_update
        # Candidates of one task, their noise and their gradient; of the course of all, one copy to
        # save. Tasks are taken in parts where not all fit, their courses are kept.
        course = 2 * search.updates * search.horizon * size
        needed = float(FLOAT) * (3 * population * size + tasks * course)
        rank = max(min(matrix_shape(shape)) for shape in shapes.values())
        if config.parametrization == "low-rank" and config.rank > rank:
            cure = f"lower --rank {config.rank}; {rank} reaches every edit of these layers already"
        else:
            # Sizes grow at least as the budget does.
            fits = max(1, int(config.budget * machine_memory() / needed))
            cure = f"lower --budget {config.budget} (to {fits}) or --seeds {config.seeds}"
        what = f"{type(search).__name__} with actions of {size:,} numbers on {tasks} task(s)"
        check_memory(needed, what, cure)
