"""Compare all editors with retraining: every class of several networks, with statistics.

python -m experiments.unlearning_benchmark
python -m experiments.unlearning_benchmark --dataset digits --seeds 2 --methods ppo-shift salun

A cell is one method on one class of one network. Finished methods are kept in the folder of the
run, and within a method its edits and measurements: a run that was stopped goes on with --resume.
"""

from experiments.common.command import Command
from experiments.unlearning_benchmark.config import BenchmarkConfig

command = Command(BenchmarkConfig, run="experiments.unlearning_benchmark.run", description=__doc__)

if __name__ == "__main__":
    command()
