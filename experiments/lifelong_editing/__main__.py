"""Edit hundreds of facts into a language model, one batch after another: ``--help`` lists all.

python -m experiments.lifelong_editing
python -m experiments.lifelong_editing --edits 1000 --seeds 3 --methods original ultraedit rledit
"""

from experiments.common.options import command_line
from experiments.lifelong_editing.config import Config, main

if __name__ == "__main__":
    command_line(Config, main, __doc__)
