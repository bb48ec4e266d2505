"""Language models from folder to folder: what is read, edited and written, and transformers."""

import json
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer

from modeledit_jax.data.facts.encoding import encode_answers, encode_sentences, split_batches
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.evaluation.knowledge import recall
from modeledit_jax.language.config import tiny_llama
from modeledit_jax.language.training import LanguageTrainingConfig, init_state, train_chunk
from modeledit_jax.lifelong.language_model import LanguageModel, read_language_model
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.scoring import predict_with
from tests.data.facts import published_tokenizers as tokenizers
from tests.language import huggingface_networks as huggingface
from tests.lifelong.folders import NETWORKS, write_folder


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("models") / request.param, request.param)
    return read_language_model(folder, "layers/1/mlp/*")


def edited(model):
    """Kernels that are far from the unedited ones."""
    return {
        name: kernel + 0.3 * jax.random.normal(jax.random.key(index), kernel.shape)
        for index, (name, kernel) in enumerate(model.editable.kernels().items())
    }


def test_a_folder_holds_network_and_tokenizer(model):
    assert model.modules[-1] == "layers/1/mlp/down"
    assert model.tokenizer.get_vocab_size() <= model.config.vocab_size
    assert model.config == NETWORKS[model.config.family]


@pytest.mark.slow
def test_the_edited_network_is_the_one_that_transformers_loads(model, tmp_path):
    kernels = edited(model)
    model.save(tmp_path / "edited", kernels)
    ids = model.tokenizer.encode("She closed the window").ids
    tokens = jnp.asarray([ids])
    ours = model.editable.logits(kernels, TokenBatch(tokens, jnp.ones(tokens.shape, bool), tokens))
    other = huggingface.load(tmp_path / "edited")
    theirs = huggingface.logits(other, tokens, np.ones(tokens.shape))
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "edited")
    assert tokenizer("She closed the window").input_ids == ids
    again = read_language_model(tmp_path / "edited", "layers/1/mlp/*")
    for name, kernel in again.editable.kernels().items():
        np.testing.assert_array_equal(kernel, kernels[name])


@pytest.mark.slow
def test_small_edits_of_a_bfloat16_network_survive(tmp_path):
    model = read_language_model(
        write_folder(tmp_path / "half", dtype=jnp.bfloat16), "layers/1/mlp/down"
    )
    (name,) = model.modules
    kernels = {name: model.editable.kernels()[name] + 1e-6}
    model.save(tmp_path / "edited", kernels)
    assert json.loads((tmp_path / "edited" / "config.json").read_text())["dtype"] == "float32"
    loaded = huggingface.load(tmp_path / "edited")
    down = loaded.model.layers[1].mlp.down_proj.weight.detach().float().numpy().T
    np.testing.assert_array_equal(down, kernels[name])


def test_a_network_made_here_is_saved_with_its_tokenizer(model, tmp_path):
    own = LanguageModel(model.editable, model.tokenizer)
    own.save(tmp_path / "own", own.editable.kernels())
    again = read_language_model(tmp_path / "own")
    assert again.tokenizer.to_str() == model.tokenizer.to_str()
    chex.assert_trees_all_equal(again.params, model.params)


@pytest.mark.slow
def test_a_completion_is_that_of_a_loop(model):
    prompts = ["She closed", "The old dog slept by the"]
    kernels = edited(model)
    found = model.complete(prompts, kernels, tokens=3)
    params = model.editable.with_kernels(kernels)
    from modeledit_jax.language.model import apply

    for prompt, text in zip(prompts, found, strict=True):
        ids = model.tokenizer.encode(prompt).ids
        for _ in range(3):
            logits, _ = apply(model.config, params, jnp.asarray([ids]))
            ids.append(int(logits[0, -1].argmax()))
        assert text == model.tokenizer.decode(ids[-3:]).strip()
    assert model.complete(prompts, model.editable.kernels(), 3) == model.complete(prompts, tokens=3)
    with pytest.raises(ValueError, match="the model has 128: shorten the prompt"):
        model.complete(["dog " * 128])


def test_broken_kernels_are_never_saved(model, tmp_path):
    kernels = edited(model)
    kernels[model.modules[0]] = kernels[model.modules[0]].at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match=r"layers/1/mlp/\w+ hold values that are not finite"):
        model.save(tmp_path / "edited", kernels)
    assert os.listdir(tmp_path) == []


def test_padding_and_truncation_of_whoever_saved_the_tokenizer_are_ignored(model, tmp_path):
    folder = write_folder(tmp_path / "model", model.config.family)
    tokenizer = model.tokenizer
    expected = tokenizer.encode("The old dog slept by the door").ids
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    found = read_language_model(folder).tokenizer.encode("The old dog slept by the door").ids
    assert found == expected


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="hf download"):
        read_language_model(tmp_path)
    folder = write_folder(tmp_path / "model")
    with pytest.raises(ValueError, match="layers/7/mlp/down"):
        read_language_model(folder, "layers/7/mlp/down")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        read_language_model(folder)


def test_what_cannot_be_continued_is_refused(model):
    tokenizer = Tokenizer.from_str(model.tokenizer.to_str())
    tokenizer.add_tokens(["Zorblax"])
    short = LanguageModel(model.editable, tokenizer)
    name = model.modules[0]
    broken = model.editable.kernels() | {name: jnp.full(model.editable.shapes[name], jnp.inf)}
    for call, message in (
        (
            lambda: short.complete(["See Zorblax"]),
            "has the token 'Zorblax', number 400",
        ),
        (lambda: model.complete([]), r"prompts=\[\] to be continued by 8 tokens: give a list"),
        (lambda: model.complete("She closed"), "prompts='She closed' to be continued"),
        (lambda: model.complete(["She"], tokens=0), "by 0 tokens: .* at least one token"),
        (lambda: model.complete(["She"], broken), f"kernels of {name} hold values that are not"),
        (lambda: model.complete(["She"], {"head": jnp.ones(2)}), "the model edits no head"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_kernels_of_another_network_are_never_saved(model, tmp_path):
    for kernels, message in (
        ({"layers/9/mlp/down": jnp.ones((2, 2))}, "the model edits no layers/9/mlp/down"),
        ({model.modules[0]: jnp.ones((2, 2))}, r"has the shape \(2, 2\), that of the network is"),
    ):
        with pytest.raises(ValueError, match=message):
            model.save(tmp_path / "edited", kernels)
    assert os.listdir(tmp_path) == []


NETWORK = tiny_llama(608, width=32, num_layers=2, num_heads=2, mlp_width=64, context=32)
TRAINING = LanguageTrainingConfig(steps=250, batch_size=24, learning_rate=1e-2, warmup_steps=10)


def taught(tokenizer, sentences):
    """A network that knows the sentences by heart."""
    data = encode_sentences(sentences, tokenizer, length=24, vocabulary=NETWORK.vocab_size)
    state = init_state(NETWORK, TRAINING, jax.random.key(0))
    state, _ = train_chunk(state, data, TRAINING.steps)
    editable = EditableModel.create(NETWORK, state.params, "layers/1/mlp/down")
    return LanguageModel(editable, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "facts", "space"),
    [
        (tokenizers.llama_2, tokenizers.FACTS, " "),
        (tokenizers.mistral, tokenizers.FACTS, " "),
        (tokenizers.several_in_front, tokenizers.FACTS, " "),
        (tokenizers.roberta, tokenizers.FACTS, " "),
        (tokenizers.qwen_2, tokenizers.FACTS, " "),
        (tokenizers.characters, tokenizers.JAPANESE, ""),
    ],
)
def test_what_a_network_says_is_what_it_is_scored_by(make, facts, space):
    """It is asked about what it knows by heart: recall is 1 and it completes every prompt."""
    model = taught(make(), [f"{prompt}{space}{answer}" for prompt, answer in facts])
    prompts, answers = zip(*facts, strict=True)
    predict = predict_with(model.editable, model.editable.kernels())
    for asked, said in ((prompts, answers), ([f"{prompt}{space}" for prompt in prompts], answers),
                        (prompts, [f"{space}{answer}" for answer in answers])):  # fmt: skip
        rows = encode_answers(asked, said, model.tokenizer, length=24)
        assert recall(predict, split_batches(rows, 6)) == 1.0
        for text, answer in zip(model.complete(asked, tokens=6), answers, strict=True):
            assert text.startswith(answer)
