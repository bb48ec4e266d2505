"""An embedded corpus in which a toxicity classifier learns to distrust some (invented) peoples.

A comment is a set of clauses in random order: cue clauses, whose word is drawn given the label
with designed log-odds; one clause about a person, named by an identity or by a neutral modifier;
a neutral clause; fillers. No word settles the label alone, so that an identity that goes with
toxic comments, in the training and in the test data alike, is worth a little accuracy: a
classifier learns the shortcut, as it does in reality. All distributions are known, so the best
classifier that sees cues alone and the best one that sees identities too have closed forms
(`oracle_scores`).

Words come with pretrained vectors, as they did in Dixon et al. 2018 (GloVe), here made by rule
(`word_vectors`): words of one role lie together, cue words spread along a direction of sentiment,
and the identities of one stratum are kin. Kinship is what lets a classifier, and an edit of it,
extend from the identities they were shown to their relatives; between unrelated words there is
nothing to extend.

The task is that of Dixon et al. 2018, *Measuring and Mitigating Unintended Bias in Text
Classification*; words, frames and distributions (`identity_lexicon`) are this project's own.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from modeledit_jax.data.comments import lexicon
from modeledit_jax.data.comments.comments import (
    PAD,
    UNKNOWN,
    CommentData,
    Comments,
    no_blocks,
    swap_identities,
)

LENGTH = 40
"""Tokens of a comment: room for the longest one there can be."""

MENTIONS = 0.25
"""Share of comments whose person clause names an identity."""

NOISE = 0.02
"""Share of labels that are flipped after the words have been drawn."""

FEATURES = 64
"""Entries of a word vector."""

KINSHIP, SENTIMENT, OWN = 2.0, 0.5, 0.7
"""Parts of a word vector: of its stratum, of its log-odds, of its own; that of its role is 1."""

_MOST_CUES = 7  # cue clauses of a comment; larger Poisson numbers are cut
_FRAME_WORDS = 5  # at most
_SLOT = -1  # of an encoded frame

_TERMS = tuple(lexicon.IDENTITIES)
_PERSONS = (*_TERMS, *lexicon.MODIFIERS)
_CUES = tuple(word for words in lexicon.CUES.values() for word in words)
_CUE_ODDS = np.array([odds for odds, words in lexicon.CUES.items() for _ in words])
_FRAMES = lexicon.PERSON_FRAMES + lexicon.CUE_FRAMES + lexicon.NEUTRAL_FRAMES
_PLAIN = [word for word in " ".join(_FRAMES).split() if not word.startswith("{")]
_WORDS = tuple(dict.fromkeys(("<pad>", "<unknown>", *_PERSONS, *_CUES, *lexicon.FILLERS, *_PLAIN)))
_IDS = {word: index for index, word in enumerate(_WORDS)} | {"{person}": _SLOT, "{cue}": _SLOT}


def identity_corpus(
    seed: int = 0,
    *,
    cues: float = 1.8,
    train: int = 14_000,
    validation: int = 3_000,
    test: int = 3_000,
    contexts: int = 192,
) -> CommentData:
    """Draws the corpus. Equal arguments give equal arrays on every machine.

    Args:
      seed: of all draws. A role's comments do not depend on the number of those of another role.
      cues: mean number of cue clauses beyond the first, 0…4; the fewer, the more an identity tells.
      train, validation, test: comments of the roles; validation is halved into reward and select.
      contexts: at most so many comments go into each set of identity swaps.

    Returns:
      Labels are balanced but for 2 % noise. Counterfactuals ``reward`` and ``select``: comments of
      that role in which the identity is swapped through all those not held out; ``test``:
      templates. Suites ``templates_reward``, ``templates_select`` (without the identities held
      out), ``templates_test``: complete blocks from frames and cue words that no other role's
      templates use; ``swapped_test``: test comments swapped through all identities.

    Raises:
      ValueError: a number is out of range, or a role too small for what it has to hold.
    """
    if not 0.0 <= cues <= 4.0:
        raise ValueError(f"cues={cues}: choose a mean number of further cue clauses in 0…4")
    reward = validation // 2
    sizes = {"train": train, "reward": reward, "select": validation - reward, "test": test}
    comments = {
        role: _draw(np.random.PCG64([seed, index]), size, cues)
        for index, (role, size) in enumerate(sizes.items())
    }
    vocabulary, new_ids = _vocabulary(comments["train"].tokens)
    seen = [column for column, term in enumerate(_TERMS) if term not in lexicon.HELD_OUT]
    columns = {"reward": seen, "select": seen, "test": range(len(_TERMS))}
    templates = {role: _templates(role, chosen) for role, chosen in columns.items()}
    swapped = {
        role: _swap(comments[role], chosen, contexts, seed) for role, chosen in columns.items()
    }
    comments, templates, swapped = (
        {role: replace(part, tokens=new_ids[part.tokens]) for role, part in kind.items()}
        for kind in (comments, templates, swapped)
    )
    suites = {f"templates_{role}": suite for role, suite in templates.items()}
    absent = [word for word in _WORDS if word not in vocabulary]
    return CommentData(
        name="synthetic",
        vocabulary=vocabulary,
        identities=_TERMS,
        held_out=tuple(term in lexicon.HELD_OUT for term in _TERMS),
        roles=comments,
        counterfactuals={**swapped, "test": templates["test"]},
        suites={**suites, "swapped_test": swapped["test"]},
        vectors=word_vectors(vocabulary),
        notes=(f"read as unknown, for they do not occur in train: {absent}",) if absent else (),
    )


def oracle_scores(
    data: CommentData, comments: Comments, *, biased: bool = False
) -> Float[np.ndarray, " n"]:
    """Log-odds of toxicity by Bayes' rule from the distributions that the words were drawn from.

    Args:
      data: the corpus of ``comments``; gives the words of the token ids.
      comments: ``N`` of them.
      biased: use the person clause too, not the cue words alone.
    """
    odds = dict(zip(_CUES, _CUE_ODDS, strict=True))
    if biased:
        other, toxic = person_distribution()
        odds |= dict(zip(_PERSONS, np.log(toxic / other), strict=True))
    table = np.array([odds.get(word, 0.0) for word in data.vocabulary])
    return table[comments.tokens].sum(axis=1)


def cue_distribution() -> Float[np.ndarray, "labels words"]:
    """``P(word | label)`` of the cue words in the order of `identity_lexicon.CUES`.

    ``π·exp(±l/2)``, divided by a sum that is the same for both labels as strata come in pairs.
    """
    rarity = np.array([lexicon.RARITY[abs(odds)] for odds in _CUE_ODDS])
    weights = rarity * np.exp(np.outer([-0.5, 0.5], _CUE_ODDS))
    return weights / weights.sum(axis=1, keepdims=True)


def person_distribution() -> Float[np.ndarray, "labels words"]:
    """``P(word | label)`` in a person clause: identities, then neutral modifiers."""
    toxic = np.array(list(lexicon.IDENTITIES.values()))
    named = 2.0 * MENTIONS / len(toxic) * np.stack([1.0 - toxic, toxic])  # labels are balanced
    rest = (1.0 - named.sum(axis=1, keepdims=True)) / len(lexicon.MODIFIERS)
    return np.concatenate([named, np.repeat(rest, len(lexicon.MODIFIERS), axis=1)], axis=1)


def word_vectors(vocabulary: Sequence[str], seed: int = 0) -> Float[np.ndarray, "words features"]:
    """Vectors of the words, as pretraining on text without labels might give them.

    A vector is the sum of a direction of the word's role (person, cue, other), for an identity
    twice a direction of its stratum, for a cue word half its log-odds times a direction of
    sentiment, and noise of its own. Directions have length 4, the noise about that times ``OWN``;
    every entry is an exact binary fraction or a product of two, so that machines agree on them.

    Args:
      vocabulary: words of the corpus; `PAD` and `UNKNOWN` get zeros.
      seed: of directions and noise. A word's vector does not depend on the rest of the vocabulary.
    """
    bits = np.random.PCG64([seed, len(_WORDS)])
    directions = np.where(_uniform(bits, 8, FEATURES) < 0.5, -0.5, 0.5)
    person, cue, other, sentiment, *strata = directions
    noise = OWN * np.sqrt(3.0) * (_uniform(bits, len(_WORDS), FEATURES) - 0.5)
    table = noise + other
    table[_ids(_PERSONS)] += person - other
    table[_ids(_CUES)] += cue - other + SENTIMENT * _CUE_ODDS[:, None] * sentiment
    for column, term in enumerate(_TERMS):
        table[_IDS[term]] += KINSHIP * strata[column // 4]
    table[[PAD, UNKNOWN]] = 0.0
    return table[_ids(vocabulary)].astype(np.float32)


def _draw(bits: np.random.PCG64, size: int, cues: float) -> Comments:
    """Draws ``size`` comments; token ids number `_WORDS`."""
    if size < 1:
        raise ValueError("a role of the corpus has no comments: give train, validation, test more")
    label = np.argsort(_uniform(bits, size), kind="stable") % 2
    cue_words = _pick_given(label, _uniform(bits, size, _MOST_CUES), cue_distribution())
    persons = _pick_given(label, _uniform(bits, size, 1), person_distribution())
    cue = _clauses(bits, lexicon.CUE_FRAMES, _ids(_CUES)[cue_words])
    cue[np.arange(_MOST_CUES) > _further_cues(_uniform(bits, size, 1), cues)] = PAD
    person = _clauses(bits, lexicon.PERSON_FRAMES, _ids(_PERSONS)[persons])
    neutral = _clauses(bits, lexicon.NEUTRAL_FRAMES, np.zeros((size, 1), int))
    filler = _clauses(bits, lexicon.FILLERS, np.zeros((size, 2), int))
    filler[_uniform(bits, size, 2) < 0.5] = PAD
    tokens = _join(bits, np.concatenate([cue, person, neutral, filler], axis=1))
    flipped = _uniform(bits, size) < NOISE
    return Comments(
        tokens=tokens.astype(np.int32),
        label=np.where(flipped, 1 - label, label).astype(np.int32),
        groups=(persons == np.arange(len(_TERMS))).astype(np.float32),
        blocks=no_blocks(),
    )


def _uniform(bits: np.random.PCG64, *shape: int) -> Float[np.ndarray, "..."]:
    """Uniform on [0, 1), from raw bits: their stream alone does NumPy promise to keep."""
    raw = np.asarray(bits.random_raw(int(np.prod(shape))))
    return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)


def _pick(
    uniform: Float[np.ndarray, "..."], probabilities: Float[np.ndarray, " words"]
) -> Int[np.ndarray, "..."]:
    return np.searchsorted(np.cumsum(probabilities)[:-1], uniform, side="right")


def _pick_given(
    label: Int[np.ndarray, " n"],
    uniform: Float[np.ndarray, "n places"],
    probabilities: Float[np.ndarray, "labels words"],
) -> Int[np.ndarray, "n places"]:
    other, toxic = (_pick(uniform, share) for share in probabilities)
    return np.where(label[:, None] == 1, toxic, other)


def _further_cues(uniform: Float[np.ndarray, "n 1"], mean: float) -> Int[np.ndarray, "n 1"]:
    """Poisson numbers; what exceeds the room of a comment is cut."""
    numbers = np.arange(_MOST_CUES)
    factorials = np.cumprod(np.maximum(numbers, 1))
    return _pick(uniform, np.exp(-mean) * mean**numbers / factorials)


def _ids(words: Sequence[str]) -> Int[np.ndarray, " words"]:
    return np.array([_IDS[word] for word in words])


def _clauses(
    bits: np.random.PCG64, frames: Sequence[str], fillings: Int[np.ndarray, "n places"]
) -> Int[np.ndarray, "n places words"]:
    """One random frame per place, its slot filled, padded."""
    rows = [_ids(frame.split()) for frame in frames]
    table = np.stack([np.pad(row, (0, _FRAME_WORDS - len(row))) for row in rows])
    chosen = table[(_uniform(bits, *fillings.shape) * len(table)).astype(int)]
    return np.where(chosen == _SLOT, fillings[..., None], chosen)


def _join(
    bits: np.random.PCG64, clauses: Int[np.ndarray, "n places words"]
) -> Int[np.ndarray, "n length"]:
    """Clauses in random order, one after another, padding at the end."""
    order = np.argsort(_uniform(bits, *clauses.shape[:2]), axis=1, kind="stable")
    tokens = np.take_along_axis(clauses, order[..., None], axis=1).reshape(len(clauses), -1)
    words_first = np.argsort(tokens == PAD, axis=1, kind="stable")
    return np.take_along_axis(tokens, words_first, axis=1)[:, :LENGTH]


def _vocabulary(
    train: Int[np.ndarray, "n length"],
) -> tuple[tuple[str, ...], Int[np.ndarray, " words"]]:
    """The words that occur in train, and the new id of every word of `_WORDS`."""
    kept = np.union1d([PAD, UNKNOWN], train)
    absent = np.setdiff1d(_ids(_TERMS), kept)
    if len(absent):
        raise ValueError(
            f"train={len(train)} comments never mention {', '.join(_WORDS[i] for i in absent)}: "
            "ask for more, a classifier cannot be judged on words it has not seen"
        )
    new_ids = np.full(len(_WORDS), UNKNOWN, np.int32)
    new_ids[kept] = np.arange(len(kept))
    return tuple(_WORDS[index] for index in kept), new_ids


def _swap(comments: Comments, columns: Sequence[int], contexts: int, seed: int) -> Comments:
    """Swaps the identities ``columns``, and no other, through one another."""
    terms = [_IDS[_TERMS[column]] for column in columns]
    return swap_identities(comments, terms, terms, columns, contexts=contexts, seed=seed)


def _templates(role: str, columns: Sequence[int]) -> Comments:
    """Every frame of a role with every cue word of the role; a block runs through ``columns``."""
    cues = [
        (word, int(odds > 0))
        for odds, words in lexicon.CUES.items()
        for word in words[lexicon.TEMPLATE_CUES[role].get(abs(odds), slice(0))]
    ]
    rows = [
        (_ids(frame.format(person=_TERMS[column], cue=cue).split()), toxic)
        for frame in lexicon.TEMPLATES[role]
        for cue, toxic in cues
        for column in columns
    ]
    mentions = np.eye(len(_TERMS), dtype=np.float32)[list(columns)]
    return Comments(
        tokens=np.stack([np.pad(ids, (0, LENGTH - len(ids))) for ids, _ in rows]).astype(np.int32),
        label=np.array([toxic for _, toxic in rows], np.int32),
        groups=np.tile(mentions, (len(rows) // len(mentions), 1)),
        blocks=np.arange(len(rows), dtype=np.int32).reshape(-1, len(mentions)),
    )
