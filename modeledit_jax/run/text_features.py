"""Features of texts from a language model, each text run once and kept under its content.

A folder of the cache belongs to one network, layer, pooling and length; in it lie chunks, written
whole as they are made, so that what stops a long run costs one chunk. Texts are found by their
digest: other texts of the same network add chunks and repeat nothing.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from modeledit_jax.data.facts.token_ids import check_embedded, plain_tokenizer
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.huggingface.checkpoint import (
    CONFIG,
    TOKENIZER,
    load_pretrained,
    load_tokenizer,
    read_config,
)
from modeledit_jax.language.huggingface.tensors import DAMAGED
from modeledit_jax.language.text_states import (
    Pooling,
    TextStates,
    check_layer,
    lowest_layers,
    text_ids,
    text_states,
)
from modeledit_jax.processes import first_goes_ahead
from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.files import regular_file
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.cache import kept_or_warned, read_kept, writable_or_warned
from modeledit_jax.run.checkpoint import fingerprint
from modeledit_jax.run.digest import file_digest
from modeledit_jax.run.lock import locked
from modeledit_jax.types import Params

CHUNK = 2048
"""Texts of a chunk."""

LONGEST_WAIT = 14_400.0
"""Seconds that another process is given to make features of the same network."""

_CURE = "name another folder with --cache-dir"

_DIGEST = 16  # bytes of a text's digest that are kept


@dataclass(frozen=True)
class TextFeatures:
    """What a language model makes of texts.

    Attributes:
      folder: Hugging Face folder of the model (`run.named_models.model_folder`).
      cache: folder of the cache.
      layer: layers that are run; 0: none, the mean of the token embeddings.
      pooling: over the tokens of a text.
      length: tokens of a text; longer ones are cut.
    """

    folder: Path
    cache: Path
    layer: int = 4
    pooling: Pooling = "mean"
    length: int = 32

    @cached_property
    def identity(self) -> str:
        """Of everything that features depend on beside the text."""
        files = sorted(self.folder.glob("*.safetensors"))
        files += [self.folder / CONFIG, self.folder / TOKENIZER]
        content = {path.name: file_digest(regular_file(path)) for path in files if path.exists()}
        settings = {"layer": self.layer, "pooling": self.pooling, "length": self.length}
        return fingerprint({"files": content, **settings})

    def check(self) -> None:
        """Looks at the configuration alone, before anything is read.

        Raises:
          FileNotFoundError, ValueError: there is no such network, it has fewer layers, or a context
            too short for texts of this length and the token that begins them.
        """
        config = read_config(self.folder)
        check_layer(config, self.layer)
        begins = _start_token(self.folder, config) is not None
        if self.length + begins > config.context:
            raise ValueError(
                f"texts of {self.length} tokens{' and the one that begins them' if begins else ''} "
                f"do not fit the context of {config.context} tokens of {self.folder}: ask for fewer"
            )

    @cached_property
    def model(self) -> tuple[LanguageModelConfig, Params]:
        """Configuration and parameters of the network.

        Raises:
          FileNotFoundError, ValueError: as `load_pretrained` and `check`.
        """
        self.check()
        return load_pretrained(self.folder)

    @property
    def kernel(self) -> Float32[np.ndarray, "mlp_width width"]:
        """Of ``mlp/down`` of the last layer that is run.

        Raises:
          ValueError: what the kernel says does not go into the stream as it is.
        """
        config, params = self.model
        if config.post_norms:
            raise ValueError(
                f"{self.folder} normalizes what its MLPs add, so that states are no sums with "
                "mlp/down's: edit the classifier, or take a model without norms after its MLPs"
            )
        return np.asarray(
            params["layers"][str(self.layer - 1)]["mlp"]["down"]["kernel"], np.float32
        )

    def __call__(self, texts: Sequence[str], inputs: bool = False) -> TextStates:
        """States of texts, from the cache or made and kept there; shows its progress.

        Args:
          texts: they may repeat.
          inputs: whether `TextStates.inputs` are wanted; else they are ``[N, 0]``.

        Raises:
          FileNotFoundError, ValueError: as `model`; a text without a token, or with one that the
            network does not embed; states that are not finite; or another process is at work on
            the same cache for more than `LONGEST_WAIT`.
        """
        wanted = {_digest(text): text for text in texts}
        store = self.cache / "features" / self.identity
        with first_goes_ahead():  # the others find what it has kept
            found = self._found(wanted, store, inputs)
        return found.states([_digest(text) for text in texts])

    def _found(self, wanted: Mapping[bytes, str], store: Path, inputs: bool) -> "_Found":
        """The states of texts by their digests, from the cache or made and kept there."""
        found = _read_store(store, inputs)
        if wanted.keys() - found.place.keys():
            # One at a time: what a text becomes depends, in its last bits, on the texts beside it.
            writable = writable_or_warned(store)
            with locked(store, wait=LONGEST_WAIT, cure=_CURE) if writable else nullcontext():
                for left in store.glob(".*.tmp*"):  # of a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                found = _read_store(store, inputs)
                missing = {d: t for d, t in wanted.items() if d not in found.place}
                if missing:
                    self._make(missing, store if writable else None, found)
        return found

    def _make(self, missing: dict[bytes, str], store: Path | None, found: "_Found") -> None:
        """Runs the texts that are missing; ``store`` is None where nothing can be kept."""
        config, params = self.model
        start = _start_token(self.folder, config)
        tokenizer = plain_tokenizer(load_tokenizer(self.folder))
        ids = text_ids(tokenizer, list(missing.values()), self.length, start)
        for text, tokens in zip(missing.values(), ids, strict=True):
            check_embedded(tokenizer, tokens, config.vocab_size, text)
        keys, order = list(missing), np.argsort([len(own) for own in ids], kind="stable")
        lower = lowest_layers(config, params, self.layer)
        about = f"hidden states after layer {self.layer}"
        with tqdm(desc=about, total=sum(map(len, ids)), unit="token", unit_scale=True) as bar:
            for begin in range(0, len(order), CHUNK):
                rows = order[begin : begin + CHUNK]
                own = [ids[row] for row in rows]
                lengths = np.array([len(each) for each in own])
                run = text_states(config, lower, own, self.layer, self.pooling, start is not None)
                states = _joined(run, lengths, bar.update)
                self._check_finite(states["pooled"], [missing[keys[row]] for row in rows])
                digests = np.frombuffer(b"".join(keys[row] for row in rows), np.uint8)
                name = hashlib.sha256(digests.tobytes()).hexdigest()[:20]
                # Layer 0 has no inputs, and arrays without a number are not stored.
                whole = {name: values for name, values in states.items() if values.size}
                chunk = {"digests": digests.reshape(len(rows), _DIGEST), **whole}
                if store is not None and kept_or_warned(store / name, chunk) is None:
                    store = None  # said once
                found.add(chunk)

    def _check_finite(self, states: np.ndarray, texts: Sequence[str]) -> None:
        wrong = ~np.isfinite(states).all(axis=1)
        if wrong.any():
            raise ValueError(
                f"hidden states of {self.folder} after layer {self.layer} are not finite "
                f"({wrong.sum()} of {len(texts)} texts, the first is {texts[wrong.argmax()]!r:.60}"
                "): take an intact checkpoint, or a lower layer"
            )


def _read_store(store: Path, inputs: bool) -> "_Found":
    """All whole chunks of a folder."""
    found = _Found({}, [], inputs)
    for path in sorted(store.glob("*")) if store.is_dir() else ():
        if not path.name.startswith(".") and (kept := read_kept(path)) is not None:
            found.add(kept)
    return found


@dataclass
class _Found:
    """States of the texts that are known, by digest."""

    place: dict[bytes, tuple[int, int]]
    chunks: list[dict[str, np.ndarray]]
    inputs: bool

    def add(self, tree: dict[str, np.ndarray]) -> None:
        """Takes in a chunk."""
        number = len(self.chunks)
        wanted = ("pooled", "inputs") if self.inputs else ("pooled",)
        self.chunks.append({name: tree[name] for name in wanted if name in tree})
        for row, digest in enumerate(np.asarray(tree["digests"], np.uint8)):
            self.place[digest.tobytes()] = number, row

    def states(self, digests: Sequence[bytes]) -> TextStates:
        """Of texts in this order."""
        places = np.array([self.place[digest] for digest in digests]).reshape(-1, 2)
        return TextStates(self._gathered("pooled", places), self._gathered("inputs", places))

    def _gathered(self, name: str, places: np.ndarray) -> np.ndarray:
        if name not in self.chunks[0]:
            return np.zeros((len(places), 0), np.float32)
        gathered = np.empty((len(places), self.chunks[0][name].shape[1]), np.float32)
        for number, chunk in enumerate(self.chunks):
            rows = np.flatnonzero(places[:, 0] == number)
            gathered[rows] = chunk[name][places[rows, 1]]
        return gathered


def _joined(
    run: Iterator[tuple[np.ndarray, TextStates]],
    lengths: np.ndarray,
    report: Callable[[int], object],
) -> dict[str, np.ndarray]:
    """All batches of a run as one array each, in the order of the texts of these lengths."""
    whole: dict[str, np.ndarray] = {}
    for rows, states in run:
        for name, values in (("pooled", states.pooled), ("inputs", states.inputs)):
            if name not in whole:
                whole[name] = np.empty((len(lengths), values.shape[1]), np.float32)
            whole[name][rows] = values
        report(int(lengths[rows].sum()))
    return whole


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST]


def _start_token(folder: Path, config: LanguageModelConfig) -> int | None:
    """The id of the token that begins texts, as ``config.json`` names it; None: it names none.

    Raises:
      ValueError: it is no token of the network.
    """
    path = folder / CONFIG
    fields = Fields(read_object(path, DAMAGED), str(path), cure="download it again")
    if fields.is_null("bos_token_id"):
        return None
    return fields.integer("bos_token_id", 0, config.vocab_size - 1)
