"""One training of a study by the library itself, observing each module.

Records σ, downhill steps, and how near each module is to the largest step that
is stable at its delay.
"""

import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf

import fr_keras
from fr_keras.callbacks.diagnostics import DownhillSteps, SufficientDirection
from fr_keras.delays.look_ahead import momentum_of
from fr_keras.engine import private
from trainers.command import workdir
from trainers.experiment.learning_rate import WarmUp
from trainers.studies.methods import METHODS, OPTIMIZERS, is_exact
from trainers.studies.part import Part
from trainers.studies.stability import largest_step
from trainers.studies.tasks import TASKS

# Observed methods.
METHODS_SEEN = ("backprop", "paper", "default")
# Those whose state gives the last step, and the step for a gradient of 1.
OPTIMIZERS_SEEN = ("sgd", "adam")
# Observations per training.
NUM_LOOKS = 10
_SEED = 0
_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class CloseUp(Part):
    """An observed training.

    Its optimizer is one of `OPTIMIZERS_SEEN`, its method one of `METHODS_SEEN`.
    Back-propagation has the K of the others, though it computes the same for
    any K.
    """

    prefix = "close_up_"

    def run(self, folder, learning_rate, settings, data):
        """Trains, and writes the results.

        The results are "iterations", after which the modules were observed, and
        lists with one list per module: "sigma" and "downhill", for late
        modules only, and "step", γλ / (1 - μ). "bound" lists the largest
        stable step of each module.

        Args:
            folder: str.
            learning_rate: float, γ.
            settings: `cases.Settings`.
            data: `tasks.Data`.
        """
        task, method = TASKS[self.task], METHODS[self.method]
        keras.utils.set_random_seed(_SEED)
        if is_exact(self.method):
            model = fr_keras.Backprop(task.make(), self.num_modules)
            looks = []
        else:
            model = fr_keras.FeaturesReplay(
                task.make(), self.num_modules, delay_policy=method.policy,
                weight_prediction=method.policy is not None,
            )
            looks = [
                of_kind(every=1, window=10)
                for of_kind in (SufficientDirection, DownhillSteps)
            ]
        model.compile(
            OPTIMIZERS[self.optimizer](
                learning_rate=_schedule(learning_rate, settings)
            ),
            _LOSS,
        )
        random = np.random.default_rng([2, _SEED])
        drawn = [
            data.draw(random, task.batch_size)
            for _ in range(settings.num_steps)
        ]
        sample = data.draw(np.random.default_rng(3), 256)
        steps = settings.num_steps // NUM_LOOKS
        history = model.fit(
            tf.data.Dataset.from_tensor_slices(
                tuple(map(np.stack, zip(*drawn)))
            ),
            epochs=NUM_LOOKS, steps_per_epoch=steps, verbose=0,
            callbacks=[*looks, Steps(sample)],
        ).history
        late = range(1, self.num_modules if looks else 1)
        results = {
            **dataclasses.asdict(self), "learning_rate": learning_rate,
            "iterations": [steps * (i + 1) for i in range(NUM_LOOKS)],
            "bound": bounds(model, method.policy),
            "step": [
                _numbers(history[f"step/module_{k}"])
                for k in range(1, self.num_modules + 1)
            ],
            **{
                name: [_numbers(history[f"{name}/module_{k}"]) for k in late]
                for name in ("sigma", "downhill")
            },
        }
        with workdir.whole_file(self.path(folder)) as part:
            with open(part, "w") as file:
                json.dump(results, file)


def _schedule(learning_rate, settings):
    warmup = max(1, round(settings.warmup_share * settings.num_steps))
    return WarmUp(
        keras.optimizers.schedules.CosineDecay(
            learning_rate, settings.num_steps
        ),
        warmup,
    )


def _numbers(values):
    return [
        float(value) if np.isfinite(value) else None for value in values
    ]


def bounds(model, policy):
    """The largest stable step of each module.

    Args:
        model: algorithm, compiled.
        policy: `fr_keras.DelayPolicy`, or `None`.

    Returns:
        List of floats.
    """
    found = []
    momentum = momentum_of(model.optimizer.shared)
    for delay in model.delays:
        ahead = 0.0
        if policy is not None:
            # Late modules look ahead to when their gradient is applied, the
            # last module to where momentum would carry it.
            look = policy.play if delay else policy.replay
            ahead = look(delay, momentum)
        found.append(largest_step(delay, momentum, ahead))
    return found


class Steps(keras.callbacks.Callback):
    """Logs each module's γλ / (1 - μ) at the ends of epochs.

    λ is the largest eigenvalue of the Hessian of the loss with respect to the
    module's weights, which for Adam are measured in units of its own step,
    √v̂ + ε. The rest of the network is held fixed.

    Args:
        sample: tuple of arrays, examples and class numbers.
        num_products: int, Hessian-vector products per epoch and module.
        loss: `keras.losses.Loss`.
    """

    def __init__(self, sample, num_products=10, loss=_LOSS):
        super().__init__()
        self._loss = loss
        self._sample = tuple(map(tf.constant, sample))
        self._num_products = num_products
        self._vectors = {}

    def on_train_begin(self, logs=None):
        self._products = [
            tf.function(
                lambda v, k=k: self._product(k, v), autograph=False
            )
            for k in range(self.model.num_modules)
        ]

    def on_epoch_end(self, epoch, logs=None):
        for k, module in enumerate(self.model.modules):
            optimizer = self.model.optimizer.per_module[k]
            scales = _scales(optimizer, module.trainable_variables)
            logs[f"step/module_{k + 1}"] = (
                self._curvature(k, scales) * float(optimizer.learning_rate)
                / _momentum_left(optimizer)
            )

    def _curvature(self, k, scales):
        """The largest eigenvalue of S H S, with a diagonal S."""
        vectors = self._vectors.get(k) or [
            tf.random.stateless_normal(s.shape, (k, i))
            for i, s in enumerate(scales)
        ]
        for _ in range(self._num_products):
            vectors = [v / tf.linalg.global_norm(vectors) for v in vectors]
            products = self._products[k](
                [s * v for s, v in zip(scales, vectors)]
            )
            products = [s * p for s, p in zip(scales, products)]
            found = float(tf.add_n([
                tf.reduce_sum(v * p) for v, p in zip(vectors, products)
            ]))
            vectors = products
        self._vectors[k] = vectors
        return found

    def _product(self, k, vectors):
        """The Hessian of module k times vectors."""
        weights = self.model.modules[k].trainable_variables
        weights = [weight.value for weight in weights]
        x, y = self._sample
        with tf.GradientTape() as outer:
            outer.watch(weights)
            with tf.GradientTape() as inner:
                inner.watch(weights)
                for module in self.model.modules:
                    x = module(x, training=True)
                loss = self._loss(y, x)
            gradients = inner.gradient(loss, weights)
            along = tf.add_n([
                tf.reduce_sum(g * v) for g, v in zip(gradients, vectors)
            ])
        return outer.gradient(along, weights, unconnected_gradients="zero")


def _scales(optimizer, variables):
    """Square roots of the steps of an optimizer for a gradient of 1."""
    if not isinstance(optimizer, keras.optimizers.Adam):
        return [tf.ones_like(v.value) for v in variables]
    corrected = 1 - optimizer.beta_2 ** float(optimizer.iterations)
    return [
        (tf.sqrt(v.value / corrected) + optimizer.epsilon) ** -0.5
        for v in private.adam_slots(optimizer)[1]
    ]


def _momentum_left(optimizer):
    """1 - μ, or 1 for Adam, which averages gradients and does not sum them."""
    if isinstance(optimizer, keras.optimizers.Adam):
        return 1.0
    return 1.0 - momentum_of(optimizer)
