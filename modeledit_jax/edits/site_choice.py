"""A choice among the leaves of a site, as part of an action: which to edit, then how (HiEdit).

An action starts with a score for every leaf. Those with the highest scores are edited by the rest
of the action, the others keep their weights. A search that draws its actions from a Gaussian draws
thereby which leaves are edited, more often those whose mean score is higher, and learns these means
from rewards alone: the choice needs no gradient. Only the order of the scores counts, so that they
have no unit: any factor would cancel. They start equal, where all choices are equally likely
however far a search explores; a leaf whose mean is ahead of another's by the spread of exploration
is ahead in three draws of four.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax.types import Array, Key

DRAWN_SCORE = 5.0
"""Distance from 0 of scores that are drawn: within the bounds of a world's actions, and beyond what
a search explores (a tenth to one and a half)."""


@dataclass(frozen=True)
class SiteChoice:
    """Which ``K`` of ``S`` leaves an action edits.

    Attributes:
      number: ``K``.
      of: ``S``.
      drawn: a control: a search starts with the scores of leaves that are drawn at random, so far
        above those of the others that it never edits any other.
    """

    number: int
    of: int
    drawn: bool = False

    def __post_init__(self) -> None:
        if self.of == 1:
            raise ValueError(
                f"sites_chosen={self.number}: the site is one leaf, which leaves no choice: name "
                "several leaves, or leave sites_chosen out"
            )
        if not 1 <= self.number < self.of:
            raise ValueError(
                f"sites_chosen={self.number}: choose 1 to {self.of - 1} of the site's {self.of} "
                "leaves, or leave it out to edit all"
            )

    def chosen(self, scores: Float[Array, " s"]) -> Bool[Array, " s"]:
        """The leaves with the ``K`` highest scores; of equal ones the first."""
        _, places = jax.lax.top_k(scores, self.number)
        return jnp.zeros(self.of, bool).at[places].set(True)

    def start(self, key: Key) -> Float[Array, " s"]:
        """The scores that a search starts with."""
        if not self.drawn:
            return jnp.zeros(self.of)
        first = jax.random.permutation(key, self.of) < self.number
        return jnp.where(first, DRAWN_SCORE, -DRAWN_SCORE)


def site_choice(number: int | None, of: int, drawn: bool = False) -> SiteChoice | None:
    """The choice of ``sites_chosen`` and ``sites_drawn``; None: all leaves are edited.

    Raises:
      ValueError: there is no such choice, or leaves are to be drawn and none is chosen.
    """
    if number is not None:
        return SiteChoice(number, of, drawn)
    if drawn:
        raise ValueError("sites_drawn draws which leaves are edited: say how many, sites_chosen")
    return None
