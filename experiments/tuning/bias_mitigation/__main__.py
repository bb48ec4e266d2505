"""Tunes every search for bias mitigation, with the same number of trials, on the select split.

    python -m experiments.tuning.bias_mitigation

A trial is one setting on networks whose seeds no other experiment uses. It is judged by its last
edit as fine-tuning is when the weight of its penalty is chosen: FPED and FNED, and what accuracy
it loses beyond half a point. The best ones are written as presets.
"""

from experiments.common.command import Command
from experiments.tuning.bias_mitigation.config import TuneConfig

command = Command(TuneConfig, run="experiments.tuning.bias_mitigation.run", description=__doc__)

if __name__ == "__main__":
    command()
