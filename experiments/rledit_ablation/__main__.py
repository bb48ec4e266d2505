"""What RLEdit's parts are worth, each in a figure of its own.

    python -m experiments.rledit_ablation --edits 1000 --train-edits 1000 --seeds 3

Every variant edits the same facts into the same language models as `experiments.lifelong_editing`
and differs from ``rledit`` there in what its name says. What a router is worth, how it is best
trained, and how much is only the normalizer (``ultraedit``) is seen in that experiment's own
figures. Writes ``report.md``, ``summary.json`` and the figures into the run folder.
"""

from experiments.common.command import Command
from experiments.rledit_ablation.config import AblationConfig

command = Command(AblationConfig, run="experiments.rledit_ablation.run", description=__doc__)

if __name__ == "__main__":
    command()
