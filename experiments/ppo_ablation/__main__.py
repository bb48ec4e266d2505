"""What PPO's parts buy: optimizer, epochs, population, horizon, observation.

python -m experiments.ppo_ablation --dataset mnist
"""

from experiments.common.options import command_line
from experiments.ppo_ablation.run import AblationConfig, main

if __name__ == "__main__":
    command_line(AblationConfig, main, __doc__)
