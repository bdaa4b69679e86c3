"""Synthetic gradients: decoupled neural interfaces (Jaderberg et al., 2017)."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from fr_keras.algorithms.base import Algorithm
from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.engine.features import ErrorGradient, Features
from fr_keras.engine.forward_backward import ForwardBackward
from fr_keras.engine.guard import all_finite
from fr_keras.engine.module import side_network
from fr_keras.engine.optimizers import apply_gradients
from fr_keras.engine.tied import is_weight
from fr_keras.models.synthesizer import synthesizer


class SyntheticGradientPipeline(BasePipeline):
    """One pipeline of DNI, with a synthesizer at each boundary."""

    replicates = True

    # Weights are not features of examples, so their error gradient cannot be
    # predicted.
    ties_weights = False

    delays = None  # Gradients are predicted, not delayed.

    def make_state(self):
        if any(
            is_weight(tensor) for module in self.modules[:-1]
            for tensor in getattr(module.submodel, "outputs", None) or ()
        ):
            raise ValueError(
                "DNI cannot predict error gradients of tied weights, so layers "
                "that share weights must be in one module. Pass a model that "
                "is not split yet, or use a smaller `num_modules`. "
                f"Received: num_modules={self.num_modules}"
            )
        model = self.model
        self._synthesizers = [
            Synthesizer(
                features, differentiable, module, model.synthesizer_optimizer,
                width=model.synthesizer_width, dtype=model.variable_dtype,
            )
            for features, differentiable, module in zip(
                self.chain.features[:-1],
                self.chain.differentiable,
                self.modules,
            )
        ]
        for copy, original in zip(
            self._synthesizers, model.pipeline.learners[self.num_modules:]
        ):
            copy.original = original

    @property
    def learners(self):
        return [*self.modules, *self._synthesizers]

    def rates_of(self, k, learning_rate):
        # Synthesizers have optimizers and learning rates of their own.
        return learning_rate if k < self.num_modules else []

    def state_variables(self):
        return [
            variable for synthesizer in self._synthesizers
            for variable in synthesizer.variables
        ]

    def make_functions(self):
        modules, synthesizers = self.modules[:-1], self._synthesizers
        passes = [
            ForwardBackward(module, self.model.run_eagerly)
            for module in modules
        ]
        self._forward = self.forward_functions(p.forward for p in passes)
        self._backward = self.backward_functions(p.backward for p in passes)
        self._predict = self.on_devices(
            synthesizer.predict for synthesizer in synthesizers
        )
        self._compare = self.on_devices(s.gradients for s in synthesizers)

    def train_steps(self, batches, rates, first_iteration):
        del rates, first_iteration
        for batch in batches:
            gradients, features, sent = self._iteration(batch)
            yield [*gradients, *(
                self._compare[k](features[k + 1], sent[k + 1], batch.share)
                if module.learns else None
                for k, module in enumerate(self.modules[:-1])
            )], None

    def _iteration(self, batch):
        """Runs an iteration up to the updates.

        Returns:
            Tuple `(gradients, features, sent)` of lists: g_k, h_{k-1} and e_k.
        """
        modules = self.modules
        features, losses = [modules[0].standardize(batch.x)], []
        gradients = [None] * self.num_modules
        sent = [None] * self.num_modules
        for k, module in enumerate(modules[:-1]):
            outputs, residuals, layer_losses, _ = self._forward[k](
                features[k], batch.share
            )
            features.append(outputs)
            losses.extend(layer_losses)
            if module.learns:
                gradients[k], sent[k] = self._backward[k](
                    residuals, self._predict[k](features[k + 1], batch.share)
                )
        gradients[-1], sent[-1], _ = self.learn(
            features[-1], batch, losses
        )
        return gradients, features, sent


class Synthesizer:
    """Predicts the error gradient of the features at one boundary.

    Args:
        features: list of tensors or `keras.KerasTensor`, h_k.
        differentiable: list of bool, whether each of them has an error
            gradient.
        module: `fr_keras.engine.module.Module`, which computes them.
        optimizer: `keras.optimizers.Optimizer`, to be copied.
        **options: arguments of `fr_keras.models.synthesizer`.

    Attributes:
        device: full device name, that of the module.
        original: `Synthesizer` of which this is a copy in another pipeline.
    """

    def __init__(
        self, features, differentiable, module, optimizer, **options
    ):
        self.device = module.device
        self.original = self
        self._module = module
        self._networks = {}
        for i, tensor in enumerate(features):
            if not differentiable[i]:
                continue
            shape = (None, *tensor.shape[1:])
            self._networks[i] = side_network(
                functools.partial(synthesizer, shape, **options),
                keras.KerasTensor(shape, options["dtype"]), self.device,
                lambda: optimizer.from_config(optimizer.get_config()),
            )

    @property
    def variables(self):
        """List of the variables of the networks and of their optimizers."""
        return [
            variable for network in self._networks.values()
            for variable in network.variables
        ]

    @property
    def trainable_variables(self):
        """List of the trained variables of all networks."""
        return [
            variable for network in self._networks.values()
            for variable in network.trainable_variables
        ]

    def equal_variables(self):
        """Returns pairs of variables of the original and of this copy.

        Averages are not among them: training only writes them.
        """
        return [
            pair for name, network in self._networks.items()
            for pair in zip(
                _learned(self.original.network(name)), _learned(network)
            )
        ]

    def network(self, i):
        """Returns the network for tensor i of the features, a `Module`."""
        return self._networks[i]

    def predict(self, features, share):
        """Predicts the error gradient.

        Args:
            features: `Features`, h_k.
            share: `fr_keras.batches.shards.Share` of its examples, or `None`.

        Returns:
            `ErrorGradient`, δ_k at the loss scale of the module.
        """
        scale = self._module.loss_scale
        tensors = [None] * len(features.tensors)
        for i, network in self._networks.items():
            outputs, _, _ = network.forward(_only(features, i))
            (prediction,) = outputs.tensors
            prediction /= _batch_size(prediction, share)
            if share is not None:
                # An empty shard has an example that does not count.
                prediction *= tf.cast(share.counts(), prediction.dtype)
            if scale is not None:
                prediction *= tf.cast(scale, prediction.dtype)
            tensors[i] = tf.cast(prediction, features.tensors[i].dtype)
        return ErrorGradient(tensors, scale)

    def gradients(self, features, target, share):
        """Computes the gradients of ‖S_k(h_k) - B e_{k+1}‖² / B.

        Args:
            features: `Features`, h_k.
            target: `ErrorGradient`, e_{k+1}.
            share: `fr_keras.batches.shards.Share` of its examples, or `None`.

        Returns:
            List of tensors, one for each of `trainable_variables`.
        """
        gradients = []
        for i, network in self._networks.items():
            x = _only(features, i)
            with tf.GradientTape() as tape:
                outputs, losses, state_updates = network.forward(x)
                (prediction,) = outputs.tensors
                batch_size = _batch_size(prediction, share)
                error = prediction - batch_size * _unscaled(
                    target, i, prediction.dtype
                )
                # Ignore errors where the module above has overflowed.
                error = tf.where(
                    tf.math.is_finite(error), error, tf.zeros_like(error)
                )
                error = tf.reduce_sum(tf.square(error)) / batch_size
                if share is not None:
                    error *= tf.cast(share.counts(), error.dtype)
                losses = [error, *losses]
            network.commit(state_updates)
            gradients += network.backward(tape, x, losses)[0]
        return gradients

    def update(self, gradients, learning_rate, is_due):
        """Takes one step with the optimizers of the networks.

        Args:
            gradients: list of tensors, as returned by `gradients`.
            learning_rate: not used: the optimizers have their own.
            is_due: not used: there is always a gradient.
        """
        del learning_rate, is_due
        gradients = iter(gradients)
        for network in self._networks.values():
            network_gradients = [
                gradient for _, gradient in
                zip(network.trainable_variables, gradients)
            ]
            # Features may not be finite; the module's own update is then
            # withheld (see `fr_keras.engine.guard`).
            is_finite = all_finite(network_gradients)
            apply_gradients(
                network.optimizer,
                [
                    tf.where(is_finite, gradient, tf.zeros_like(gradient))
                    for gradient in network_gradients
                ],
                network.trainable_variables,
            )


def _learned(network):
    """Returns the variables of a network that updates change."""
    return [*network.trainable_variables, *network.optimizer.variables]


def _only(features, i):
    """Selects one tensor of several features, without its mask."""
    return Features([features.tensors[i]], [None])


def _batch_size(tensor, share):
    """Returns the size of the mini-batch, B, of which a tensor is a shard."""
    size = tf.shape(tensor)[0] if share is None else share.total
    return tf.cast(size, tensor.dtype)


def _unscaled(delta, i, dtype):
    """Returns one tensor of an `ErrorGradient` without its loss scale."""
    tensor = tf.cast(delta.tensors[i], dtype)
    return tensor if delta.scale is None else tensor / tf.cast(
        delta.scale, dtype
    )


@keras.saving.register_keras_serializable("fr_keras")
class DNI(Algorithm):
    """Trains K modules with predicted error gradients.

    Decoupled neural interfaces. At each boundary a small network, the
    *synthesizer* S_k, predicts the error gradient δ_k of the features h_k from
    these features, so that module k can run its backward pass and update
    immediately. Iteration t, with mini-batch t:

    1. Forward: h_k = F_k(h_{k-1}), module after module.
    2. Predict: δ_k = S_k(h_k) / B, all k < K; δ_K is that of the loss.
    3. Backward in every module from δ_k, and update with its own optimizer.
    4. Train the synthesizers: S_k takes a step on
       ‖S_k(h_k) - B e_{k+1}‖² / B, where e_{k+1} is the gradient with respect
       to h_k computed by module k + 1 (for k + 1 < K, also from a prediction).

    B is the batch size: if losses are means, B δ is the gradient of each
    example's own loss, independent of its batch, so that its magnitude suits a
    network's output.

    Each synthesizer lives on the device of its module, and has one network
    (`fr_keras.models.synthesizer`) for each differentiable tensor at the
    boundary. Synthesizers are not part of the network and are not saved:
    loading, like compiling, creates new ones.

    Attributes and errors are those of `fr_keras.algorithms.base.Algorithm`.

    Args:
        model: Sequential or Functional `keras.Model` to split (a copy of it is
            trained, and `model` is not changed), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names. `None` uses the GPUs or, without a
            GPU, the logical CPU devices.
        synthesizer_width: int, channels or units of the synthesizers' hidden
            layers, or `None` for as many as the features have.
        synthesizer_optimizer: `keras.optimizers.Optimizer`, its name or its
            configuration; each synthesizer gets a copy. `None` for Adam at
            learning rate 1e-4.
        **kwargs: `costs`, by which `model` is split, `copy`, whether to train a
            copy, `replicas`, the number of pipelines, `split_points`, where to
            split, and `link_dtype` (see `fr_keras.algorithms.base.Algorithm`),
            and the arguments of `keras.Model`.

    Raises:
        ValueError: when training begins, if no synthesizer exists for the
            shape of some features.

    Example:

    ```python
    model = fr_keras.DNI(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2,
        synthesizer_optimizer=keras.optimizers.Adam(1e-4),
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train)
    ```

    Reference: [Decoupled Neural Interfaces using Synthetic Gradients](
    https://arxiv.org/abs/1608.05343).
    """

    pipeline_class = SyntheticGradientPipeline

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        synthesizer_width: int | None = None,
        synthesizer_optimizer: keras.optimizers.Optimizer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, num_modules, devices, **kwargs)
        self.synthesizer_width = synthesizer_width
        self.synthesizer_optimizer = (
            keras.optimizers.Adam(1e-4)
            if synthesizer_optimizer is None
            else keras.optimizers.get(synthesizer_optimizer)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "synthesizer_width": self.synthesizer_width,
            "synthesizer_optimizer": keras.optimizers.serialize(
                self.synthesizer_optimizer
            ),
        }
