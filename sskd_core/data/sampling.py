"""Which images a training step sees: an endless shuffled order that is a pure function of seed and step.

Nothing is drawn from a running generator, so a resumed run needs no sampler state beyond the number of the step, and
the order does not depend on workers or on the length of an earlier run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return a generator for one named purpose; different streams of one seed are independent.

    Args:
        seed: the run's seed.
        stream: names and counters, for instance `"augment", "labeled", 17`.
    """
    words = [seed]
    for part in stream:
        words += [part] if isinstance(part, int) else [len(part), *part.encode()]
    return np.random.default_rng(words)


def repeat_factors(categories: Iterable[Iterable[int]], threshold: float) -> list[float]:
    """Return how often to draw each image so that rare classes are seen more often (Gupta et al. 2019, LVIS).

    r_i = max over the classes c on image i of max(1, sqrt(threshold / f_c)), f_c the share of the images with c.

    Args:
        categories: of each image's objects; an image without any has factor 1.
        threshold: above it a class is not rare; from 1 on every class is, and only their ratios matter.
    """
    present = [set(item) for item in categories]
    counts = Counter(category for item in present for category in item)
    factors = {name: max(1.0, math.sqrt(threshold * len(present) / count)) for name, count in counts.items()}
    return [max((factors[category] for category in item), default=1.0) for item in present]


class EndlessSampler:
    """Shuffles `size` items anew each epoch and serves batches that run across epoch boundaries.

    Args:
        size: number of items, at least 1.
        batch: items a step.
        seed: the run's seed.
        stream: name of the item set; two sets of one run are shuffled independently.
        frequencies: how often each item occurs, relative to the others; an epoch then has `size` draws in all. None
            for every item once.
    """

    def __init__(
        self, size: int, batch: int, seed: int, stream: str, frequencies: Sequence[float] | None = None
    ) -> None:
        self.size, self.batch, self.seed, self.stream = size, batch, seed, stream
        self._ends = None if frequencies is None else np.cumsum(frequencies) * (size / np.sum(frequencies))
        self._epoch = -1
        self._order: list[int] = []

    def indices(self, step: int) -> list[int]:
        """Return the items of one step (counted from 0)."""
        first = step * self.batch
        return [self._item(position) for position in range(first, first + self.batch)]

    def _item(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        if epoch != self._epoch:
            rng = generator(self.seed, "order", self.stream, epoch)
            self._order = rng.permutation(self.size if self._ends is None else self._draws(rng)).tolist()
            self._epoch = epoch
        return self._order[place]

    def _draws(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw an epoch: each item as often as its frequency says, rounded up or down at random (systematic sampling).

        Evenly spaced marks on a line of intervals, one an item, whose lengths are the frequencies.
        """
        assert self._ends is not None
        marks = np.arange(self.size) + rng.random()
        return np.searchsorted(self._ends, marks, side="right").clip(max=self.size - 1)
