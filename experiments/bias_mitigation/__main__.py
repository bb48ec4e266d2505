"""Make a toxicity classifier indifferent to identity terms by editing one layer.

python -m experiments.bias_mitigation
python -m experiments.bias_mitigation --dataset jigsaw --seeds 10
"""

from experiments.bias_mitigation.config import Config
from experiments.common.command import Command

command = Command(Config, run="experiments.bias_mitigation.run", description=__doc__)

if __name__ == "__main__":
    command()
