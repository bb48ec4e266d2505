"""One policy edits networks and classes it never saw, without a reward evaluation.

python -m experiments.transfer
python -m experiments.transfer --dataset mnist --held-out all --other-data digits

Trains policies on many networks, each with one class never asked for, and lets them edit other
networks, of other widths and kinds, and networks trained on other data. ``--help`` lists all.
"""

from experiments.common.options import command_line
from experiments.transfer.config import Config, main

if __name__ == "__main__":
    command_line(Config, main, __doc__)
