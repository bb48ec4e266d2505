"""A language model with its tokenizer, some of whose layers may be edited; folder to folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tokenizers import Tokenizer

from modeledit_jax.data.facts.token_ids import check_embedded, plain_tokenizer, prompt_ids
from modeledit_jax.data.facts.tokens import TokenBatch, pad_batch, padded_length
from modeledit_jax.evaluation.knowledge import greedy_answers
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.huggingface.checkpoint import (
    load_pretrained,
    load_tokenizer,
    save_pretrained,
)
from modeledit_jax.lifelong.model import EditableModel, Kernels, check_kernels
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

    def with_modules(self, modules: str | Sequence[str]) -> "LanguageModel":
        """The same network, other layers of which may change.

        Raises:
          ValueError: a pattern that matches no layer; the message lists the layers.
        """
        editable = EditableModel.create(self.config, self.params, modules)
        return replace(self, editable=editable)

    def complete(
        self, prompts: Sequence[str], kernels: Kernels | None = None, tokens: int = 8
    ) -> list[str]:
        """What the model says after each prompt, always taking the most probable token.

        Args:
          prompts: beginnings of texts.
          kernels: edited ones; None: the network as it was.
          tokens: to generate.

        Raises:
          ValueError: a prompt is empty, does not fit the model's context, or has a token that the
            network does not embed; kernels that are not finite or not of this network.
        """
        ids = self._prompt_ids(prompts, tokens)
        longest = max(map(len, ids)) + tokens - 1
        if longest > self.config.context:
            raise ValueError(
                f"prompt and completion take {longest} positions, the model has "
                f"{self.config.context}: shorten the prompt or ask for fewer tokens"
            )
        # Labels mark where prompts end; the tokens that they name are never shown to the model.
        room = [[0] * tokens] * len(ids)
        batch = pad_batch(ids, room, padded_length(longest, self.config.context))
        if kernels is None:
            kernels = self.editable.kernels()
        else:
            check_kernels(self.editable, kernels)
        said = np.asarray(_continued(self.editable, kernels, batch, tokens))
        return [text.strip() for text in self.tokenizer.decode_batch(said.tolist())]

    def _prompt_ids(self, prompts: Sequence[str], tokens: int) -> list[list[int]]:
        if isinstance(prompts, str) or not len(prompts) or tokens < 1:
            raise ValueError(
                f"prompts={prompts!r} to be continued by {tokens} tokens: give a list of at least "
                "one text, and at least one token"
            )
        tokenizer = plain_tokenizer(self.tokenizer)
        ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
        for prompt, found in zip(prompts, ids, strict=True):
            check_embedded(tokenizer, found, self.config.vocab_size, prompt)
            if not found:
                raise ValueError(f"the prompt {prompt!r} has no token: give it a text")
        return ids

    def save(self, folder: str | Path, kernels: Kernels) -> None:
        """Writes the edited network as a folder that `transformers` loads, whole or not at all.

        Kernels are written in their own dtype, float32; ``config.json`` names the widest dtype, so
        that `transformers` does not round the edits away.

        Args:
          folder: to create; it may exist if it is empty.
          kernels: of `edit_facts`, or of any stream of edits.

        Raises:
          FileExistsError: ``folder`` is not empty.
          ValueError: a kernel holds a value that is not finite, or is not of this network; nothing
            is saved.
        """
        check_kernels(self.editable, kernels)
        params = self.editable.with_kernels(kernels)
        tokenizer = self.tokenizer if self.source is None else None
        save_pretrained(folder, self.config, params, self.source, tokenizer=tokenizer)


def read_language_model(
    folder: str | Path,
    modules: str | Sequence[str] = "layers/*/mlp/down",
    dtype: Any = None,
    *,
    mesh: Mesh | None = None,
) -> LanguageModel:
    """Reads GPT-2, Llama, Mistral, Qwen2 or Gemma 2 from a Hugging Face folder.

    Args:
      folder: holds ``config.json``, ``tokenizer.json`` and safetensors.
      modules: patterns of the linear layers that may be edited, e.g.
        ``"layers/2[0-3]/mlp/down"``.
      dtype: of the parameters; as stored if None. Edited kernels are float32 in any case.
      mesh: devices with the axes ``data`` and ``model``, to spread the parameters over
        (`language.sharding`); what edits the network then runs on all of them. None: one device.

    Raises:
      FileNotFoundError: a file is missing; the message says which.
      ValueError: an unsupported network, a damaged file, or a pattern that matches no layer.
    """
    folder = Path(folder).expanduser()
    config, params = load_pretrained(folder, dtype, mesh)
    editable = EditableModel.create(config, params, modules)
    return LanguageModel(editable, load_tokenizer(folder), folder)


@jax.jit(static_argnames="steps")
def _continued(model: EditableModel, kernels: Kernels, batch: TokenBatch, steps: int) -> Array:
    return greedy_answers(predict_with(model, kernels), batch, steps=steps)
