"""Tunes every method with the same number of trials, judged on the select split.

    python -m experiments.tuning.unlearning --dataset mnist

A trial is one setting on all classes of networks whose seeds no other experiment uses. It is
judged by the area under its curve: the mean, over the course of the budget, of
``(1 − forget accuracy) · (1 − 10 · drop of the retain accuracy)``. That rewards a fast start, and a
good end: forgetting is easy to complete, the last points of retain accuracy are not. A method that
is no search is judged by its end alone.
`experiments.unlearning` uses the best settings that this script found.
"""

from experiments.common.command import Command
from experiments.tuning.unlearning.config import TuneConfig

command = Command(TuneConfig, run="experiments.tuning.unlearning.run", description=__doc__)

if __name__ == "__main__":
    command()
