"""Comments that are not what they seem.

To this kind belong labels, groups, tokens and blocks of other shapes, dtypes or ranges, those of
other comments, shares in place of memberships, and roles that are missing or hold other objects.
"""

from dataclasses import replace

import numpy as np
import pytest

from modeledit_jax.tasks.debiasing_data import check_comment_data, check_comments
from tests.editors import biased

pytestmark = pytest.mark.usefixtures("unchecked_annotations")


def test_comments_with_boolean_labels_and_groups_are_whole():
    part = biased.data().roles["reward"]
    check_comments(part.replace(label=part.label == 1, groups=part.groups > 0), 4, "them")
    check_comment_data(biased.data())


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("label", lambda a: a[:, None], r"label of them has shape \(400, 1\)"),
        ("label", lambda a: a * 0.7, "dtype float64"),
        ("label", lambda a: a - 1, "labels from -1 to 0"),
        ("label", lambda a: a + 1, "labels from 1 to 2"),
        ("label", lambda a: a[:-1], "399 labels"),
        ("label", lambda a: a.tolist(), "without arrays label"),
        ("groups", lambda a: a.T, r"groups \(4, 400\)"),
        ("groups", lambda a: a[:, :-1], r"groups \(400, 3\)"),
        ("groups", lambda a: a * 0.3, "must be 1 where a comment mentions the term"),
        ("groups", lambda a: a * np.nan, "must be 1 where"),
        ("groups", lambda a: a.astype(str), "must be 1 where"),
        ("tokens", lambda a: a[..., None] / 2, "must be integers from 0 with 2 axes"),
        ("tokens", lambda a: a - 9, "values from -7"),
        ("tokens", lambda a: a[:, 0], r"shape \(400,\)"),
        ("blocks", lambda a: np.array([[0, 400]]), "name rows 0 to 400 of 400"),
        ("blocks", lambda a: np.array([0, 1]), "2 axes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(field, change, message):
    part = biased.data().roles["reward"]
    with pytest.raises(ValueError, match=message):
        check_comments(part.replace(**{field: change(getattr(part, field))}), 4, "them")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (np.zeros(399, int), "399 kinds and 400 labels"),
        (np.full(400, -1), "values from -1"),
        (np.zeros(400), "the kind of them must be integers"),
        (np.zeros((400, 1), int), "1 axes"),
    ],
)
def test_kinds_of_contexts_that_do_not_fit_are_refused(kind, message):
    part = biased.data().roles["reward"]
    check_comments(part.replace(kind=np.zeros(400, int)), 4, "them")
    with pytest.raises(ValueError, match=message):
        check_comments(part.replace(kind=kind), 4, "them")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": (False,)}, "1 entries for 4 identities"),
        ({"counterfactuals": {}}, "no counterfactuals for the role reward"),
        ({"roles": {"train": None}}, "lacks the role reward, select, test"),
        ({"suites": {"mine": (1, 2)}}, "suites mine of toy is a tuple"),
    ],
)
def test_data_that_lack_a_part_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_comment_data(replace(biased.data(), **fields))


def test_data_are_comment_data():
    with pytest.raises(ValueError, match=r"data is a dict without name, .*: pass a CommentData"):
        check_comment_data({"roles": {}})
