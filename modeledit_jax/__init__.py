"""Editing trained neural networks as reinforcement learning, vectorized in JAX.

Everything that everyday use needs is here::

    import modeledit_jax as me

    task = me.forget_classes(subject, splits, 7)
    result = me.PPO(world="shift", budget=2000).edit(task, jax.random.key(0))

The rest is imported from the module that is about it: ``subjects``, ``language``, ``data``,
``edits``, ``tasks``, ``envs``, ``agents``, ``editors``, ``lifelong``, ``evaluation``, ``run``,
``report``.
"""

# First, because what is imported afterwards imports gymnax too.
import modeledit_jax.imports as _imports  # noqa: F401

# isort: split

from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import split_images
from modeledit_jax.editors.editor import Cost, EditResult
from modeledit_jax.editors.policy.learned import load_editor
from modeledit_jax.editors.search.evolution import SNES, OpenES, RandomSearch
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import LowRank, PerColumn, PerRow, PerWeight
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld, make, register_worlds
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.lifelong.stream_world import StreamWorld
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.edits import table
from modeledit_jax.run.edit_facts import edit_facts
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.named_models import load_language_model
from modeledit_jax.run.programs import keep_compiled_programs
from modeledit_jax.subjects.image_classifiers import CNN, MLP, ResNet
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.training import train_subject
from modeledit_jax.tasks.debiasing import mitigate_bias
from modeledit_jax.tasks.reward import as_reward
from modeledit_jax.tasks.unlearning import (
    forget_classes,
    forget_in_turn,
    forget_samples,
    unlearning_reward,
)

register_worlds()

__all__ = [
    "CNN",
    "MLP",
    "PPO",
    "SNES",
    "Cost",
    "EditResult",
    "LowRank",
    "MaskWorld",
    "OpenES",
    "PerColumn",
    "PerRow",
    "PerWeight",
    "RandomSearch",
    "ResNet",
    "ShiftWorld",
    "StreamEditor",
    "StreamWorld",
    "Subject",
    "as_reward",
    "edit_facts",
    "edit_many",
    "flax_apply",
    "forget_classes",
    "forget_in_turn",
    "forget_samples",
    "get_leaves",
    "keep_compiled_programs",
    "load_editor",
    "load_facts",
    "load_images",
    "load_language_model",
    "make",
    "mitigate_bias",
    "preset",
    "set_leaves",
    "split_images",
    "table",
    "train_subject",
    "unlearning_reward",
]
