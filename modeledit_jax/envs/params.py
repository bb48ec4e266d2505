"""Arrays of a world: what differs between tasks, and the network under edit."""

from gymnax.environments.environment import EnvParams, EnvState

from modeledit_jax import struct
from modeledit_jax.types import Field

OF_NETWORK = ("original", "features", "targets", "original_outputs", "products", "bases")
"""Fields of `WorldParams` that tasks share which are about one network and the same examples."""


@struct.dataclass
class WorldParams(EnvParams):
    """Everything that may differ between tasks trained side by side."""

    original: Field = None  # {path: unedited leaf}
    features: Field = None  # `Features`, cached prefix of the reward examples
    targets: Field = None  # [N] int32, or a pytree of arrays (`EvaluationSets`)
    weights: Field = None  # {set name: [N] float32}, or [T, N]: a request for every step
    original_outputs: Field = None  # [N, C] float32
    products: Field = None  # {path: outputs of an unedited layer} (`SplitApply.products`)
    bases: Field = None  # {path: [D, D]} of the matrices of edits (`edits.edit.Bases`)
    reward: Field = None  # `Reward`
    score: Field = None  # [] float32, score of the unedited network
    parts: Field = None  # {part name: [] float32}, parts of that score
    neurons: Field = None  # first observation, where neurons are observed
    max_steps_in_episode: Field = 1  # T, edits of an episode
    # Its class, which the structure of a reward does not tell where a user took `flax.struct`.
    reward_class: type | None = struct.field(pytree_node=False, default=None)

    def joined(self, network: "WorldParams") -> "WorldParams":
        """These params with the fields `OF_NETWORK` of others."""
        return self.replace(**{name: getattr(network, name) for name in OF_NETWORK})


@struct.dataclass
class WorldState(EnvState):
    """The network under edit."""

    time: Field  # [] int32, edits made
    leaves: Field  # {path: current leaf}
    score: Field  # [] float32
    parts: Field  # {part name: [] float32}
    added: Field = None  # `Added`: factors of the edits so far
