"""``edit.json`` beside a kept edit: what is not as it was written is refused in one line.

Of the kind: texts, negative numbers or null for counts, leaves that are no list of names or not
those of the network, missing entries; whatever is not what was written is refused before that.
"""

import json

import pytest

from modeledit_jax.editors.editor import Cost
from modeledit_jax.run.digested_json import write_digested
from modeledit_jax.run.kept_edit import KeptEdit, read_kept_edit

COST = {"reward_evaluations": 5, "gradient_steps": 0, "seconds": 1.5}
RIGHT = {"identity": "abc", "cost": COST, "changed": ["fc2/kernel"]}


def written(folder, content):
    path = folder / "edit.json"
    write_digested(path, content)
    return path


def test_what_was_written_is_read(tmp_path):
    found = read_kept_edit(written(tmp_path, RIGHT))
    assert found == KeptEdit("abc", ("fc2/kernel",), Cost(5, 0, 1.5))
    found.check_leaves(("fc1/kernel", "fc2/kernel"), tmp_path)
    with pytest.raises(ValueError, match="names 'fc2/kernel', which the network lacks: delete"):
        found.check_leaves(("fc1/kernel",), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is damaged or of an earlier version: delete its folder"),
        ([], "is damaged or of an earlier version: delete its folder"),
        ({}, "no field 'changed'"),
        (RIGHT | {"changed": "fc2/kernel"}, "'changed' is 'fc2/kernel', it must be a list of"),
        (RIGHT | {"changed": [3]}, r"'changed' is \[3\]"),
        (RIGHT | {"cost": None}, "'cost' is None"),
        (RIGHT | {"cost": COST | {"seconds": "1"}}, "cost: the field 'seconds' is '1'"),
        (RIGHT | {"cost": COST | {"gradient_steps": -1}}, "'gradient_steps' is -1"),
        (RIGHT | {"cost": {}}, "no field 'reward_evaluations'"),
        (RIGHT | {"identity": 3}, "'identity' is 3"),
    ],
)
def test_damage_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"edit\.json.*{message}") as error:
        read_kept_edit(written(tmp_path, content))
    assert "\n" not in str(error.value)


def test_what_is_not_what_was_written_is_refused(tmp_path):
    path = written(tmp_path, RIGHT)
    for text in ("{", json.dumps(RIGHT), path.read_text().replace("1.5", "2.5")):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"edit\.json is damaged or of an earlier version: del"
        ):
            read_kept_edit(path)
