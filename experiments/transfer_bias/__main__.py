"""A policy mends toxicity classifiers it never saw, without a reward evaluation.

    python -m experiments.transfer_bias

The policy of `experiments.transfer` in a second domain: it is trained to mend some classifiers,
with counterfactual comments of some identity terms, and then edits other classifiers. It is judged
on the terms it was trained with and on terms that no reward has seen.
"""

from experiments.common.command import Command
from experiments.transfer_bias.config import Config

command = Command(Config, run="experiments.transfer_bias.run", description=__doc__)

if __name__ == "__main__":
    command()
