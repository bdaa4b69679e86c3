"""Cases of a study: a task, an optimizer, a method and K."""

import dataclasses
import json
import math

import keras
import numpy as np

from trainers.command import workdir
from trainers.studies.laboratory import Laboratory
from trainers.studies.methods import METHODS, OPTIMIZERS
from trainers.studies.part import Part
from trainers.studies.tasks import TASKS

_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Learning rates tried first, as multiples of the task's own, and then around
# the best of these.
_COARSE = (1 / 64, 1 / 16, 1 / 4, 1, 4, 16)
_FINE = (1 / 2, 1, 2)
# Losses are stored as means over this many iterations.
WINDOW = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that all cases of a study share.

    Attributes:
        num_steps: int, iterations of a training.
        warmup_share: float, share of the iterations in which the learning rate
            rises; then it falls to 0 along a half cosine.
        data_dir: str, directory of prepared datasets, or `None`.
    """

    num_steps: int
    warmup_share: float
    data_dir: str | None = None


# A laboratory trains six runs at once, in all three rounds.
NUM_RUNS = len(_COARSE)


class Case(Part):
    """One way to train one network; back-propagation has K = 1."""

    def run(self, folder, settings, data):
        """Tunes the learning rate, trains with it, and writes the results.

        The learning rate is the one with the lowest validation loss: first of
        six, a factor of 4 apart, with one seed, then of three around the best
        of them, a factor of 2 apart, with two seeds. Networks trained with six
        other seeds are tested.

        The results are "learning_rate"; "tuning", pairs of learning rates and
        validation losses; and for each seed, in the order of "seeds",
        "test_loss", "test_accuracy" and "losses", means of `WINDOW`
        iterations. A number is `None` if a training diverged.

        Args:
            folder: str.
            settings: `Settings`.
            data: `tasks.Data`.
        """
        training = _Training(self, settings, data)
        base = TASKS[self.task].learning_rates[self.optimizer]
        coarse = [base * factor for factor in _COARSE]
        losses, _, _ = training.run(coarse, [100] * NUM_RUNS)
        tuning = [*zip(coarse, losses)]
        centre = coarse[int(np.argmin(losses))]
        fine = [centre * factor for factor in _FINE]
        losses, _, _ = training.run(
            fine * 2, [101] * len(fine) + [102] * len(fine)
        )
        losses = np.mean(np.reshape(losses, (2, -1)), axis=0)
        tuning += [*zip(fine, losses)]
        best = fine[int(np.argmin(losses))]
        seeds = list(range(NUM_RUNS))
        loss, accuracy, curves = training.run(
            [best] * NUM_RUNS, seeds, on=data.test
        )
        results = {
            **dataclasses.asdict(self), "num_steps": settings.num_steps,
            "learning_rate": best, "tuning": tuning, "seeds": seeds,
            "test_loss": loss, "test_accuracy": accuracy, "losses": curves,
        }
        with workdir.whole_file(self.path(folder)) as part:
            with open(part, "w") as file:
                json.dump(_plain(results), file)


class _Training:
    """Trains the network of a case repeatedly, compiled once."""

    def __init__(self, case, settings, data):
        self._task = TASKS[case.task]
        self._method = METHODS[case.method]
        self._case = case
        self._settings = settings
        self._data = data
        self._laboratory = None

    def run(self, learning_rates, seeds, on=None):
        """Trains all runs, and evaluates them.

        Args:
            learning_rates: list of floats.
            seeds: list of ints, of the initial weights and mini-batches.
            on: tuple of arrays to evaluate on; `None` for the validation set.

        Returns:
            Tuple of lists: losses, accuracies, and training losses of each
            run. Non-finite numbers become infinite.
        """
        if self._laboratory is None:
            self._laboratory = Laboratory(
                self._task.make, self._case.num_modules,
                OPTIMIZERS[self._case.optimizer](**self._method.optimizer),
                _LOSS, learning_rates, seeds, self._schedule,
                self._method.policy, self._method.gradient_shrink,
                self._method.accumulation,
            )
        else:
            self._laboratory.restart(learning_rates, seeds)
        drawing = {seed: np.random.default_rng([2, seed]) for seed in seeds}
        losses = []
        steps = self._settings.num_steps
        for t in range(steps):
            drawn = {
                seed: self._data.draw(random, self._task.batch_size)
                for seed, random in drawing.items()
            }
            losses.append(self._laboratory.train(
                *(np.stack(parts) for parts in
                  zip(*(drawn[seed] for seed in seeds))),
                exact=t >= steps * (1 - self._method.exact_share),
            ))
        curves = np.reshape(losses, (-1, WINDOW, len(seeds))).mean(1).T
        of_all = *self._laboratory.evaluate(*(on or self._data.validation)),
        return [
            np.where(np.isfinite(found), found, np.inf).tolist()
            for found in (*of_all, curves)
        ]

    def _schedule(self, t):
        steps = self._settings.num_steps
        share = 0.5 * (1 + math.cos(math.pi * min(t / steps, 1)))
        if not self._method.warms_up:
            return share
        warmup = max(1, round(self._settings.warmup_share * steps))
        return min(1, (t + 1) / warmup) * share


def _plain(value):
    """Converts to JSON types; non-finite numbers become `None`."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
