"""Where an edit acts: leaves of a parameter pytree, chosen by path pattern.

A path joins the keys of a leaf with slashes (``"fc2/kernel"``). A pattern is a shell-style glob
(``"fc2/kernel"``, ``"conv*/kernel"``) that has to match a whole path or its end, so that
``"fc2/kernel"`` also finds ``"params/fc2/kernel"``. A path that is the pattern letter for letter
comes first: ``"blk[0]/w"`` is the leaf of that name and no glob. Paths of Flax NNX parameters
(``nnx.split``) end in ``/value``: there the pattern is ``"fc2/kernel/value"`` or ``"fc2/kernel*"``.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from modeledit_jax.types import Leaves, Params


def leaf_paths(params: Params) -> tuple[str, ...]:
    """Returns the path of every leaf of ``params``, in the order of `jax.tree.leaves`."""
    paths_and_leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths_and_leaves
    )


def match_paths(
    params: Params, patterns: str | Sequence[str], argument: str = "the site pattern"
) -> tuple[str, ...]:
    """Returns the paths of the leaves that match at least one pattern.

    Args:
      params: a pytree.
      patterns: one or several.
      argument: what the user calls them.

    Raises:
      ValueError: no pattern, one that is no text, one that matches no leaf (the message lists the
        leaves there are), or one that matches two leaves of the same path.
    """
    paths = leaf_paths(params)
    several = isinstance(patterns, Iterable) and not isinstance(patterns, str)
    wanted: tuple[Any, ...] = tuple(patterns) if several else (patterns,)
    if not all(isinstance(pattern, str) for pattern in wanted):
        raise ValueError(
            f"{argument} must be text, or a list of texts, got {patterns!r}; the leaves are: "
            + ", ".join(paths)
        )
    matched: set[str] = set()
    for pattern in wanted:
        found = _matches(paths, pattern)
        if not found:
            raise ValueError(
                f"no parameter matches {argument} {pattern!r}; the leaves are: " + ", ".join(paths)
            )
        matched.update(found)
    if not matched:
        raise ValueError("a site needs at least one pattern; the leaves are: " + ", ".join(paths))
    chosen = tuple(path for path in paths if path in matched)
    if len(set(chosen)) < len(chosen):
        twice = next(path for path in chosen if chosen.count(path) > 1)
        raise ValueError(
            f"two leaves have the path {twice!r}: rename one, so that {argument} names one of them"
        )
    return chosen


def _matches(paths: Sequence[str], pattern: str) -> list[str]:
    """Paths that are, or end in, the pattern letter for letter; if none, those that it globs."""
    literal = [path for path in paths if f"/{path}".endswith(f"/{pattern}")]
    return literal or [
        path for path in paths if fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")
    ]


def get_leaves(params: Params, paths: Sequence[str]) -> Leaves:
    """Returns ``{path: leaf}`` for the exact ``paths`` (see `match_paths`)."""
    by_path = dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))
    return {path: by_path[path] for path in paths}


def set_leaves(params: Params, leaves: Leaves) -> Params:
    """Returns ``params`` with the named leaves replaced; every other leaf is the same object.

    Raises:
      ValueError: a path of ``leaves`` is not in ``params``.
    """
    paths = leaf_paths(params)
    unknown = set(leaves) - set(paths)
    if unknown:
        raise ValueError(
            f"no leaf named {', '.join(sorted(unknown))}; the leaves are: {', '.join(paths)}"
        )
    values, treedef = jax.tree.flatten(params)
    edited = [leaves.get(path, value) for path, value in zip(paths, values, strict=True)]
    return jax.tree.unflatten(treedef, edited)
