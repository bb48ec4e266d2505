"""Frozen dataclasses that are pytrees: those of `flax.struct`, but told apart by their class.

JAX compares dataclasses that are registered as such by their fields alone
(`jax.tree_util.register_dataclass`, which `flax.struct` uses): to `jax.jit` two classes with the
same fields are one structure, and about once in fifty pairs, where hashes meet, it runs the program
that was compiled for the other. Here the class counts.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
from flax.struct import field

__all__ = ["dataclass", "field"]

Class = TypeVar("Class", bound=type)


@dataclass_transform(field_specifiers=(field,))
def dataclass(cls: Class) -> Class:
    """Makes a class a frozen dataclass and a pytree, with a method ``replace``.

    Fields are children unless they are ``field(pytree_node=False)``: those are static, compared by
    value, and have to be hashable where a tree structure is hashed. As pytrees are rebuilt with
    placeholders, ``__post_init__`` runs where an instance is constructed and not where one is
    rebuilt.
    """
    made: Any = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(made)
    children = [f.name for f in fields if f.metadata.get("pytree_node", True)]
    static = [f.name for f in fields if f.name not in children]
    made.replace = dataclasses.replace
    jax.tree_util.register_pytree_with_keys(
        made,
        lambda instance: (
            tuple((jax.tree_util.GetAttrKey(name), getattr(instance, name)) for name in children),
            _values(instance, static),
        ),
        _rebuild(made, children, static),
        lambda instance: (_values(instance, children), _values(instance, static)),
    )
    return made


def _values(instance: Any, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(instance, name) for name in names)


def _rebuild(
    cls: type, children: Sequence[str], static: Sequence[str]
) -> Callable[[tuple[Any, ...], Iterable[Any]], Any]:
    names = (*static, *children)

    def rebuild(about: tuple[Any, ...], values: Iterable[Any]) -> Any:
        instance: Any = object.__new__(cls)
        for name, value in zip(names, (*about, *values), strict=True):
            object.__setattr__(instance, name, value)
        return instance

    return rebuild
