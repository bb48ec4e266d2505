"""Make a Hugging Face folder of a GGUF file, to edit facts into it.

modeledit convert SmolLM2-135M-Instruct.Q4_1.gguf ./SmolLM2
"""

from experiments.common.command import Tool
from experiments.convert.config import Config

command = Tool(Config, run="experiments.convert.run", description=__doc__)

if __name__ == "__main__":
    command()
