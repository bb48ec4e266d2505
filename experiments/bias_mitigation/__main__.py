"""Make a toxicity classifier indifferent to identity terms by editing one layer: ``--help``.

python -m experiments.bias_mitigation
python -m experiments.bias_mitigation --dataset jigsaw --seeds 10
"""

from experiments.bias_mitigation.config import Config, main
from experiments.common.options import command_line

if __name__ == "__main__":
    command_line(Config, main, __doc__)
