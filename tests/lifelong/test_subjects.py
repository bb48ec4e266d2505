"""What is read at subjects is what the whole network says there."""

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.facts.contexts import bare_rows
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.subjects import at_subjects, rows_before


def test_inputs_and_streams_are_those_of_the_whole_network(model, facts):
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    rows = bare_rows(batch.edit, batch.subject_last)

    @jax.jit
    def both(model):
        below = (1, rows_before(model, model.params, rows, 1))
        config, params, edit = model.config, model.params, batch.edit
        names = ("layers/1/mlp/down", "layers/1")
        seen = apply(config, params, edit.tokens, edit.attention, {}, names)[1]
        places = jnp.arange(len(edit.tokens)), batch.subject_last
        found = at_subjects(config, params, rows, below, slice(0, 1), {}, names)
        return [(own[:, 0], seen[name][places]) for name, own in zip(names, found, strict=True)]

    for found, expected in both(model):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
