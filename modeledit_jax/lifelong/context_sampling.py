"""Beginnings of texts, sampled from a language model, that facts are edited under (MEMIT).

The released code samples them without a seed, once per process, whatever model it edits later, and
leaves the names of special tokens in them (``util/generate.py``).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Int

from modeledit_jax.data.facts.token_ids import check_embedded, plain_tokenizer, prompt_ids
from modeledit_jax.data.facts.tokens import pad_batch
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.types import Array, Key

BEGINNINGS = ("The", "Therefore", "Because", "I", "You")
LENGTH = 10
"""Tokens of a context, its beginning and special tokens included."""

CHOICES = 5
"""Most probable tokens among which the next one is drawn."""


def sample_contexts(model: LanguageModel, count: int, key: Key) -> tuple[str, ...]:
    """Samples texts to put in front of prompts, each with a full stop and a space at its end.

    Args:
      model: the unedited one.
      count: of texts; they begin with `BEGINNINGS` in turn.
      key: of the draws.

    Raises:
      ValueError: the model has fewer positions than a context, or its tokenizer or embedding lacks
        a word of `BEGINNINGS`.
    """
    if not count:
        return ()
    if model.config.context < LENGTH:
        raise ValueError(
            f"contexts have {LENGTH} tokens and the model {model.config.context} positions: give "
            "contexts=0 to the method"
        )
    tokenizer = plain_tokenizer(model.tokenizer)
    begins = [BEGINNINGS[index % len(BEGINNINGS)] for index in range(count)]
    ids = [prompt_ids(tokenizer, text)[:LENGTH] for text in begins]
    for text, found in zip(begins, ids, strict=True):
        check_embedded(tokenizer, found, model.config.vocab_size, text)
    tokens = pad_batch(ids, [[0]] * count, LENGTH).tokens
    said = jax.device_get(_continued(model.editable, tokens, jnp.array([*map(len, ids)]), key))
    texts = tokenizer.decode_batch(said.tolist(), skip_special_tokens=True)
    return tuple(f"{' '.join(text.split())}. " for text in texts)


@jax.jit
def _continued(
    model: EditableModel, tokens: Int[Array, "n l"], given: Int[Array, " n"], key: Key
) -> Int[Array, "n l"]:
    """Fills up every row behind its ``given`` first tokens."""

    def step(place: Array, tokens: Array) -> Array:
        before = jnp.full((len(tokens), 1), place - 1)
        logits = apply(model.config, model.params, tokens, positions=before)[0][:, 0]
        best, choices = jax.lax.top_k(logits, min(CHOICES, logits.shape[-1]))
        drawn = jax.random.categorical(jax.random.fold_in(key, place), best)
        said = jnp.take_along_axis(choices, drawn[:, None], axis=1)[:, 0]
        return tokens.at[:, place].set(jnp.where(place < given, tokens[:, place], said))

    return jax.lax.fori_loop(1, tokens.shape[1], step, tokens)
