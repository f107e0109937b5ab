"""Which images a training step sees: an endless shuffled order that is a pure function of seed and step.

Nothing is drawn from a running generator, so a resumed run needs no sampler state beyond the number of the step, and
the order does not depend on workers or on the length of an earlier run.
"""

from __future__ import annotations

import numpy as np


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


class EndlessSampler:
    """Shuffles `size` items anew each epoch and serves batches that run across epoch boundaries.

    Args:
        size: number of items, at least 1.
        batch: items a step.
        seed: the run's seed.
        stream: name of the item set; two sets of one run are shuffled independently.
    """

    def __init__(self, size: int, batch: int, seed: int, stream: str) -> None:
        self.size, self.batch, self.seed, self.stream = size, batch, seed, stream
        self._epoch = -1
        self._order: list[int] = []

    def indices(self, step: int) -> list[int]:
        """Return the items of one step (counted from 0)."""
        first = step * self.batch
        return [self._item(position) for position in range(first, first + self.batch)]

    def _item(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        if epoch != self._epoch:
            self._order = generator(self.seed, "order", self.stream, epoch).permutation(self.size).tolist()
            self._epoch = epoch
        return self._order[place]
