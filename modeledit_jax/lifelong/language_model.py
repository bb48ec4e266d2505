"""A language model with its tokenizer, some of whose layers may be edited; folder to folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from modeledit_jax.data.facts.tokens import TokenBatch, bucket, pad_batch
from modeledit_jax.evaluation.knowledge import greedy_answers
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.huggingface.checkpoint import (
    load_pretrained,
    load_tokenizer,
    save_pretrained,
)
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.scoring import predict_with
from modeledit_jax.types import Array, Params


@dataclass(frozen=True)
class LanguageModel:
    """A network as it was trained; what happens to it is held outside, in `Kernels`.

    Attributes:
      editable: the network and the modules that may change.
      tokenizer: of its texts.
      source: Hugging Face folder that it comes from; None: it was made here.
    """

    editable: EditableModel
    tokenizer: Tokenizer
    source: Path | None = None

    @property
    def config(self) -> LanguageModelConfig:
        """Of the network."""
        return self.editable.config

    @property
    def params(self) -> Params:
        """Of the unedited network."""
        return self.editable.params

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the layers that may change."""
        return self.editable.modules

    def complete(
        self, prompts: Sequence[str], kernels: Kernels | None = None, tokens: int = 8
    ) -> list[str]:
        """What the model says after each prompt, always taking the most probable token.

        Args:
          prompts: beginnings of texts.
          kernels: edited ones; None: the network as it was.
          tokens: to generate.

        Raises:
          ValueError: a prompt is empty or does not fit the model's context.
        """
        ids = [self.tokenizer.encode(prompt).ids for prompt in prompts]
        longest = max(map(len, ids)) + tokens - 1
        if longest > self.config.context:
            raise ValueError(
                f"prompt and completion take {longest} positions, the model has "
                f"{self.config.context}: shorten the prompt or ask for fewer tokens"
            )
        # Labels mark where prompts end; the tokens that they name are never shown to the model.
        room = [[0] * tokens] * len(ids)
        batch = pad_batch(ids, room, min(bucket(longest), self.config.context))
        kernels = self.editable.kernels() if kernels is None else kernels
        said = np.asarray(_continued(self.editable, kernels, batch, tokens))
        return [text.strip() for text in self.tokenizer.decode_batch(said.tolist())]

    def save(self, folder: str | Path, kernels: Kernels) -> None:
        """Writes the edited network as a folder that `transformers` loads, whole or not at all.

        Kernels are written in their own dtype, float32; ``config.json`` names the widest dtype, so
        that `transformers` does not round the edits away.

        Args:
          folder: to create; it may exist if it is empty.
          kernels: of `edit_facts`, or of any stream of edits.

        Raises:
          FileExistsError: ``folder`` is not empty.
          ValueError: a kernel holds a value that is not finite.
        """
        broken = [name for name, kernel in kernels.items() if not jnp.isfinite(kernel).all()]
        if broken:
            raise ValueError(
                f"the edited kernels of {', '.join(broken)} hold values that are not finite, so "
                "nothing is saved: lower the step size of the method"
            )
        params = self.editable.with_kernels(kernels)
        tokenizer = self.tokenizer if self.source is None else None
        save_pretrained(folder, self.config, params, self.source, tokenizer=tokenizer)


def load_language_model(
    folder: str | Path, modules: str | Sequence[str] = "layers/*/mlp/down", dtype: Any = None
) -> LanguageModel:
    """Reads GPT-2, Llama, Mistral, Qwen2 or Gemma 2 from a Hugging Face folder.

    Args:
      folder: holds ``config.json``, ``tokenizer.json`` and safetensors.
      modules: patterns of the linear layers that may be edited, e.g.
        ``"layers/2[0-3]/mlp/down"``.
      dtype: of the parameters; as stored if None. Edited kernels are float32 in any case.

    Raises:
      FileNotFoundError: a file is missing; the message says which.
      ValueError: an unsupported network, a damaged file, or a pattern that matches no layer.
    """
    folder = Path(folder).expanduser()
    config, params = load_pretrained(folder, dtype)
    editable = EditableModel.create(config, params, modules)
    return LanguageModel(editable, load_tokenizer(folder), folder)


@jax.jit(static_argnames="steps")
def _continued(model: EditableModel, kernels: Kernels, batch: TokenBatch, steps: int) -> Array:
    return greedy_answers(predict_with(model, kernels), batch, steps=steps)
