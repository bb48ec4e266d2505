"""What PPO's parts buy: optimizer, epochs, population, horizon, observation.

    python -m experiments.ppo_ablation --dataset mnist

Every variant edits all classes of the same networks with the same reward and the same number of
reward evaluations, and differs from the default in what its name says. Prints a table and writes
``report.md``, ``summary.json`` and ``metrics.csv`` into the run folder.
"""

from experiments.common.command import Command
from experiments.ppo_ablation.config import AblationConfig

command = Command(AblationConfig, run="experiments.ppo_ablation.run", description=__doc__)

if __name__ == "__main__":
    command()
