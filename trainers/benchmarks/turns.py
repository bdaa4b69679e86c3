"""Interleaved runs, so that disturbances affect all of them."""

import statistics
import typing


class Samples(typing.NamedTuple):
    """Measurements of one contestant, one number per round."""

    values: list

    @property
    def median(self):
        return statistics.median(self.values)

    def ratio(self, other):
        """How many times as long `other` takes, round by round.

        Args:
            other: `Samples` of the same rounds.

        Returns:
            `Samples`.
        """
        return Samples([b / a for a, b in zip(self.values, other.values)])

    def text(self, digits=2):
        """Median and spread, such as `1.71 (1.69-1.75)`."""
        low, high = min(self.values), max(self.values)
        return (
            f"{self.median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
        )


def take(contestants, rounds, show=lambda text: None):
    """Runs all contestants once per round.

    Args:
        contestants: dict from names to callables without arguments that
            return a number, like seconds, or a list of numbers.
        rounds: int.
        show: callable that receives a line of progress.

    Returns:
        Dict from names to `Samples`, or to lists of `Samples` for lists.
    """
    results = {name: [] for name in contestants}
    for i in range(rounds):
        for name, run in contestants.items():
            show(f"round {i + 1} of {rounds}: {name}")
            results[name].append(run())
    return {
        name: [Samples(list(values)) for values in zip(*of_one)]
        if isinstance(of_one[0], list) else Samples(of_one)
        for name, of_one in results.items()
    }
