"""Key statistics of a text file against a loop over its tokens."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.common_knowledge import SENTENCES
from modeledit_jax.data.facts.text_windows import text_windows
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.restraint import Rect
from modeledit_jax.run import text_statistics as module
from modeledit_jax.run.edit_facts import with_statistics
from modeledit_jax.run.text_statistics import text_statistics
from tests.lifelong.folders import write_folder

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("models") / "llama")
    return read_language_model(folder, "layers/*/mlp/down")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(SENTENCES[:6]) + "\n")
    return path


def test_windows_hold_every_token_once(model, text):
    found = list(text_windows(text, model.tokenizer, 16))
    lines = text.read_text().splitlines(keepends=True)
    expected = [token for line in lines for token in model.tokenizer.encode(line).ids[1:]]
    assert [token for ids, _ in found for token in ids[1:]] == expected
    assert all(ids[0] == 1 for ids, _ in found)  # each begins as a text of its own
    assert all(len(ids) == 16 for ids, _ in found[:-1])
    assert found[-1][1] == text.stat().st_size
    assert model.tokenizer.decode(expected) == text.read_text()


def test_moments_are_those_of_a_loop_and_are_kept(model, text, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 16)
    monkeypatch.setattr(module, "ROWS", 4)
    shown = []
    found = text_statistics(model, text, tmp_path, lambda *what: shown.append(what))
    windows = [ids for ids, _ in text_windows(text, model.tokenizer, 16)]
    assert float(found.count) == sum(map(len, windows)) and len(shown) == -(-len(windows) // 4)
    read = jax.jit(lambda ids: apply(model.config, model.params, ids, capture=model.modules)[1])
    totals = dict.fromkeys(model.modules, 0.0)
    for ids in windows:
        rows = read(np.pad(ids, (0, 16 - len(ids)))[None])
        for name in model.modules:
            keys = np.asarray(rows[name][0, : len(ids)], np.float64)
            totals[name] = totals[name] + keys.T @ keys
    for name in model.modules:
        np.testing.assert_allclose(found.moments[name], totals[name], rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(module, "_read", None)  # nothing is read again
    again = text_statistics(model, text, tmp_path)
    np.testing.assert_array_equal(again.moments[model.modules[0]], found.moments[model.modules[0]])
    text.write_text("Another text.\n")
    with pytest.raises(TypeError, match="not callable"):
        text_statistics(model, text, tmp_path)


def test_they_are_what_a_method_protects(model, text, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 16)
    monkeypatch.setattr(module, "ROWS", 4)
    editor = Rect(ClosedForm(layers=(0,), contexts=0, weight=2.0))
    known = with_statistics(model, text, [FineTune(), editor], tmp_path)
    state = editor.train(known.editable, None, KEY)
    found = np.asarray(state.preconditioners["layers/0/mlp/down"])
    matrix = known.editable.statistics.covariance("layers/0/mlp/down")
    jitter = 1e-6 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    np.testing.assert_allclose(found @ (2 * (matrix + jitter)), np.eye(len(matrix)), atol=1e-2)
    assert with_statistics(model, None, [FineTune()]) is model
    with pytest.raises(ValueError, match=r"no method reads the statistics of .*leave it out"):
        with_statistics(model, text, [FineTune()])


def test_a_file_that_is_no_text_is_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no text .*: give the path of a text file"):
        text_statistics(model, tmp_path / "none.txt", tmp_path)
    wrong = tmp_path / "wrong.txt"
    wrong.write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        text_statistics(model, wrong, tmp_path)
    wrong.write_text("")
    with pytest.raises(ValueError, match="holds no token: give a text"):
        text_statistics(model, wrong, tmp_path)
    small = replace(model, editable=model.editable.replace(
        config=replace(model.config, vocab_size=20)))  # fmt: skip
    wrong.write_text("Paris\n")
    with pytest.raises(ValueError, match="the network embeds 20"):
        text_statistics(small, wrong, tmp_path)
