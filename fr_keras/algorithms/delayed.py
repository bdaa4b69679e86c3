"""Base class of methods with delayed gradients."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from fr_keras.algorithms.base import Algorithm
from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.delays.delay_adjustment import adjust, clips
from fr_keras.delays.delay_policy import DelayPolicy
from fr_keras.delays.delayed_rates import DelayedRates
from fr_keras.delays.look_ahead import LookAhead
from fr_keras.engine import private
from fr_keras.engine.features import ErrorGradient
from fr_keras.engine.user_warnings import warn

# With more, only Muon reached back-propagation's accuracy in the study.
_MOST_MODULES = 8


class DelayedAlgorithm(Algorithm):
    """A method in which module k's gradient is K - k iterations late.

    To compensate, error gradients shrink on their way down, modules look
    ahead, and learning rates decrease with the delay.

    Args:
        model: as for `fr_keras.algorithms.base.Algorithm`.
        num_modules: the same.
        devices: the same.
        gradient_shrink: float, β, at most 1, by which error gradients are
            multiplied when they are sent down.
        weight_prediction: bool, whether modules look ahead.
        delay_policy: `fr_keras.DelayPolicy`, or `None` for its defaults.
        **kwargs: arguments of `fr_keras.algorithms.base.Algorithm`.

    Raises:
        ValueError: if an argument is invalid.
    """

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        gradient_shrink: float = 1.0, weight_prediction: bool = True,
        delay_policy: DelayPolicy | None = None, **kwargs: Any,
    ) -> None:
        if not 0 < gradient_shrink <= 1:
            raise ValueError(
                "`gradient_shrink` must be greater than 0 and at most 1. "
                f"Received: {gradient_shrink=}"
            )
        if weight_prediction not in (True, False):
            raise ValueError(
                "`weight_prediction` must be True or False. "
                f"Received: {weight_prediction=}"
            )
        if delay_policy is not None and not isinstance(
            delay_policy, DelayPolicy
        ):
            raise ValueError(
                "`delay_policy` must be a fr_keras.DelayPolicy. "
                f"Received: {delay_policy=}"
            )
        if delay_policy is not None and not weight_prediction:
            raise ValueError(
                "`delay_policy` configures weight prediction, so it requires "
                f"`weight_prediction=True`. Received: {weight_prediction=}"
            )
        super().__init__(model, num_modules, devices, **kwargs)
        self.gradient_shrink = gradient_shrink
        self.weight_prediction = bool(weight_prediction)
        self.delay_policy = delay_policy
        if self.num_modules > _MOST_MODULES:
            warn(
                f"With {self.num_modules} modules, gradients are up to "
                f"{self.num_modules - 1} iterations late. In the study in "
                f"docs/results.md, more than {_MOST_MODULES} modules without "
                "normalization layers did not reach the accuracy of "
                "back-propagation with SGD and Adam. Clip gradients and "
                "compare with fr_keras.Backprop; or use Muon, fewer modules, "
                "or an exact pipeline (fr_keras.GPipe). See docs/delays.md."
            )

    @functools.wraps(Algorithm.compile)
    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        # (The paper's algorithm is taken as it is.)
        if (
            self.policy is None or self.optimizer is None
            or clips(self.optimizer) or self._normalizes_batches()
        ):
            return
        warn(
            f"Gradients are up to {self.num_modules - 1} iterations late, and "
            "this network has no batch normalization. Clip gradients, or "
            "training may stay far behind back-propagation: pass "
            "`global_clipnorm=1.0` to the optimizer (--global_clipnorm=1). See "
            "docs/delays.md."
        )

    def _normalizes_batches(self):
        return any(
            isinstance(layer, keras.layers.BatchNormalization)
            for module in self.modules for layer in private.sublayers(module)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gradient_shrink": self.gradient_shrink,
            "weight_prediction": self.weight_prediction,
            "delay_policy": self.delay_policy
            and keras.saving.serialize_keras_object(self.delay_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Models saved before weight prediction existed do not use it.
        config = {"weight_prediction": False, **config}
        if config.get("delay_policy") is not None:
            config["delay_policy"] = keras.saving.deserialize_keras_object(
                config["delay_policy"], custom_objects=custom_objects
            )
        return super().from_config(config, custom_objects)

    @property
    def policy(self):
        """The `DelayPolicy`, or `None` without delays or prediction."""
        if self.num_modules == 1 or not self.weight_prediction:
            return None
        return self.delay_policy or DelayPolicy()


class DelayedPipeline(BasePipeline):
    """A pipeline in which module k's gradient is K - k iterations late."""

    @property
    def num_warmup_steps(self):
        return self.num_modules - 1

    @property
    def delays(self):
        return list(reversed(range(self.num_modules)))

    def has_gradient(self, k, first_iteration, i):
        if i >= self.delays[k]:
            return True
        return first_iteration + i >= self.delays[k]

    def make_state(self):
        policy = self.model.policy
        for module, delay in zip(self.modules, self.delays):
            module.look_ahead = policy and LookAhead(module, policy, delay)
        self._rates = policy and DelayedRates(
            policy, self.delays, self.model.optimizer
        )

    def state_variables(self):
        owners = [
            self._rates, *(module.look_ahead for module in self.modules)
        ]
        return [
            variable for owner in owners if owner is not None
            for variable in owner.variables
        ]

    def next_rates(self):
        if self._rates is not None:
            self._rates.note()
        return self.rates_ahead()

    def rates_ahead(self):
        """The learning rates with which modules look ahead, if they do.

        Returns:
            Tuple of two lists with one list for each module: the rates for
            plays and those for replays.
        """
        if self._rates is None:
            return [[[]] * self.num_modules] * 2
        return self._rates.ahead()

    def rates_of(self, k, learning_rate):
        if self._rates is None:
            return learning_rate
        return self._rates.of_module(k, learning_rate)

    def adjust_optimizer(self, k, optimizer, given):
        if self.model.policy is not None:
            adjust(optimizer, given, self.model.policy, self.delays[k])

    def sent_down(self, sent):
        """Multiplies error gradients by β: δ_k for all but the last module."""
        if self.model.gradient_shrink == 1:
            return sent[1:]
        deltas = []
        for device, delta in zip(self.devices[1:], sent[1:]):
            if delta is not None:
                with tf.device(device):
                    delta = delta._replace(tensors=[
                        None if tensor is None
                        else tensor * self.model.gradient_shrink
                        for tensor in delta.tensors
                    ])
            deltas.append(delta)
        return deltas

    def first_features(self, x):
        """Converts data to the first module's input, `Features` (hook)."""
        return self.modules[0].standardize(x)

    def trace_features(self, functions, others=()):
        """Traces the forward functions of all modules but the last.

        Args:
            functions: list of `ForwardFunction`s, one for each module, which
                return h_k, the values that the module keeps, and more.
            others: list of lists of the arguments of each besides h_{k-1}, if
                any.

        Returns:
            List of tuples `(features, kept, graph)`, one for each module but
            the last: nests of `tf.TensorSpec`, the module's whole output and
            the values it keeps, and the `tf.Graph`.
        """
        x, _, _ = self.batch_spec.structure
        features = tf.function(
            self.first_features, autograph=False
        ).get_concrete_function(x).structured_outputs
        traced = []
        for function, more in itertools.zip_longest(
            functions[:-1], others, fillvalue=()
        ):
            (features, kept, *_), graph = function.trace(features, *more)
            traced.append((features, kept, graph))
        return traced

    def delta_spec(self, k, features):
        """Returns the spec of the error gradient of a module's features.

        Args:
            k: int, the number of the module, from 0.
            features: `Features` of `tf.TensorSpec`, its output.

        Returns:
            `ErrorGradient` of `tf.TensorSpec`.
        """
        scale = self.modules[-1].loss_scale
        return ErrorGradient(
            [
                spec if differentiable else None
                for spec, differentiable in zip(
                    features.tensors, self.chain.differentiable[k]
                )
            ],
            None if scale is None else tf.TensorSpec.from_tensor(scale),
        )
