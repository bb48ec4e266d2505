"""Closed form in some layers at a time, against the method itself in all or in one."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from modeledit_jax.lifelong.edit_values import ValueSearch
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.routed_closed_form import RoutedClosedForm
from modeledit_jax.lifelong.methods.router import RouterConfig
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.model import dense_change, squared_norms
from modeledit_jax.lifelong.stream import edit_stream, start_stream
from tests.lifelong.test_stream import assert_same

KEY = jax.random.key(0)
VALUES = ValueSearch(steps=4, learning_rate=0.1)
BASE = ClosedForm("nothing", size_penalty=0.1, history=True, contexts=0, values=VALUES)
LOW, TOP = "layers/1/mlp/down", "layers/2/mlp/down"
ROUTER = Routing(router=RouterConfig(hidden_size=4, learn_count=True))

edit = jax.jit(lambda method, *args: method.edit(*args), static_argnums=0)


@pytest.fixture(scope="module")
def first(facts):
    return jax.tree.map(lambda leaf: leaf[0], facts)


def streamed(method, model, facts):
    method = method.sized_for(model, (facts,))
    start = start_stream(model, method.init(model, KEY), KEY)
    return edit_stream(method, model, start, facts)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["even", "least"])
def test_all_layers_are_the_method_itself(deep, facts, sharing):
    """To rounding: shares are divided by an array in place of a number."""
    base = replace(BASE, sharing=sharing)
    alone, _ = streamed(base, deep, facts)
    routed, trace = streamed(RoutedClosedForm(base, Routing("dense")), deep, facts)
    np.testing.assert_array_equal(trace.masks, np.ones((4, 2)))
    for name in (LOW, TOP):
        assert np.abs(alone.kernels[name] - deep.kernels()[name]).max() > 1e-2
        np.testing.assert_allclose(routed.kernels[name], alone.kernels[name], atol=1e-4)
        found, expected = (
            state.preconditioners[name] for state in (routed.editor.editor, alone.editor)
        )
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["even", "least"])
def test_the_top_layer_alone_is_the_method_of_that_layer(deep, facts, sharing):
    """Values are of the top layer in both, and all of the change is its own."""
    base = replace(BASE, sharing=sharing)
    alone, _ = streamed(replace(base, layers=(2,)), deep, facts)
    routed, trace = streamed(RoutedClosedForm(base, Routing("fixed", fixed=(1,))), deep, facts)
    np.testing.assert_array_equal(trace.masks, np.tile([0.0, 1.0], (4, 1)))
    np.testing.assert_array_equal(routed.kernels[LOW], deep.kernels()[LOW])
    np.testing.assert_allclose(routed.kernels[TOP], alone.kernels[TOP], atol=1e-4)
    assert np.abs(alone.kernels[TOP] - deep.kernels()[TOP]).max() > 1e-2
    # The layer that never changed has remembered every batch all the same.
    before = np.asarray(BASE.init(deep, KEY).preconditioners[LOW])
    assert (np.trace(before) - np.trace(routed.editor.editor.preconditioners[LOW])) > 1.0


@pytest.mark.slow
def test_rules_choose_as_they_say(deep, first):
    kernels = deep.kernels()
    masks = {}
    for how in ("norm", "random"):
        method = RoutedClosedForm(BASE, Routing(how))
        state = method.init(deep, KEY)
        assert state.learned is None
        masks[how] = [
            [
                float(hook.mask)
                for hook in edit(method, deep, kernels, state, first, key)[0].values()
            ]
            for key in jax.random.split(KEY, 8)
        ]
    sizes = squared_norms(edit(BASE, deep, kernels, BASE.init(deep, KEY), first, KEY)[0])
    largest = np.argmax([sizes[name] for name in (LOW, TOP)])
    np.testing.assert_array_equal(masks["norm"], np.tile(np.eye(2)[largest], (8, 1)))
    assert {tuple(mask) for mask in masks["random"]} == {(1.0, 0.0), (0.0, 1.0)}


@pytest.mark.slow
def test_a_router_decides_inside_and_outside_of_jit_and_a_cut_stream_goes_on(deep, facts, first):
    method = RoutedClosedForm(replace(BASE, source="unedited"), ROUTER)
    method = method.sized_for(deep, (facts,))
    state = method.init(deep, KEY)
    given = (deep, deep.kernels(), state, first, KEY)
    found, after = edit(method, *given)
    plain, plainly = method.edit(*given)
    assert sum(float(hook.mask) for hook in found.values()) >= 1
    for name, hook in found.items():
        assert hook.mask == plain[name].mask
        np.testing.assert_allclose(
            dense_change(hook), dense_change(plain[name]), rtol=1e-3, atol=1e-4
        )
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(plainly), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    (statistics,) = after.learned.statistics.values()
    assert statistics.count == 2 * 3  # rows of two layers and three facts
    whole, _ = edit_stream(method, deep, start_stream(deep, state, KEY), facts)
    part = start_stream(deep, state, KEY)
    for cut in (slice(0, 1), slice(1, None)):
        part, _ = edit_stream(method, deep, part, jax.tree.map(lambda x, c=cut: x[c], facts))
    assert_same(whole, part)


def test_it_is_the_editor_in_all_else(deep, facts):
    method = RoutedClosedForm(replace(BASE, source="unedited", contexts=2), ROUTER)
    assert (method.contexts, method.reads_text) == (2, False)
    assert method.finds_ahead == method.editor.finds_ahead is not None
    assert method.gradient_steps(2) == 300 + 2 * 3
    assert replace(method, routing=Routing("random")).gradient_steps(2) == 2 * 3
    sized = replace(method, editor=replace(BASE, contexts=0)).sized_for(deep, (facts,))
    assert (sized.editor.answer, sized.editor.window) == (2, 6)


def test_what_cannot_be_routed_is_refused(deep):
    with pytest.raises(ValueError, match="give an editor with one_by_one=False"):
        RoutedClosedForm(replace(BASE, one_by_one=True))
    with pytest.raises(ValueError, match=r"gradient='ste': .* give 'reinforce'"):
        RoutedClosedForm(BASE, Routing(gradient="ste"))
    RoutedClosedForm(BASE, Routing("random", gradient="ste"))  # of which nothing is learned
    with pytest.raises(ValueError, match="choose the layers by a rule"):
        RoutedClosedForm(BASE).train(deep, None, KEY)
    assert RoutedClosedForm(BASE, Routing("norm")).train(deep, None, KEY).learned is None
