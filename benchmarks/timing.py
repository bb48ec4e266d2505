"""Interleaved timing of contestants on a machine that other programs may be using.

Absolute times on a shared machine mean little. All contestants take turns within every round, so
that they meet the same load, and ratios are taken round by round before they are summarized.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Contestant:
    """Something whose throughput is measured.

    Attributes:
      run: does ``work`` units of work and returns its result.
      work: units of one run (evaluations, floating-point operations, …).
    """

    run: Callable[[], Any]
    work: float


@dataclass(frozen=True)
class Rates:
    """Units of work per second of one contestant, one entry per round.

    Attributes:
      wall: per second of the clock.
      cpu: per second of processor time, all threads together. It hardly depends on what else the
        machine does, but says nothing about how well the cores are used.
    """

    wall: Float[np.ndarray, " rounds"]
    cpu: Float[np.ndarray, " rounds"]


def measure(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, Rates]:
    """Times every contestant in every round, in alternating order, after one call to compile.

    Raises:
      ValueError: fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; make it at least 1")
    for contestant in contestants.values():
        jax.block_until_ready(contestant.run())
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for index in range(rounds):
        order = list(contestants)
        for name in order if index % 2 == 0 else reversed(order):
            samples[name].append(_sample(contestants[name]))
    return {
        name: Rates(*(contestant.work / np.array(samples[name], np.float64).T))
        for name, contestant in contestants.items()
    }


def _sample(contestant: Contestant) -> tuple[float, float]:
    """Seconds of the clock and of processor time."""
    time.sleep(0.01)  # idle worker threads of the contestant before may still be spinning
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(contestant.run())
    return time.perf_counter() - wall, time.process_time() - cpu


def summary(rates: Rates) -> dict[str, float]:
    """Median, best and quartiles (``low``, ``high``) of the rates, and ``cpu_median``."""
    return {**_spread(rates.wall), "best": float(rates.wall.max()), "cpu": _median(rates.cpu)}


def ratio(numerator: Rates, denominator: Rates, factor: float = 1.0) -> dict[str, float]:
    """``factor · numerator / denominator`` round by round: its median and quartiles.

    ``best`` compares the best round of each, ``cpu`` the medians of processor time.
    """
    return {
        **_spread(factor * numerator.wall / denominator.wall),
        "best": float(factor * numerator.wall.max() / denominator.wall.max()),
        "cpu": factor * _median(numerator.cpu) / _median(denominator.cpu),
    }


def flatness(rates: Sequence[Rates]) -> dict[str, float]:
    """Fastest over slowest of several contestants: of their medians, best rounds and cpu times."""
    return {
        name: float(max(values) / min(values))
        for name, values in (
            ("median", [_median(rate.wall) for rate in rates]),
            ("best", [float(rate.wall.max()) for rate in rates]),
            ("cpu", [_median(rate.cpu) for rate in rates]),
        )
    }


def fastest(contestants: Mapping[str, Rates]) -> str:
    """Name of the contestant with the highest median rate."""
    return max(contestants, key=lambda name: _median(contestants[name].wall))


def _median(values: Float[np.ndarray, " rounds"]) -> float:
    return float(np.median(values))


def _spread(values: Float[np.ndarray, " rounds"]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(middle), "low": float(low), "high": float(high)}
