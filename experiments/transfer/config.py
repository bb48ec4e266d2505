"""Options of the transfer experiment."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from experiments.common.checks import (
    MAY_BE_EMPTY,
    Count,
    Evaluations,
    Networks,
    Penalty,
    Range,
    check_distinct,
)
from experiments.common.memory import FLOAT, check_memory
from experiments.common.options import (
    MemoryOptions,
    MeshOptions,
    World,
    check_training_seeds,
    open_mesh,
)

Data = Literal["digits", "shapes", "textures", "mnist", "fashion_mnist", "cifar10"]
CLASSES = 10  # of all these data
TASKS, TASKS_IN_TURN = 16, 8
"""Tasks of one update of a policy, if there are so many: single requests, and requests in turn."""
ORDERS = 6
"""Training episodes for every network, in which one request follows another."""
Part = Literal["zero-shot", "adaptation", "sequence", "cost"]
SHAPE = (
    "kind-widths, e.g. mlp-128x32, cnn-128x32 or resnet-128x32; then, if you like, -gelu or -tanh, "
    "and -20ep"
)


@dataclass(frozen=True)
class Config(MemoryOptions, MeshOptions):
    """Train policies that edit at once, and see how far they carry."""

    joins_processes: ClassVar[bool] = False
    may_change_on_resume: ClassVar[tuple[str, ...]] = ("mesh", "memory")

    dataset: Data = "digits"
    """Data of the networks; digits is embedded, shapes and textures are drawn by rule."""
    training_data: Annotated[tuple[Data, ...], MAY_BE_EMPTY] = ()
    """Further data sets, on which networks to train on are trained as well."""
    worlds: tuple[World, ...] = ("shift", "mask")
    """Policies to train."""
    parts: tuple[Part, ...] = ("zero-shot", "adaptation", "sequence", "cost")
    """What to measure."""
    held_out: str = "4,7"
    """Classes no training task asks for, one policy for each; 'all': every class in turn."""
    networks: tuple[str, ...] = ("mlp-128x32",)
    """Shapes of the networks to train on: kind-widths, where fc2 is edited. Two more parts may
    follow, the activation (-gelu, -tanh) and the epochs of the training (-20ep)."""
    other_networks: Annotated[tuple[str, ...], MAY_BE_EMPTY] = (
        "mlp-64x16",
        "mlp-64x32",
        "mlp-256x64",
        "mlp-512x128",
        "cnn-128x32",
    )
    """Shapes that are edited only."""
    other_data: Annotated[tuple[Data, ...], MAY_BE_EMPTY] = ()
    """Data sets whose networks (of the first shape) are edited only."""
    pairs: Annotated[int, Range(0, CLASSES * (CLASSES - 1) // 2)] = 0
    """Pairs of classes that each network to train on is asked to forget, beside single classes."""
    prototype_penalty: Penalty = 0.0
    """Weight in the reward of what the last layer reads that still tells a class apart."""
    training_networks: Networks = 16
    """Networks of each shape to train on."""
    seeds: Networks = 5
    """New networks of each shape to edit."""
    updates: Count = 400
    """Updates of PPO for each policy."""
    sequence_updates: Annotated[int, Range(0, 100_000)] = 200
    """Further updates, on requests one after another."""
    budgets: Annotated[tuple[Evaluations, ...], MAY_BE_EMPTY] = (10, 100, 1000)
    """Reward evaluations of the adaptation of a policy's edit."""
    search_budget: Evaluations = 2000
    """Reward evaluations of the searches that policies are compared with."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        for option in ("training_data", "other_data"):
            if self.dataset in getattr(self, option):
                name = f"--{option.replace('_', '-')}"
                raise ValueError(f"{name} {self.dataset} is --dataset itself: name other data")
        if self.prototype_penalty and "sequence" in self.parts:
            raise ValueError(
                "--prototype-penalty is about single requests: leave sequence out of --parts"
            )
        for shape in (*self.networks, *self.other_networks):
            check_size(read_shape(shape))
        if self.held_out != "all":
            check_distinct("--held-out", read_classes(self.held_out))
        check_training_seeds(self, self.training_networks)
        super().check()
        self._check_mesh()

    def _check_mesh(self) -> None:
        """The devices along ``tasks`` share the tasks of every update evenly."""
        mesh = open_mesh(self)
        if mesh is None:
            return
        devices = dict(mesh.shape).get("tasks", 1)
        tasks = {min(TASKS_IN_TURN, self.training_networks * ORDERS)}
        for classes in (CLASSES - 1, CLASSES):
            pairs = min(self.pairs, classes * (classes - 1) // 2)
            tasks.add(min(TASKS, self.training_networks * (classes + pairs)))
        if any(number % devices for number in tasks):
            numbers = " and ".join(map(str, sorted(tasks)))
            raise ValueError(
                f"--mesh {self.mesh}: updates of policies draw {numbers} tasks, which {devices} "
                "devices do not divide: name a number along tasks that does"
            )

    def factors(self, part: str, **others: Any) -> dict[str, Any]:
        """Factors of a row: the part, data and network, those of the experiment if not given."""
        return {"part": part, "data": self.dataset, "network": self.networks[0], **others}


@dataclass(frozen=True)
class Shape:
    """A kind of network, ``"mlp"``, ``"cnn"`` or ``"resnet"``; its epochs (None: by its recipe)."""

    kind: str
    hidden: tuple[int, ...]
    activation: str = "relu"
    epochs: int | None = None


MOST_EPOCHS = 100_000


def check_size(shape: Shape) -> None:
    """Raises ValueError if a network of this shape cannot be trained on this machine."""
    # Weights, their gradient, and two moments of Adam; the first layer is left aside.
    weights = sum(a * b for a, b in pairwise(shape.hidden))
    name = f"{shape.kind}-{'x'.join(map(str, shape.hidden))}"
    check_memory(4 * FLOAT * weights, f"training a network {name}", "name narrower --networks")
    if shape.epochs is not None and shape.epochs > MOST_EPOCHS:
        raise ValueError(f"{name}: a training has at most {MOST_EPOCHS:,} epochs")


def read_shape(text: str) -> Shape:
    """Reads ``mlp-128x32`` as ``Shape("mlp", (128, 32))``; `SHAPE` says what else it may hold.

    Raises:
      ValueError: it is no such text, or there are fewer than two widths.
    """
    found = re.fullmatch(
        r"(mlp|cnn|resnet)-([1-9]\d*(?:x[1-9]\d*)+)(?:-(gelu|tanh))?(?:-([1-9]\d*)ep)?",
        text,
        re.ASCII,
    )
    if found is None:
        raise ValueError(f"the shape {text!r} is not understood: give {SHAPE}; two widths or more")
    kind, widths, activation, epochs = found.groups()
    hidden = tuple(map(int, widths.split("x")))
    return Shape(kind, hidden, activation or "relu", int(epochs) if epochs else None)


def read_classes(text: str) -> list[int]:
    """Reads classes joined by commas.

    Raises:
      ValueError: it is no such text, or names a class that the data lack.
    """
    try:
        classes = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--held-out must be classes like 4,7 or 'all', got {text!r}") from None
    if outside := [index for index in classes if not 0 <= index < CLASSES]:
        raise ValueError(f"--held-out {outside[0]}: the classes are 0 to {CLASSES - 1}")
    return classes
