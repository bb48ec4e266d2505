"""Features of texts: the same whatever else is asked for, made once, and what is damaged again."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from modeledit_jax.run import text_features as module
from modeledit_jax.run.text_features import TextFeatures
from tests.lifelong.folders import NETWORKS, write_folder

TEXTS = ["the dog slept by the door", "water", "the sea is deep and wide", "water"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def features(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    return TextFeatures(folder, tmp_path, layer=2, length=8)


@pytest.fixture
def changed(folder, tmp_path):
    """Features of a copy of the network of which one file is changed by a function."""

    def make(name, change):
        copy = shutil.copytree(folder, tmp_path / "changed")
        (copy / name).write_text(json.dumps(change(json.loads((copy / name).read_text()))))
        return TextFeatures(copy, tmp_path / "cache", layer=1, length=8)

    return make


def refuse(*_):
    raise AssertionError("the network is run again")


def test_texts_are_run_once_and_found_by_their_content(features, monkeypatch):
    first = features(TEXTS, inputs=True)
    config = NETWORKS["llama"]
    assert first.pooled.shape == (4, config.width) and first.inputs.shape == (4, config.mlp_width)
    np.testing.assert_array_equal(first.pooled[1], first.pooled[3])
    assert len(np.unique(first.pooled, axis=0)) == 3
    monkeypatch.setattr(module, "text_states", refuse)
    again = features(TEXTS[::-1])
    np.testing.assert_array_equal(again.pooled, first.pooled[::-1])
    assert again.inputs.shape == (4, 0)


def test_token_embeddings_alone_are_kept_as_well(folder, tmp_path, monkeypatch):
    features = TextFeatures(folder, tmp_path, layer=0, length=8)
    first = features(TEXTS, inputs=True)
    assert first.pooled.any() and first.inputs.shape == (4, 0)
    monkeypatch.setattr(module, "text_states", refuse)
    np.testing.assert_array_equal(features(TEXTS, inputs=True).pooled, first.pooled)


def test_further_texts_add_to_what_is_there(features, monkeypatch):
    first, ran = features(TEXTS[:1]), []
    run = module.text_states
    monkeypatch.setattr(
        module,
        "text_states",
        lambda c, p, ids, *rest: ran.append(len(ids)) or run(c, p, ids, *rest),
    )
    both = features(TEXTS)
    np.testing.assert_array_equal(both.pooled[:1], first.pooled)
    assert sum(ran) == 2  # the repeated text once


def test_a_damaged_chunk_is_made_again(features, tmp_path):
    first = features(TEXTS)
    chunk = next(path for path in (tmp_path / "features").glob("*/*") if path.is_dir())
    (chunk / "digests.json").write_text("{}")
    with pytest.warns(UserWarning, match="made again"):
        again = features(TEXTS)
    np.testing.assert_array_equal(again.pooled, first.pooled)


def test_other_settings_have_another_folder(folder, tmp_path):
    one = TextFeatures(folder, tmp_path, layer=2, length=8)
    others = [
        TextFeatures(folder, tmp_path, layer=1, length=8),
        TextFeatures(folder, tmp_path, layer=2, length=8, pooling="last"),
        TextFeatures(folder, tmp_path, layer=2, length=7),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 4
    assert one.identity == TextFeatures(folder, tmp_path, layer=2, length=8).identity
    assert one.kernel.shape == (NETWORKS["llama"].mlp_width, NETWORKS["llama"].width)


def test_a_model_without_the_layer_is_refused_before_it_is_read(folder, tmp_path):
    with pytest.raises(ValueError, match="layer 3 of a language model of 2 layers"):
        TextFeatures(folder, tmp_path, layer=3).check()
    with pytest.raises(FileNotFoundError, match="no config"):
        TextFeatures(tmp_path, tmp_path, layer=1).check()


@pytest.mark.parametrize("where", ["a file", "full"])
def test_a_cache_that_cannot_be_written_costs_a_warning(folder, tmp_path, monkeypatch, where):
    expected = TextFeatures(folder, tmp_path / "cache", layer=1, length=8)(TEXTS).pooled
    place = tmp_path / "other"
    if where == "a file":
        place.write_text("")
    else:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3}))
    with pytest.warns(UserWarning, match=r"cannot be written .* --cache-dir") as caught:
        found = TextFeatures(folder, place, layer=1, length=8)(TEXTS)
    assert len(caught) == 1
    np.testing.assert_array_equal(found.pooled, expected)


def test_texts_that_do_not_fit_the_context_are_refused_before_anything_is_read(changed):
    features = changed("config.json", lambda content: content | {"bos_token_id": 3})
    context, refused = NETWORKS["llama"].context, "the one that begins them do not fit the context"
    for length, begins in ((context - 1, True), (context, False)):
        if not begins:
            path = features.folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token_id": None}))
            refused = f"of {length + 1} tokens do not fit the context of {context}"
        replace(features, length=length).check()
        with pytest.raises(ValueError, match=refused):
            replace(features, length=length + 1).check()


@pytest.mark.parametrize("token", [-1, 400, True, "1", [1, 2], 1.0])
def test_a_first_token_that_the_network_lacks_is_refused(changed, token):
    features = changed("config.json", lambda content: content | {"bos_token_id": token})
    with pytest.raises(ValueError, match=r"'bos_token_id' is .* an integer from 0 to 399"):
        features(TEXTS)


def _tokenizer(change):
    """A change of a tokenizer's file by a change of the tokenizer."""

    def of_file(content):
        tokenizer = Tokenizer.from_str(json.dumps(content))
        change(tokenizer)
        return json.loads(tokenizer.to_str())

    return of_file


def test_a_word_that_the_network_does_not_embed_is_refused(changed):
    features = changed("tokenizer.json", _tokenizer(lambda found: found.add_tokens(["water"])))
    with pytest.raises(ValueError, match=r"'water' has the token 'water', number .* embeds 400"):
        features(TEXTS)


def test_a_tokenizer_saved_with_truncation_or_padding_reads_whole_texts(changed, folder, tmp_path):
    def cut(tokenizer):
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(length=6)

    expected = TextFeatures(folder, tmp_path / "cache", layer=1, length=8)(TEXTS)
    found = changed("tokenizer.json", _tokenizer(cut))(TEXTS)
    np.testing.assert_array_equal(found.pooled, expected.pooled)


def test_states_that_are_not_finite_are_refused_and_not_kept(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "huge")
    tensors = load_file(copy / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = np.full_like(tensors[name], 3e38)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"after layer 1 are not finite \(3 of 3 texts.*intact"):
        TextFeatures(copy, tmp_path / "cache", layer=1, length=8)(TEXTS)
    assert not [path for path in (tmp_path / "cache").glob("features/*/*") if path.is_dir()]


TOGETHER = """
import sys, time
from pathlib import Path
from modeledit_jax.run import text_features as module
folder, cache, start, mark = *map(Path, sys.argv[1:3]), float(sys.argv[3]), sys.argv[4]
module.CHUNK = 7
features = module.TextFeatures(folder, cache, layer=2, length=8)
texts = [f"the sea {n} is deep" for n in range(30)] + [f"{mark} water {n}" for n in range(5)]
time.sleep(max(0.0, start - time.time()))
print(features(texts).pooled.tobytes().hex())
"""


@pytest.mark.slow
def test_processes_on_one_cache_have_the_same_features(folder, tmp_path):
    """They ask for texts of which most are common: each is run once, and found alike later on."""
    root, begin = Path(__file__).parents[2], time.time() + 15.0
    line = [sys.executable, "-c", TOGETHER, str(folder), str(tmp_path)]
    marks = ("a", "the", "no")
    running = [
        subprocess.Popen(
            [*line, str(begin), mark], cwd=root, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for mark in marks
    ]  # fmt: skip
    first = []
    for process in running:
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        first.append(output)
    again = [subprocess.check_output([*line, "0", mark], cwd=root, text=True) for mark in marks]
    common = 30 * 8 * NETWORKS["llama"].width
    assert first == again and len({output[:common] for output in first}) == 1
