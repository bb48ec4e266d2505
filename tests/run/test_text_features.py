"""Features of texts: the same whatever else is asked for, made once, and what is damaged again."""

import numpy as np
import pytest

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
