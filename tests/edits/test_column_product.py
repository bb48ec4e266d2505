"""A kernel times columns is what NumPy says, however it is mapped or differentiated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits import column_product as module
from modeledit_jax.edits.column_product import column_product

D, H, N, E, T = 6, 3, 50, 4, 2
HIGHEST = partial(column_product, precision=jax.lax.Precision.HIGHEST)


def arrays(kernel=(), columns=()):
    """With so many leading axes."""
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.standard_normal((*kernel, D, H), dtype=np.float32)),
        jnp.asarray(rng.standard_normal((*columns, D, N), dtype=np.float32)),
    )


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


MAPPED = {
    "columns": ((), (E,), "dh,edn->ehn", [(None, 0)]),
    "kernels": ((E,), (), "edh,dn->ehn", [(0, None)]),
    "both": ((E,), (E,), "edh,edn->ehn", [(0, 0)]),
    "columns twice": ((), (T, E), "dh,tedn->tehn", [(None, 0), (None, 0)]),
    "a kernel of each task": ((T,), (T, E), "tdh,tedn->tehn", [(None, 0), (0, 0)]),
    "columns of each task": ((T, E), (T,), "tedh,tdn->tehn", [(0, None), (0, 0)]),
    "kernels, then columns": ((E,), (T,), "edh,tdn->tehn", [(0, None), (None, 0)]),
    "columns, then kernels": ((T,), (E,), "tdh,edn->tehn", [(None, 0), (0, None)]),
}


@pytest.mark.parametrize("name", MAPPED)
def test_mapped_products(name):
    kernel, columns, formula, axes = MAPPED[name]
    given = arrays(kernel, columns)
    function = HIGHEST
    for own in axes:
        function = jax.vmap(function, own)
    close(jax.jit(function)(*given), np.einsum(formula, *given))


def test_a_shared_kernel_meets_every_candidate_apart():
    """Of every task as well."""
    function = column_product
    for leading in ((E,), (T, E)):
        function = jax.vmap(function, (None, 0))
        program = jax.make_jaxpr(function)(*arrays((), leading))
        (product,) = [e for e in flattened(program.jaxpr) if e.primitive.name == "dot_general"]
        axes = tuple(range(len(leading)))
        assert product.params["dimension_numbers"][1] == (axes, axes)  # on both sides


def test_a_kernel_that_is_no_smaller_than_the_columns_is_not_repeated(monkeypatch):
    monkeypatch.setattr(module, "COLUMNS_OVER_KERNEL", N)
    kernel, columns = arrays((), (E,))
    function = jax.vmap(HIGHEST, (None, 0))
    program = jax.make_jaxpr(function)(kernel, columns)
    (product,) = [e for e in flattened(program.jaxpr) if e.primitive.name == "dot_general"]
    assert product.params["dimension_numbers"][1] == ((), ())
    close(function(kernel, columns), np.einsum("dh,edn->ehn", kernel, columns))


def flattened(jaxpr):
    """All equations, those of calls in place of the calls."""
    found = []
    for equation in jaxpr.eqns:
        inner = [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
        found += [one for own in inner for one in flattened(own)] or [equation]
    return found


def test_derivatives_are_those_of_a_product():
    kernel, columns = arrays()
    weights = np.random.default_rng(1).standard_normal((H, N), dtype=np.float32)

    def value(kernel, columns):
        return (weights * HIGHEST(kernel, columns)).sum()

    by_kernel, by_columns = jax.jit(jax.grad(value, (0, 1)))(kernel, columns)
    close(by_kernel, columns @ weights.T)
    close(by_columns, kernel @ weights)
    tangent = jnp.ones_like(kernel)
    _, moved = jax.jvp(partial(HIGHEST, columns=columns), (kernel,), (tangent,))
    close(moved, tangent.T @ columns)


@pytest.mark.parametrize("inside", [True, False])
def test_derivatives_of_mapped_products(inside):
    kernel, columns = arrays((), (E,))

    def value(columns):
        return jnp.square(HIGHEST(kernel, columns)).sum()

    function = jax.vmap(jax.grad(value))
    if not inside:
        function = jax.grad(lambda columns: jax.vmap(value)(columns).sum())
    close(function(columns), 2 * kernel @ (kernel.T @ columns))


def test_options_reach_the_product():
    kernel, columns = arrays()
    program = jax.make_jaxpr(partial(column_product, preferred_element_type=jnp.float64))
    with jax.enable_x64(True):
        assert program(kernel, columns).out_avals[0].dtype == jnp.float64
