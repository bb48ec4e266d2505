"""The policy of `experiments.transfer` in a second domain: identity bias of toxicity classifiers.

    python -m experiments.transfer_bias

A policy is trained to mend some classifiers, with counterfactual comments of some identity terms,
and then edits other classifiers without a reward evaluation. It is judged on the terms it was
trained with and on terms that no reward has seen. ``--help`` lists all options.
"""

from experiments.common.options import command_line
from experiments.transfer_bias.config import Config, main

if __name__ == "__main__":
    command_line(Config, main, __doc__)
