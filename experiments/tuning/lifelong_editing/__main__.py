"""Tunes the step sizes of all methods, with the same number of trials, on a world of its own.

    python -m experiments.tuning.lifelong_editing

That world, its language model and all facts edited into it are of another seed than those of the
experiment, which are not looked at. A trial is judged by ``overall`` after the last edit, the mean
of efficacy, generalization, specificity and retention. HiEdit and its controls take what RLEdit
takes, so that they differ in the routing alone. Writes ``tuning.json`` and, in ``presets/``,
every method with its best settings: files that ``python -m experiments.lifelong_editing --methods``
takes and that may replace those in ``modeledit_jax/presets/lifelong``.
"""

from experiments.common.command import Command
from experiments.tuning.lifelong_editing.config import TuneConfig

command = Command(TuneConfig, run="experiments.tuning.lifelong_editing.run", description=__doc__)

if __name__ == "__main__":
    command()
