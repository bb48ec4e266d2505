"""One policy edits networks and classes it never saw, without a reward evaluation.

    python -m experiments.transfer
    python -m experiments.transfer --dataset mnist --held-out all --other-data digits

Trains policies on many networks, each with one class never asked for, and lets them edit other
networks, of other widths and kinds, and networks trained on other data.
"""

from experiments.common.command import Command
from experiments.transfer.config import Config

command = Command(Config, run="experiments.transfer.run", description=__doc__)

if __name__ == "__main__":
    command()
