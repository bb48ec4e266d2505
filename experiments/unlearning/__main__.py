"""Forget classes of an image classifier by searching for an edit of one layer.

python -m experiments.unlearning
python -m experiments.unlearning --dataset mnist --subject cnn --forget-class all --seeds 5
"""

from experiments.common.command import Command
from experiments.unlearning.config import Config

command = Command(Config, run="experiments.unlearning.run", description=__doc__)

if __name__ == "__main__":
    command()
