"""Iterations of several pipelines, side by side."""

import itertools

import tensorflow as tf

from fr_keras.algorithms.updates import Updates
from fr_keras.batches import shards
from fr_keras.engine import placement
from fr_keras.replicas.synchronization import Synchronization


class Lockstep:
    """Runs the iterations of a model's pipelines, updates included.

    Every pipeline gets a shard of each batch. Python goes through their
    iterations in turn, but only the copies of a module wait for each other.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`, whose pipelines have their
            functions.

    Attributes:
        update: `fr_keras.algorithms.updates.Updates`.
        synchronization:
            `fr_keras.replicas.synchronization.Synchronization`.
    """

    def __init__(self, model):
        self._model = model
        self._pipelines = model.pipelines
        self.update = Updates(self._pipelines)
        self.synchronization = Synchronization(self._pipelines)

    def run(self, batches, first_iteration):
        """Runs iterations, traced into one graph.

        Args:
            batches: list of tuples `(x, y, sample_weight)`.
            first_iteration: as for `BasePipeline.train_steps`.

        Returns:
            List with the `PlayRecord` of each iteration, that of the first
            pipeline.
        """
        rates, module_rates = [], []
        # Single numbers, which an accelerator would only be kept waiting for.
        with tf.device(placement.this_host()), tf.name_scope("learning_rates"):
            for _ in batches:
                ahead = [pipeline.next_rates() for pipeline in self._pipelines]
                learning_rate = self._model.optimizer.next_learning_rate()
                rates.append([(learning_rate, of_one) for of_one in ahead])
                module_rates.append(self.update.learning_rates(learning_rate))
        device = placement.host(self._model.devices[0])
        split = [
            shards.split(batch, len(self._pipelines), device)
            for batch in batches
        ]
        steps = [
            pipeline.train_steps(list(mine), list(my_rates), first_iteration)
            for pipeline, mine, my_rates in zip(
                self._pipelines, zip(*split), zip(*rates)
            )
        ]
        plays = []
        # (Unlike `zip`, this also runs what pipelines do after the last step.)
        for i, results in enumerate(itertools.zip_longest(*steps)):
            gradients, play_records = zip(*results)
            if len(self._pipelines) > 1:
                learning = [pipeline.learn for pipeline in self._pipelines]
                learning[0].count_shards(
                    [learn.shard for learn in learning], *batches[i][1:]
                )
            with tf.device(placement.this_host()), tf.name_scope("due/"):
                due = self.update.due(first_iteration, i)
            self.update(gradients, module_rates[i], due)
            plays.append(play_records[0])
        self.synchronization.average()
        return plays

    def drain(self, first_iteration):
        """Lets delayed modules learn from the batches in their queues.

        Args:
            first_iteration: int, the number of iterations so far.
        """
        learning_rates = self.update.learning_rates(
            self._model.optimizer.learning_rates()
        )
        for gradients in itertools.zip_longest(*(
            pipeline.drain_steps(first_iteration)
            for pipeline in self._pipelines
        )):
            self.update(gradients, learning_rates, itertools.repeat(True))
