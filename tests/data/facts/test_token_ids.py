"""The text around prompt and answer, for any tokenizer.

Of this kind is everything that stands between the text of a user and the ids that a network gets:
normalizers that put something in front of a text, pre-tokenizers, special tokens before and behind
(one or several), bytes for unknown characters, digits one by one, languages without spaces, white
space at either side of the boundary, padding, truncation and dropout that were left switched on,
tokens without an embedding, texts that are none, and tokenizers that cannot read a text.
"""

import jaxtyping
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from modeledit_jax.data.facts.token_ids import (
    check_embedded,
    encode_text,
    join,
    plain_tokenizer,
    prompt_and_answer,
    prompt_ids,
)
from tests.data.facts.published_tokenizers import (
    FACTS,
    JAPANESE,
    TOKENIZERS,
    bert,
    gpt_2,
    llama_2,
    mistral,
    qwen_2,
    roberta,
    several_in_front,
    t5,
    words,
)

MADE = {make.__name__: make() for make in TOKENIZERS}


def body(tokenizer, text):
    """Ids of a text with the special tokens in front, by adding none and some by hand."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    front = {
        "<en> <s>": "several_in_front",
        "[CLS]": "bert",
        "<s>": "llama_2 mistral roberta characters",
        "<begin>": "gpt_2 words",
    }
    name = next(key for key, made in MADE.items() if made is tokenizer)
    special = next((tokens for tokens, users in front.items() if name in users.split()), "")
    return [*(tokenizer.token_to_id(token) for token in special.split()), *ids]


def tokens(tokenizer, ids):
    return [tokenizer.id_to_token(token) for token in ids]


@pytest.fixture
def untyped():
    """Calls as a user makes them: without the tests' own check of types."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(("prompt", "answer"), FACTS)
def test_prompt_and_answer_are_the_whole_text(name, prompt, answer):
    tokenizer = MADE[name]
    own, ids = prompt_and_answer(tokenizer, prompt, answer)
    assert own == body(tokenizer, prompt) and own + ids == body(tokenizer, f"{prompt} {answer}")
    assert ids and own == prompt_ids(tokenizer, prompt)


@pytest.mark.parametrize("name", MADE)
def test_white_space_at_the_boundary_is_not_doubled(name):
    tokenizer = MADE[name]
    plain = prompt_and_answer(tokenizer, *FACTS[0])
    for prompt, answer in [(FACTS[0][0] + " ", "Paris"), (FACTS[0][0], " Paris")]:
        assert prompt_and_answer(tokenizer, prompt, answer) == plain
    assert prompt_ids(tokenizer, FACTS[0][0] + "  ") == plain[0]


@pytest.mark.parametrize("make", [gpt_2, qwen_2, roberta, llama_2])
def test_a_line_break_of_the_user_is_kept_in_the_prompt(make):
    tokenizer = make()
    own, ids = prompt_and_answer(tokenizer, "Capital of France:\n", "Paris")
    assert own == prompt_ids(tokenizer, "Capital of France:\n")
    assert tokenizer.decode([*own, *ids]) == "Capital of France:\nParis"


@pytest.mark.parametrize("make", [llama_2, gpt_2, qwen_2, roberta, several_in_front])
@pytest.mark.parametrize(("prompt", "answer"), JAPANESE)
def test_languages_without_spaces_get_none(make, prompt, answer):
    tokenizer = make()
    own, ids = prompt_and_answer(tokenizer, prompt, answer)
    assert own == prompt_ids(tokenizer, prompt)
    assert tokenizer.decode([*own, *ids]) == prompt + answer
    assert tokenizer.decode(ids) == answer  # without a space in front


@pytest.mark.parametrize("make", [mistral, bert])
def test_a_piece_across_the_boundary_leaves_the_prompt_as_it_is_asked(make):
    """The whole text has the piece は1889, the prompt ends in は."""
    tokenizer = make()
    whole = tokenizer.encode("塔の完成は1889年", add_special_tokens=False)
    assert any("は1889" in token for token in whole.tokens)
    own, ids = prompt_and_answer(tokenizer, "塔の完成は", "1889年")
    assert own == prompt_ids(tokenizer, "塔の完成は")
    assert tokens(tokenizer, ids) == ["1889", "年"]  # no ▁ before it


@pytest.mark.parametrize(
    ("prompt", "answer", "whole"),
    [
        ("Its name is", "Bo", "Its name is Bo"),
        ("Its name is\t", "Bo", "Its name is\tBo"),
        ("首都:", "東京", "首都: 東京"),
        ("首都：", "東京", "首都：東京"),
        ("เมืองหลวงคือ", "กรุงเทพ", "เมืองหลวงคือกรุงเทพ"),
        ("ရန်ကုန်", "မြို့", "ရန်ကုန်မြို့"),
        ("수도는", "서울", "수도는 서울"),  # Korean has spaces
        ("The capital of Japan is", "東京", "The capital of Japan is 東京"),
        ("日本の首都は", "Tokyo", "日本の首都は Tokyo"),
        ("人口は", "1400万", "人口は1400万"),
        ("", "Paris", " Paris"),
    ],
)
def test_what_is_put_between(prompt, answer, whole):
    assert join(prompt, answer) == whole
    assert join(prompt, answer, "|") == f"{prompt}|{answer}"


def test_special_tokens_behind_are_neither_the_prompts_nor_the_answers():
    tokenizer = several_in_front()
    own, ids = prompt_and_answer(tokenizer, *FACTS[0])
    assert tokens(tokenizer, own[:3]) == ["<en>", "<s>", "▁The"]
    assert tokens(tokenizer, own[-1:]) == ["▁is"]
    assert tokens(tokenizer, ids) == ["▁Pa", "ris"]
    assert tokens(tokenizer, prompt_ids(tokenizer, "")) == ["<en>", "<s>"]
    assert prompt_ids(t5(), "") == []
    assert tokens(bert(), prompt_ids(bert(), "")) == ["[CLS]"]


def test_bytes_stand_for_what_the_vocabulary_lacks():
    tokenizer = llama_2()
    _, ids = prompt_and_answer(tokenizer, "The capital of Japan is", "東京")
    assert tokens(tokenizer, ids) == ["▁", *(f"<0x{byte:02X}>" for byte in "東京".encode())]


def test_digits_one_by_one_are_all_in_the_answer():
    tokenizer = qwen_2()
    _, ids = prompt_and_answer(tokenizer, "The tower was built in", "1889")
    assert tokens(tokenizer, ids) == ["Ġ", *"1889"]


@pytest.mark.parametrize("name", MADE)
def test_nothing_has_no_token(name):
    for answer in ("", "  ", "\n"):
        assert prompt_and_answer(MADE[name], "The capital of France is", answer)[1] == []


def test_padding_truncation_and_dropout_are_ignored_and_left_as_they_are():
    text = "The capital of France is Paris."
    expected = llama_2().encode(text).ids
    padded, cut, left = llama_2(), llama_2(), llama_2()
    padded.enable_padding(length=40)
    cut.enable_truncation(3)
    left.enable_padding(direction="left", length=40)
    left.enable_truncation(2, direction="left")
    for tokenizer in (padded, cut, left):
        assert tokenizer.encode(text).ids != expected
        assert plain_tokenizer(tokenizer).encode(text).ids == expected
    assert padded.padding["length"] == 40 and cut.truncation["max_length"] == 3
    dropping = llama_2()
    dropping.model.dropout = 0.9
    assert plain_tokenizer(dropping).encode(text).ids == expected and dropping.model.dropout > 0.8
    plain = llama_2()
    assert plain_tokenizer(plain) is plain


def test_what_is_no_tokenizer_or_no_text_is_refused_in_one_line(untyped):
    with pytest.raises(ValueError, match=r"the tokenizer is a dict: give a tokenizers\.Tokenizer"):
        plain_tokenizer({})
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(object())
    own.enable_padding()
    with pytest.raises(ValueError, match=r"cannot be copied .*: call no_padding\(\)"):
        plain_tokenizer(own)
    tokenizer = words()
    for call in (
        lambda: prompt_and_answer(tokenizer, "The", 1889),
        lambda: prompt_and_answer(tokenizer, None, "Paris"),
        lambda: prompt_ids(tokenizer, b"The"),
        lambda: join("The", "Paris", 1),
    ):
        with pytest.raises(
            ValueError, match=r"is of type (int|NoneType|bytes), no text: give a string"
        ):
            call()
    bare = Tokenizer(models.WordLevel({"Paris": 0}))
    with pytest.raises(ValueError, match=r"cannot read 'Rome' \(WordLevel.*: change the text"):
        encode_text(bare, "Rome")
    with pytest.raises(ValueError, match=r"cannot read '\\ud800'"):
        encode_text(words(), "\ud800")


def test_a_token_beyond_the_embedding_is_named():
    tokenizer = llama_2()
    size = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["Zorblax"])
    ids = tokenizer.encode("The capital of Zorblax").ids
    check_embedded(tokenizer, ids, None, "")
    check_embedded(tokenizer, ids, size + 1, "")
    with pytest.raises(ValueError, match=rf"'the text' has the token '▁Zorblax', number {size}"):
        check_embedded(tokenizer, ids, size, "the text")
