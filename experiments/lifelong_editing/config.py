"""Options of lifelong editing, and those that it shares with the ablation and the tuning."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.common.checks import Networks, Range, Steps, option_name
from experiments.common.memory import FLOAT, check_memory
from experiments.common.options import MemoryOptions, MeshOptions, open_mesh

Facts = Annotated[int, Range(1, 1_000_000)]
LessonFacts = Annotated[int, Range(0, 1_000_000)]
Contexts = Annotated[int, Range(0, 100)]
Width = Annotated[int, Range(8, 1_000_000)]

CORPORA = ("fact-world", "counterfact", "zsre")
MODELS = ("smollm2-135m",)
"""Language models with a name, those of `modeledit_jax.run.named_models`."""
ALL_METHODS = (
    *("original", "ft-l", "ft-m", "mend", "malmen", "ultraedit", "rledit", "hiedit"),
    *("hiedit-ste", "random-k", "fixed-k", "top-norm-k"),
)
CLOSED_FORM = (
    *("rome", "emmet", "memit", "memit-seq", "encore", "alphaedit", "nas", "rect", "prune"),
)
"""Presets for pretrained models, to be named: their settings were not tuned on networks as small as
those that are trained here."""
AMORTIZED = ("memit-amortized", "alphaedit-amortized")
"""Ours: closed form whose values are written at once by a network that learned to."""
JOINT = ("memit-joint", "alphaedit-joint")
"""Ours: closed form whose layers share at least cost, with values of the unedited network."""
CHOSEN_LAYERS = ("memit-seq-routed", "alphaedit-routed")
"""Ours: closed form whose layers a router chooses for every batch."""
REPLAYED = ("alphaedit-replay",)
"""Ours: closed form that edits facts in again whose answers have become unlikely."""
PRECONDITIONED = ("ultraedit-text", "rledit-text")
"""Ours: changes that spare text and earlier edits."""
LONG_TRAINING = ("dafnet",)
"""Presets to be named: their training takes several times that of the others."""
OF_THE_NETWORK = ("width", "mlp_width", "layers", "steps", "plain")
"""Options of the language model that is trained where none is given."""


@dataclass(frozen=True)
class FactOptions(MemoryOptions):
    """Options of every experiment that edits facts into a language model."""

    tuning: ClassVar[bool] = False
    """Edit facts that no experiment edits (`load_facts`)."""

    corpus: str = "fact-world"
    """Facts to edit in: fact-world (embedded, invented), counterfact or zsre (files in
    MODELEDIT_DATA_DIR), or, with --model, a JSON file of your own."""
    model: Path | None = None
    """Language model to edit: a Hugging Face folder, or smollm2-135m, taken from the network once
    and kept; default: a small one is first trained to know the facts that are edited."""
    edits: Facts = 200
    """Facts edited, one batch after another."""
    batch_size: Facts = 10
    """Facts edited at once."""
    train_edits: LessonFacts = 600
    """Facts, about other subjects, that learned methods are trained on."""
    modules: tuple[str, ...] | None = None
    """Patterns of the linear layers that may be edited; default: layers/*/mlp/down of the network
    that is trained here, and with --model those that suit each method (`depth` in its preset)."""
    meta_updates: Steps | None = None
    """Gradient steps of the training of every learned method; default: those of its preset, 300."""
    judged_batches: Facts | None = None
    """Batches, the latest included, that a change is judged by in the training of RLEdit and
    HiEdit; default: those of the preset, 6."""
    first: Facts | None = None
    """Edits from the start that retention is measured on; default: a quarter of all."""
    width: Width = 128
    """Width of the language model that is trained here (of its hidden states, with four heads)."""
    mlp_width: Width = 1_536
    """Hidden units of each of its MLPs; what can be edited in one shot grows with them."""
    layers: Annotated[int, Range(1, 1_000)] = 2
    """Number of its layers."""
    steps: Steps = 700
    """Gradient steps that teach it its sentences, 128 at a time."""
    plain: Facts = 2_000
    """Sentences of fact-world that state no fact."""
    seeds: Networks = 1
    """Draws of facts, each with a language model of its own unless --model is given."""

    @property
    def task(self) -> str:
        """Name of the facts in tables."""
        return self.corpus if self.corpus in CORPORA else Path(self.corpus).stem

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.corpus in CORPORA and not self.train_edits:  # a file may have none to spare
            raise ValueError("--train-edits must be at least 1 with facts of a collection, got 0")
        if self.first is not None and not 1 <= self.first <= self.edits:
            raise ValueError(f"--first must be 1 … --edits = {self.edits}, got {self.first}")
        if self.width % 8:
            raise ValueError(f"--width must be a multiple of 8, got {self.width}")
        if self.model is None:
            if self.corpus not in CORPORA:
                raise ValueError(
                    f"--corpus must be {', '.join(CORPORA)}, or with --model the path of a JSON "
                    f"file of your own; got {self.corpus!r}"
                )
            self._check_memory()
        else:
            self._check_model(self.model)
        super().check()

    def _check_memory(self) -> None:
        # Weights, their gradient, the optimizer's momentum and its update; words come on top.
        weights = self.layers * self.width * (4 * self.width + 3 * self.mlp_width)
        given = f"--layers {self.layers} --width {self.width} --mlp-width {self.mlp_width}"
        check_memory(
            4 * FLOAT * weights, f"training a language model of {given}", "lower one of them"
        )

    def _check_model(self, folder: Path) -> None:
        if str(folder) not in MODELS and not folder.expanduser().is_dir():
            made = f": make one, modeledit convert {folder} FOLDER" if folder.is_file() else ""
            raise ValueError(
                f"--model must be a folder or one of {', '.join(MODELS)}; there is no folder "
                f"{folder}{made}"
            )
        defaults = {option.name: option.default for option in fields(self)}
        for name in OF_THE_NETWORK:
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{option_name(name)} is about the network that is trained here: leave "
                    "it out with --model"
                )


@dataclass(frozen=True)
class ClosedFormOptions(FactOptions):
    """Further options, where closed-form methods are among those that edit."""

    contexts: Contexts | None = None
    """Texts sampled from the model, in front of the prompt, that closed-form methods edit under
    besides the prompt alone; default: those of the preset, 5. Each costs as much as the prompt."""
    statistics: Path | None = None
    """Text file that closed-form methods are to leave as it is read, a few thousand tokens or more;
    default: the prompts of --train-edits stand for it."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.statistics is not None and not self.statistics.expanduser().is_file():
            raise ValueError(
                f"--statistics: no file {self.statistics}, give the path of a text file"
            )
        super().check()


@dataclass(frozen=True)
class Config(ClosedFormOptions, MeshOptions):
    """Edit a long sequence of facts into a language model and see what it learns and forgets."""

    joins_processes: ClassVar[bool] = False
    may_change_on_resume: ClassVar[tuple[str, ...]] = (
        *("mesh", "memory", "save"),  # where it runs, and writes
        *("methods", "seeds"),  # each method and seed is kept apart
    )
    mesh_axes: ClassVar[tuple[str, ...]] = ("data", "model")

    mesh: str | None = None
    """Devices to spread the language model over, axis=devices joined by commas: data=2,model=4.
    Facts of a batch lie along data, parameters along model. Default: one device."""

    methods: tuple[str, ...] = ALL_METHODS
    """Methods to compare: names of presets, or paths of TOML files of your own."""
    fraction: Annotated[float, Range(0, 1)] | None = None
    """Share of the modules that HiEdit and its controls change at once; default: that of the
    preset, 0.5."""
    save: Path | None = None
    """Folder for the edited networks, one for each method and seed, which transformers loads;
    default: networks/ in the run folder if --model is given, else they are not saved."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"--fraction must be above 0 and at most 1, got {self.fraction}")
        self._check_save()
        super().check()
        mesh = open_mesh(self)
        if mesh is not None and self.batch_size % mesh.shape["data"]:
            raise ValueError(
                f"--mesh {self.mesh}: {mesh.shape['data']} devices along data do not divide "
                f"--batch-size {self.batch_size}: change one of them"
            )

    def _check_save(self) -> None:
        """The folder of networks can be made, and holds none of another run."""
        if self.save is None:
            return
        files = [path for path in (self.save, *self.save.parents) if path.exists()]
        if files and not files[0].is_dir():
            raise ValueError(f"--save must be a folder, {files[0]} is a file")
        if not self.resume and self.save.is_dir() and any(self.save.iterdir()):
            raise ValueError(f"--save {self.save} holds files already: name an empty or new folder")
