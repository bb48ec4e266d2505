"""Which facts a model knows, against greedy decoding one question at a time; what is kept of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from modeledit_jax.data.facts.records import Probe
from modeledit_jax.data.facts.token_ids import prompt_and_answer
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.mesh import make_mesh
from modeledit_jax.run import known_facts as module
from modeledit_jax.run.known_facts import known_facts
from tests.lifelong.folders import write_folder

PROMPTS = [
    "The dog slept", "She closed the", "It rained all morning, but by noon the sky",
    "He could not find his", "We had planned to leave at", "The", "Put the books back on the",
    "A small boat came into the harbor just before it got",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return read_language_model(write_folder(tmp_path_factory.mktemp("models") / "llama"))


@pytest.fixture(scope="module")
def said(model):
    """What greedy decoding adds to each prompt, token by token, by passes of the whole network."""
    forward = jax.jit(lambda tokens: apply(model.config, model.params, tokens)[0][0])

    def decode(prompt, tokens):
        ids = prompt_and_answer(model.tokenizer, prompt, "x")[0]
        for _ in range(tokens):
            padded = jnp.zeros((1, 40), jnp.int32).at[0, : len(ids)].set(jnp.asarray(ids))
            ids = [*ids, int(forward(padded)[len(ids) - 1].argmax())]
        return ids[-tokens:]

    return decode


@pytest.fixture(scope="module")
def probes(model, said):
    """Answers of one and two tokens that are the model's own, where they are text, and others."""
    texts = [model.tokenizer.decode(said(prompt, n)).strip() for prompt in PROMPTS for n in (1, 2)]
    given = [Probe(PROMPTS[i // 2], text) for i, text in enumerate(texts) if text]
    return [*given, *(Probe(prompt, answer) for prompt in PROMPTS for answer in ("door", "of"))]


def expected(model, said, probes):
    found = []
    for probe in probes:
        prompt, answer = prompt_and_answer(model.tokenizer, probe.prompt, probe.answer)
        fits = len(prompt) + len(answer) - 1 <= module.LONGEST and len(answer) <= module.ANSWER
        if fits and said(probe.prompt, len(answer)) == answer:
            found.append(probe)
    return tuple(found)


def test_facts_are_those_of_a_loop_of_greedy_decoding(model, said, probes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 3)
    shown = []
    found = known_facts(model, probes, cache_dir=tmp_path, report=lambda *w: shown.append(w[:2]))
    assert found == expected(model, said, probes)
    assert 2 <= len(found) < len(probes)
    assert shown[-1][0] == shown[-1][1] and shown == sorted(shown)
    assert known_facts(model, probes, most=1, cache_dir=tmp_path) == found[:1]


def test_of_what_cannot_be_asked_or_is_not_there_nothing_is_known(model, tmp_path):
    long = [Probe("The dog slept " * 20, "by"), Probe("The dog", "slept by the door " * 3)]
    assert known_facts(model, long, cache_dir=tmp_path) == ()
    assert known_facts(model, (), cache_dir=tmp_path / "none") == ()
    assert not (tmp_path / "none").exists()


def test_the_answers_are_kept_by_content(model, probes, tmp_path, monkeypatch):
    found = known_facts(model, probes, cache_dir=tmp_path)
    (entry,) = (tmp_path / "known-facts").iterdir()
    monkeypatch.setattr(module, "_answered", None)  # nothing is asked again
    assert known_facts(model, probes, cache_dir=tmp_path) == found
    params = jax.tree.map(lambda leaf: leaf * 1.001, model.params)
    other = replace(model, editable=model.editable.replace(params=params))
    for changed, asked in ((model, probes[1:]), (other, probes)):
        with pytest.raises(TypeError, match="not callable"):
            known_facts(changed, asked, cache_dir=tmp_path)
    assert [*(tmp_path / "known-facts").iterdir()] == [entry]


def test_a_flipped_bit_is_noticed(model, probes, tmp_path):
    found = known_facts(model, probes, cache_dir=tmp_path)
    files = [path for path in (tmp_path / "known-facts").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.warns(UserWarning, match="it is made again"):
        assert known_facts(model, probes, cache_dir=tmp_path) == found
    assert known_facts(model, probes, cache_dir=tmp_path) == found


@pytest.mark.slow
def test_a_model_on_several_devices_knows_the_same(model, probes, tmp_path):
    spread = read_language_model(model.source, mesh=make_mesh({"data": 2, "model": 2}))
    found = known_facts(model, probes, cache_dir=tmp_path / "one")
    assert known_facts(spread, probes, cache_dir=tmp_path / "other") == found
