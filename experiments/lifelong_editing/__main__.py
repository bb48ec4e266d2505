"""Edit hundreds of facts into a language model, one batch after another.

python -m experiments.lifelong_editing
python -m experiments.lifelong_editing --edits 1000 --seeds 3 --methods original ft-m rledit
"""

from experiments.common.command import Command
from experiments.lifelong_editing.config import Config

command = Command(Config, run="experiments.lifelong_editing.run", description=__doc__)

if __name__ == "__main__":
    command()
