"""Array and pytree types shared by every floor, and the one legend of dimension letters.

Dimension letters, used in shapes and comments throughout the package::

    N  examples of an evaluation set          C  classes (outputs of a classifier)
    D  rows of an edited matrix (inputs)      H  columns of an edited matrix (outputs)
    A  size of an action vector               R  rank of a low-rank edit
    E  environments or candidates in parallel T  steps of an episode or rollout
    B  tasks or seeds in parallel             P  named parts of a reward
    K  updates of a search                    I  identity terms of comments
    S  batches of a stream of facts           M  edited modules of a language model
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax

from modeledit_jax import struct

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
"""A typed PRNG key (`jax.random.key`), used once."""

PyTree: TypeAlias = Any
Params: TypeAlias = Any
"""Parameter pytree of a network."""

Leaves: TypeAlias = dict[str, Array]
"""The edited leaves of a parameter pytree, keyed by path, e.g. ``{"fc2/kernel": W}``."""

Apply: TypeAlias = Callable[[Params, Array], Array]
"""``apply(params, x [N, ...]) -> outputs [N, C]``, pure."""

Field: TypeAlias = Any
"""An array field of a state dataclass; its shape and dtype stand in a comment beside it.

Not annotated as an array because JAX rebuilds such dataclasses with placeholders
(``in_axes`` of `jax.vmap`, tree definitions), which a run-time type checker would reject.
"""

Advance: TypeAlias = Callable[[PyTree, int, int], tuple[PyTree, Mapping[str, Any]]]
"""A long computation, some steps of it: ``advance(state, steps done, steps to go now) -> (state,
{name: [steps, ...]})``; it may use up the state it is given."""

Report: TypeAlias = Callable[[int, int, Mapping[str, Any]], None]
"""``report(steps done, of, {name: [steps of the last chunk, ...]})`` shows its progress."""


@struct.dataclass
class Examples:
    """A batch of labeled inputs."""

    x: Field  # [N, ...] float32, or int32 token ids
    y: Field  # [N] int32 class index, or any target array with leading axis N

    def __len__(self) -> int:
        return int(self.x.shape[0])
