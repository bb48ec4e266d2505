"""Tries weights of the reward fidelity, and judges the edits it leads to on the select split.

    python -m experiments.tuning.bias_reward

Networks are of seeds that no other experiment uses. Of every fold the terms that are held out for
the test are left out of all that is seen here; the next third is left out of the reward, and
``select`` shows it, so that weights are chosen for terms that no reward has shown as well. Writes
``tuning.json`` and a table, ``report.md``.
"""

from experiments.common.command import Command
from experiments.tuning.bias_reward.config import WeightsConfig

command = Command(WeightsConfig, run="experiments.tuning.bias_reward.run", description=__doc__)

if __name__ == "__main__":
    command()
