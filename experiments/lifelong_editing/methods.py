"""From the names on the command line to methods."""

from collections.abc import Sequence

from experiments.lifelong_editing.config import FactOptions
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.presets.preset import Preset, load_preset

OPTIONS = ("meta_updates", "judged_batches", "fraction", "contexts")
"""Of the command line, that presets may take settings from."""


def load_methods(names: Sequence[str], config: FactOptions) -> list[Preset]:
    """The presets of these names or paths, with what the command line says.

    Raises:
      FileNotFoundError: a path of no file.
      ValueError: an unknown name, a file that is no preset, two of one name, or an option that sets
        nothing in any of them.
    """
    presets = [load_preset(name, "lifelong") for name in names]
    found = [preset.name for preset in presets]
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"--methods has two called {', '.join(twice)}: rename the file of one")
    given = {name: getattr(config, name, None) for name in OPTIONS}
    for option, value in given.items():
        if value is not None and not any(option in preset.options for preset in presets):
            raise ValueError(
                f"--{option.replace('_', '-')} sets nothing in {', '.join(found)}: leave it out, "
                "or name it under [options] in the file of the method"
            )
    if config.model is not None:
        presets = [preset.for_pretrained() for preset in presets]
    return [preset.with_options(**given) for preset in presets]


def build_method(preset: Preset) -> StreamEditor:
    """The method of a preset.

    Raises:
      ValueError: settings that its class refuses, or a class that edits no stream of facts.
    """
    method = preset.build()
    if not isinstance(method, StreamEditor):
        lacking = [name for name in ("sized_for", "init", "train", "edit", "gradient_steps")
                   if not hasattr(method, name)]  # fmt: skip
        raise ValueError(
            f"{preset.name}: the class {preset.kind.__name__} edits no stream of facts, it lacks "
            f"{', '.join(lacking)}: make it a subclass of modeledit_jax.lifelong.stream."
            "StreamEditor"
        )
    return method
