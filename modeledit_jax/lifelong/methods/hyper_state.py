"""What learned editors carry: what is trained, and what is counted from batch to batch."""

from flax import struct

from modeledit_jax.types import Field


@struct.dataclass
class Trainable:
    """What is trained."""

    networks: Field  # {group: Hypernetwork}; empty for UltraEdit
    router: Field = None  # Router of HiEdit, or None


@struct.dataclass
class HyperState:
    """What is learned, and what is counted from batch to batch."""

    learned: Field  # Trainable
    statistics: Field  # {group: RunningMoments}
