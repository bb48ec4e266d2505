"""From the names on the command line to methods."""

from collections.abc import Sequence
from typing import Any

from experiments.lifelong_editing.config import FactOptions
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.presets.preset import Preset, load_preset

OPTIONS = ("meta_updates", "memory", "fraction")
"""Of the command line, that presets may take settings from."""


def load_methods(names: Sequence[str]) -> list[Preset]:
    """The presets of these names or paths.

    Raises:
      FileNotFoundError: a path of no file.
      ValueError: an unknown name, a file that is no preset, or two of one name.
    """
    presets = [load_preset(name, "lifelong") for name in names]
    found = [preset.name for preset in presets]
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"--methods has two called {', '.join(twice)}: rename the file of one")
    return presets


def build_method(preset: Preset, config: FactOptions) -> StreamEditor:
    """The method of a preset, with what the command line says.

    Raises:
      ValueError: settings that its class refuses, or a class that edits no stream of facts.
    """
    method = preset.build(**_given(config))
    if not isinstance(method, StreamEditor):
        lacking = [name for name in ("sized_for", "init", "train", "edit", "gradient_steps")
                   if not hasattr(method, name)]  # fmt: skip
        raise ValueError(
            f"{preset.name}: the class {preset.kind.__name__} edits no stream of facts, it lacks "
            f"{', '.join(lacking)}: make it a subclass of modeledit_jax.lifelong.stream."
            "StreamEditor"
        )
    return method


def check_options(presets: Sequence[Preset], config: FactOptions) -> None:
    """Raises ValueError for an option that sets nothing in any of the methods."""
    for option in _given(config):
        if not any(option in preset.options for preset in presets):
            names = ", ".join(preset.name for preset in presets)
            raise ValueError(
                f"--{option.replace('_', '-')} sets nothing in {names}: leave it out, or name it "
                "under [options] in the file of the method"
            )


def _given(config: FactOptions) -> dict[str, Any]:
    options = {name: getattr(config, name, None) for name in OPTIONS}
    return {name: value for name, value in options.items() if value is not None}
