"""Everything that reads a file of the user's: how to write a right one, and how to read it."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from experiments.unlearning.config import Config
from modeledit_jax.data.comments.files import read_jigsaw
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.editors.policy.learned import load_editor
from modeledit_jax.language.gguf.convert import convert_gguf
from modeledit_jax.language.huggingface.checkpoint import load_tokenizer
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.summary import read_summary, write_summary
from modeledit_jax.run.checkpoint import Checkpoints, load_tree, save_tree
from modeledit_jax.run.folder import open_run
from tests.editors.policies import untrained
from tests.experiments.collections_of_facts import write_collections
from tests.fuzz.comment_readers import COMMENT_READERS
from tests.fuzz.kept_readers import KEPT_READERS, TREE
from tests.fuzz.reader import Reader, finite, same
from tests.language.gguf.files import Content
from tests.lifelong.folders import write_facts, write_folder
from tests.report.rows import rows_of


def _write_npz(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(folder / "own.npz", x=rng.random((20, 4, 4, 1), np.float32), y=np.arange(20) % 4)


def _images_right(data: Any) -> bool:
    return finite(data.x) and data.x.min() >= 0 and data.x.max() <= 1 and data.y.min() >= 0


def _write_jigsaw(folder: Path) -> None:
    rows = [f'"{n:04d}","You are ""{n}"" é",{n % 2},0,0,0,0,0' for n in range(20)]
    header = (
        '"id","comment_text","toxic","severe_toxic","obscene","threat","insult","identity_hate"'
    )
    (folder / "jigsaw").mkdir()
    text = "\n".join([header, *rows]) + "\n"
    (folder / "jigsaw" / "train.csv").write_text(text, encoding="utf-8")


def _write_shards(folder: Path) -> None:
    """The folder of a network, its tensors in two files and an index."""
    write_folder(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, own in halves.items():
        save_file({name: tensors[name] for name in own}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {n: file for file, own in halves.items() for n in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _network_right(model: Any) -> bool:
    """It can be asked; damage may have changed numbers, which nothing in the format can tell."""
    leaves = jax.tree.leaves(model.params)
    return all(leaf.dtype.kind == "f" or leaf.dtype.name == "bfloat16" for leaf in leaves)


def _convert(folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as place:
        convert_gguf(folder / "tiny.gguf", Path(place) / "out")
        return read_language_model(Path(place) / "out")


def _write_run(folder: Path) -> None:
    open_run(folder, Config(run_dir=folder), resume=False)


def _resume(folder: Path) -> None:
    open_run(folder, Config(run_dir=folder, resume=True), resume=True)


def _write_preset(folder: Path) -> None:
    (folder / "own.toml").write_text(
        'class = "modeledit_jax.editors.search.evolution:SNES"\nrole = "edit"\n'
        '[settings]\nworld = "shift"\nbudget = 100\npopulation = 10\n',
        encoding="utf-8",
    )


def _restore(folder: Path) -> Any:
    return Checkpoints(folder).restore(TREE)


def _write_checkpoint(folder: Path) -> None:
    Checkpoints(folder).save(10, TREE)


READERS = (
    COMMENT_READERS
    | KEPT_READERS
    | {
        "images.npz": Reader(
            _write_npz,
            "own.npz",
            lambda f: load_images("npz", npz_path=f / "own.npz", cache_dir=f),
            right=_images_right,
        ),
        "jigsaw.csv": Reader(_write_jigsaw, "jigsaw/train.csv", read_jigsaw),
        "facts.json": Reader(
            lambda f: write_facts(f / "facts.json", 6),
            "facts.json",
            lambda f: load_facts(f / "facts.json"),
        ),
        "counterfact.json": Reader(
            write_collections,
            "counterfact/counterfact-edit.json",
            lambda f: load_facts("counterfact", data_dir=f),
        ),
        "zsre.json": Reader(
            write_collections, "zsre/zsre_mend_eval.json", lambda f: load_facts("zsre", data_dir=f)
        ),
        "network config.json": Reader(
            write_folder, "config.json", read_language_model, right=_network_right
        ),
        "network safetensors": Reader(
            write_folder, "model.safetensors", read_language_model, right=_network_right
        ),
        "network index": Reader(
            _write_shards, "model.safetensors.index.json", read_language_model, right=_network_right
        ),
        "network gguf": Reader(
            lambda f: Content().write(f / "tiny.gguf"), "tiny.gguf", _convert, right=_network_right
        ),
        "tokenizer.json": Reader(write_folder, "tokenizer.json", load_tokenizer),
        "policy": Reader(
            lambda f: untrained().save(f / "own.safetensors"),
            "own.safetensors",
            lambda f: load_editor(f / "own.safetensors"),
            exact=True,
        ),
        "saved arrays": Reader(
            lambda f: save_tree(f / "tree", TREE),
            "tree/**/*",
            lambda f: load_tree(f / "tree"),
            right=lambda found: same(found, TREE),  # white space in a list of digests is no damage
        ),
        "checkpoint": Reader(
            _write_checkpoint,
            "10/**/*",
            _restore,
            right=lambda found: found[0] == 10 and same(found[1], TREE),
        ),
        "run config.json": Reader(_write_run, "config.json", _resume),
        "summary.json": Reader(
            lambda f: write_summary(f, "unlearning", {}, rows_of("ppo-shift", [[0.9, 0.8]])),
            "summary.json",
            read_summary,
        ),
        "preset.toml": Reader(_write_preset, "own.toml", lambda f: preset(f / "own.toml")),
    }
)


@cache
def right_folder(name: str) -> Path:
    """A folder with right files, written once."""
    folder = Path(tempfile.mkdtemp(prefix="modeledit-jax-fuzz-"))
    READERS[name].write(folder)
    READERS[name].read(folder)
    return folder
