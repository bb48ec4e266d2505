"""Forget classes of an image classifier with MaskWorld and ShiftWorld: ``--help`` lists all.

python -m experiments.unlearning
python -m experiments.unlearning --dataset mnist --subject cnn --forget-class all --seeds 5
"""

from experiments.common.options import command_line
from experiments.unlearning.config import Config, main

if __name__ == "__main__":
    command_line(Config, main, __doc__)
