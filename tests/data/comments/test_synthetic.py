"""The generated corpus against its design, recounted from the arrays."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from modeledit_jax.data.comments import lexicon
from modeledit_jax.data.comments.comments import PAD, UNKNOWN
from modeledit_jax.data.comments.synthetic import (
    FEATURES,
    LENGTH,
    NOISE,
    cue_distribution,
    identity_corpus,
    oracle_scores,
    person_distribution,
    word_vectors,
)

FINGERPRINT = "ccb16eab63c8a4e168e0982a2201863d2dbdd90a12b6419ab47d1e20706800f5"
SIZES = {"train": 14_000, "reward": 1_500, "select": 1_500, "test": 3_000}
HELD_OUT = [list(lexicon.IDENTITIES).index(term) for term in lexicon.HELD_OUT]


@pytest.fixture(scope="module")
def data():
    return identity_corpus()


@pytest.fixture(scope="module")
def large():
    """Enough test comments to see the design through the noise of the draw."""
    return identity_corpus(1, train=1_000, validation=600, test=80_000)


def _words(data, tokens):
    return [data.vocabulary[token] for token in tokens if token != PAD]


def _all_sets(data):
    return [*data.roles.values(), *data.counterfactuals.values(), *data.suites.values()]


def test_the_default_corpus_is_the_published_one(data):
    assert data.fingerprint == FINGERPRINT


def test_same_seed_same_corpus_and_other_seed_other_corpus():
    sizes = {"train": 800, "validation": 400, "test": 50}
    first, again, other = (identity_corpus(seed, **sizes).fingerprint for seed in (3, 3, 4))
    assert first == again != other


def test_a_role_does_not_depend_on_the_size_of_another(data):
    smaller = identity_corpus(train=13_000, validation=500).roles["test"]
    for part in ("tokens", "label", "groups"):
        np.testing.assert_array_equal(getattr(smaller, part), getattr(data.roles["test"], part))


def test_roles_have_the_sizes_asked_for_and_share_no_comment(data):
    assert {role: len(comments) for role, comments in data.roles.items()} == SIZES
    rows = [tuple(row) for comments in data.roles.values() for row in comments.tokens]
    assert len(set(rows)) == len(rows)


def test_arrays_are_well_formed(data):
    assert (data.vocabulary[PAD], data.vocabulary[UNKNOWN]) == ("<pad>", "<unknown>")
    assert len(set(data.vocabulary)) == len(data.vocabulary) and data.notes == ()
    for comments in _all_sets(data):
        size = len(comments)
        assert comments.tokens.shape == (size, LENGTH) and comments.tokens.dtype == np.int32
        assert comments.label.shape == (size,) and comments.label.dtype == np.int32
        assert comments.groups.shape == (size, 16) and comments.groups.dtype == np.float32
        assert comments.blocks.dtype == np.int32
        padded = comments.tokens == PAD
        assert not np.any(padded[:, :-1] & ~padded[:, 1:]) and not padded[:, 0].any()
        assert not np.any(comments.tokens == UNKNOWN)
        assert comments.tokens.max() < len(data.vocabulary)
        for column, term in enumerate(data.identities):
            mentioned = (comments.tokens == data.vocabulary.index(term)).sum(axis=1)
            np.testing.assert_array_equal(mentioned, comments.groups[:, column])


def test_the_longest_comment_is_whole():
    data = identity_corpus(cues=4.0, train=2_000, validation=600, test=20_000)
    tokens = data.roles["test"].tokens
    lengths = (tokens != PAD).sum(axis=1)
    assert lengths.max() > LENGTH - 3
    for row in tokens[lengths > LENGTH - 3]:
        text = f" {' '.join(_words(data, row))} "
        assert sum(f" {frame} " in text for frame in lexicon.NEUTRAL_FRAMES) == 1
        assert sum(word in text.split() for word in (*lexicon.IDENTITIES, *lexicon.MODIFIERS)) == 1


def test_labels_are_balanced_and_a_quarter_names_an_identity(data):
    for comments in data.roles.values():
        size = len(comments)
        assert abs(comments.label.mean() - 0.5) < 4 * np.sqrt(NOISE / size)
        assert comments.groups.sum(axis=1).max() == 1.0
        assert abs(comments.groups.sum() / size - 0.25) < 4 * np.sqrt(0.19 / size)


def test_identities_go_with_toxicity_as_designed(large):
    comments = large.roles["test"]
    for column, (term, toxic) in enumerate(lexicon.IDENTITIES.items()):
        own = comments.label[comments.groups[:, column] > 0]
        expected = toxic + NOISE * (1 - 2 * toxic)
        assert abs(own.mean() - expected) < 4 * np.sqrt(0.25 / len(own)), term


def test_cue_words_have_the_designed_log_odds(large):
    comments = large.roles["test"]
    for odds, words in lexicon.CUES.items():
        ids = [large.vocabulary.index(word) for word in words]
        counts = np.stack(
            [[(comments.tokens[comments.label == y] == i).sum() for i in ids] for y in (0, 1)]
        )
        found = np.log(counts[1] / counts[0])
        mix = (1 - NOISE) * np.exp(odds / 2 * np.array([-1, 1]))
        mix += NOISE * np.exp(odds / 2 * np.array([1, -1]))
        spread = np.sqrt((1 / counts).sum(axis=0))
        assert np.all(np.abs(found - np.log(mix[1] / mix[0])) < 4 * spread), odds


def test_distributions_are_those_of_the_design():
    cues, persons = cue_distribution(), person_distribution()
    np.testing.assert_allclose(cues.sum(axis=1), 1.0)
    np.testing.assert_allclose(persons.sum(axis=1), 1.0)
    odds = [odds for odds, words in lexicon.CUES.items() for _ in words]
    np.testing.assert_allclose(np.log(cues[1] / cues[0]), odds, atol=1e-12)
    toxic = persons[1, :16] / persons[:, :16].sum(axis=0)  # Bayes with P(label) = 1/2
    np.testing.assert_allclose(toxic, list(lexicon.IDENTITIES.values()))
    np.testing.assert_allclose(persons[:, :16].mean(axis=0), 0.25 / 16)


def test_number_of_cue_words_is_poisson(large):
    cues = [large.vocabulary.index(w) for words in lexicon.CUES.values() for w in words]
    number = np.isin(large.roles["test"].tokens, cues).sum(axis=1)
    assert number.min() == 1 and number.max() == 7
    for extra, probability in enumerate(np.exp(-1.8) * np.array([1, 1.8, 1.62, 0.972])):
        assert abs((number == 1 + extra).mean() - probability) < 0.008


@pytest.mark.parametrize("biased", [False, True])
def test_oracles_are_calibrated(large, biased):
    """Bayes' rule: among comments of equal score, the share of toxic ones is the sigmoid."""
    comments = large.roles["test"]
    score = oracle_scores(large, comments, biased=biased)
    order = np.argsort(score)
    for part in np.array_split(order, 20):
        expected = NOISE + (1 - 2 * NOISE) * expit(score[part])
        assert abs(comments.label[part].mean() - expected.mean()) < 4 * 0.5 / np.sqrt(len(part))


@pytest.mark.parametrize(
    ("cues", "fair_auc", "biased_auc"), [(1.8, 0.929, 0.933), (1.1, 0.902, 0.908)]
)
def test_bias_is_worth_a_little(cues, fair_auc, biased_auc):
    large = identity_corpus(2, cues=cues, train=1_000, validation=600, test=60_000)
    comments = large.roles["test"]
    fair, biased = (
        roc_auc_score(comments.label, oracle_scores(large, comments, biased=biased))
        for biased in (False, True)
    )
    assert abs(fair - fair_auc) < 0.005 and abs(biased - biased_auc) < 0.005
    assert 0.002 < biased - fair < 0.008


def _error_rate_gaps(score, comments):
    """FPED and FNED at zero (Dixon et al. 2018), sums over terms."""
    gaps = []
    for label, wrong in ((0, score >= 0), (1, score < 0)):
        own = comments.label == label
        rates = [wrong[own & (comments.groups[:, t] > 0)].mean() for t in range(16)]
        gaps.append(np.abs(wrong[own].mean() - rates).sum())
    return gaps


def test_oracles_on_templates(data):
    """The fair one ignores the term; the gaps of the biased one follow from the design."""
    templates = data.suites["templates_test"]
    fair = oracle_scores(data, templates)
    assert np.ptp(fair[templates.blocks], axis=1).max() == 0.0
    np.testing.assert_array_equal(fair > 0, templates.label == 1)
    assert _error_rate_gaps(fair, templates) == [0.0, 0.0]

    # By hand: of 7 innocent cue words (−3; −1.6, −.7 three times each) 6 are outweighed by two
    # terms, 3 by three more; of 7 toxic ones 3 by the three terms below −.7.
    share = np.array([6, 6, 3, 3, 3] + [0] * 11) / 7
    missed = np.array([3, 3, 3] + [0] * 13) / 7
    expected = [np.abs(rates.mean() - rates).sum() for rates in (share, missed)]
    biased = oracle_scores(data, templates, biased=True)
    np.testing.assert_allclose(_error_rate_gaps(biased, templates), expected)


def test_templates_are_complete_and_disjoint(data):
    used_frames, used_cues, sizes = [], [], {}
    cue_words = {word: odds for odds, words in lexicon.CUES.items() for word in words}
    for role in ("reward", "select", "test"):
        templates = data.suites[f"templates_{role}"]
        sizes[role] = len(templates)
        rows = [tuple(_words(data, row)) for row in templates.tokens]
        assert len(set(rows)) == len(rows)
        frames, cues = set(), set()
        for row, label in zip(rows, templates.label, strict=True):
            (cue,) = [word for word in row if word in cue_words]
            (term,) = [word for word in row if word in lexicon.IDENTITIES]
            assert label == (cue_words[cue] > 0) and cue_words[cue] != 0
            frames.add(tuple({cue: "{cue}", term: "{person}"}.get(word, word) for word in row))
            cues.add(cue)
        assert len(rows) == len(frames) * len(cues) * templates.blocks.shape[1]
        odds = sorted(cue_words[cue] for cue in cues)
        np.testing.assert_allclose(odds, -np.array(odds[::-1]))
        used_frames += sorted(frames)
        used_cues += sorted(cues)
    assert sizes == {"reward": 1152, "select": 576, "test": 896}
    assert len(set(used_frames)) == len(used_frames) == 11
    assert len(set(used_cues)) == len(used_cues)


def test_template_frames_are_no_frames_of_comments(data):
    """What is held out is the frame: its words all occur in train (no UNKNOWN above)."""
    natural = {*lexicon.PERSON_FRAMES, *lexicon.CUE_FRAMES, *lexicon.NEUTRAL_FRAMES}
    assert not natural & {frame for frames in lexicon.TEMPLATES.values() for frame in frames}


def test_blocks_differ_in_the_identity_alone(data):
    sets = {**data.counterfactuals, **data.suites}
    assert data.counterfactuals["test"] is data.suites["templates_test"]
    terms = [data.vocabulary.index(term) for term in data.identities]
    for name, comments in sets.items():
        variants = 16 if "test" in name else 12
        assert comments.blocks.shape == (len(comments) // variants, variants)
        np.testing.assert_array_equal(np.sort(comments.blocks, axis=None), np.arange(len(comments)))
        block = comments.tokens[comments.blocks]  # [K, V, L]
        differs = (block != block[:, :1]).any(axis=1)
        assert np.all(differs.sum(axis=1) == 1)
        assert np.all(np.isin(block.transpose(0, 2, 1)[differs], terms))
        assert np.all(np.ptp(comments.label[comments.blocks], axis=1) == 0)
        # One block names each term once, and no term held out unless it belongs to the test.
        named = comments.groups[comments.blocks].sum(axis=1)
        held = np.isin(np.arange(16), HELD_OUT) & (variants == 12)
        np.testing.assert_array_equal(named, np.tile(~held, (len(named), 1)))


def test_swapped_contexts_are_comments_of_their_role(data):
    for name, role in (("reward", "reward"), ("select", "select"), ("swapped_test", "test")):
        swapped = {**data.counterfactuals, **data.suites}[name]
        assert len(swapped.blocks) == 192
        own = {tuple(row) for row in data.roles[role].tokens}
        rows = [{tuple(row) for row in swapped.tokens[block]} for block in swapped.blocks]
        assert all(len(block & own) >= 1 for block in rows)
        assert abs(swapped.label.mean() - 0.5) < 0.01


def test_four_terms_are_held_out_one_of_each_stratum(data):
    assert np.flatnonzero(data.held_out).tolist() == HELD_OUT
    assert [column // 4 for column in HELD_OUT] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cues": -0.1}, "cues=-0.1: choose a mean number"),
        ({"cues": float("nan")}, "cues=nan: choose a mean number"),
        ({"validation": 1}, "a role of the corpus has no comments"),
        ({"train": 20}, "train=20 comments never mention .*velmari"),
        ({"validation": 2}, "nothing to swap"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        identity_corpus(**arguments)


def test_words_missing_from_train_are_unknown_and_named():
    data = identity_corpus(1, cues=0.0, train=150, validation=400, test=300)
    absent = {word for words in lexicon.CUES.values() for word in words} - set(data.vocabulary)
    assert absent and all(word in data.notes[0] for word in absent)
    assert np.any(data.roles["test"].tokens == UNKNOWN)
    assert not np.any(data.roles["train"].tokens == UNKNOWN)


def test_word_vectors_say_role_kinship_and_sentiment(data):
    vectors = dict(zip(data.vocabulary, data.vectors, strict=True))
    assert data.vectors.shape == (len(data.vocabulary), FEATURES)
    assert data.vectors.dtype == np.float32
    assert not vectors["<pad>"].any() and not vectors["<unknown>"].any()
    terms = np.stack([vectors[term] for term in lexicon.IDENTITIES])
    apart = np.linalg.norm(terms[:, None] - terms[None], axis=-1)
    kin = np.arange(16)[:, None] // 4 == np.arange(16) // 4
    assert apart[kin].max() < 0.8 * apart[~kin].min()
    # A linear reading of the cue words recovers their designed log-odds.
    cues = {word: odds for odds, words in lexicon.CUES.items() for word in words}
    strongest = np.stack([vectors[word] for word in lexicon.CUES[3.0]]).mean(axis=0)
    weakest = np.stack([vectors[word] for word in lexicon.CUES[-3.0]]).mean(axis=0)
    read = [vectors[word] @ (strongest - weakest) for word in cues]
    assert np.corrcoef(read, list(cues.values()))[0, 1] > 0.95


def test_a_word_vector_does_not_depend_on_the_rest_of_the_vocabulary(data):
    some = ("<pad>", "velmari", "helpful", "maps")
    rows = [data.vocabulary.index(word) for word in some]
    np.testing.assert_array_equal(word_vectors(some), data.vectors[rows])
