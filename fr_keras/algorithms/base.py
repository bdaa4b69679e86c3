"""What all algorithms share: a `keras.Model` made of modules on devices."""

import contextlib
import functools
import itertools
import re
import warnings

import keras
import tensorflow as tf

from fr_keras import labels, placement
from fr_keras.batch_spec import BatchSpec, standardize_batch
from fr_keras.device_function import DeviceFunction
from fr_keras.module import ErrorGradient, Module, call_quietly
from fr_keras.optimizers import ModuleOptimizers
from fr_keras.partition import best_cut, split
from fr_keras.summary import summary


class Algorithm(keras.Model):
    """A network cut into K modules on K devices, and a way to train it.

    A subclass says how the iterations of its method go (`make_functions` and
    `train_steps`); the rest is here: construction, `compile`, the training
    function that `fit` and `train_on_batch` call, evaluation and prediction
    with the modules as one plain network.

    Args:
        model: Sequential or Functional `keras.Model` to be cut (see
            `fr_keras.partition`), or a list of ready-made modules
            (`keras.Model`s), the output of one being the input of the next.
            A model that is cut stays as it is: what is trained is a copy on
            the modules' devices, which `to_keras` gives back. Ready-made
            modules are trained themselves, if they lie on their devices.
        num_modules: int, K, or `None` for one module per device.
        devices: list of device names, or `None` for the GPUs there are, else
            the logical CPU devices (see `fr_keras.placement.assign_devices`).

    Attributes:
        modules: tuple of K `keras.Model`s.
        devices: tuple of K full device names.
        num_modules: int, K.

    Raises:
        ValueError: if the model cannot be cut into that many modules, two
            modules share a layer, or a device does not exist.
    """

    # Iterations before all modules are updated; K - 1 for delayed methods.
    num_warmup_steps = 0

    # Whether modules keep their inputs and compute their features again.
    replays = False

    def __init__(self, model, num_modules=None, devices=None, **kwargs):
        if isinstance(model, (list, tuple)):
            submodels = _check_modules(model, num_modules)
            network = list(submodels)
        else:
            if num_modules is None:
                num_modules = placement.default_num_modules(devices)
            cut = best_cut(model, num_modules)
            network = placement.copy_model(model)
            submodels = split(network, cut)
        kwargs.setdefault("dtype", submodels[-1].dtype_policy)
        super().__init__(**kwargs)
        # Keras tracks, saves and lists what is trained as a whole, so that its
        # weights do not depend on where it is cut.
        self._network = network
        self._data_symbols = None
        self._given_devices = devices
        self._devices = placement.assign_devices(len(submodels), devices)
        self.modules_at_work = []
        for submodel, device in zip(submodels, self._devices):
            placement.move([submodel], device)
            self.modules_at_work.append(Module(submodel, device))
        self.built = self._layers_are_built()

    def _layers_are_built(self):
        return all(
            layer.built for layer in self._flatten_layers(include_self=False)
        )

    @property
    def modules(self):
        return tuple(module.submodel for module in self.modules_at_work)

    @property
    def devices(self):
        return self._devices

    @property
    def num_modules(self):
        return len(self.modules_at_work)

    def to_keras(self):
        """Returns the trained network as one plain Keras model.

        Returns:
            `keras.Model` with the structure of the model that was given and
            the weights of today; later training does not change it.

        Raises:
            ValueError: if ready-made modules were given and it is not known
                what they take, or Keras cannot copy them.
        """
        return placement.copy_model(self._whole())

    def _whole(self):
        """The network as one Functional model that shares all weights."""
        if not isinstance(self._network, list):
            return self._network
        first = self.modules[0]
        inputs = first.input if getattr(first, "inputs", None) else None
        if inputs is None and self._data_symbols is not None:
            inputs = keras.tree.map_structure(
                lambda x: keras.Input(
                    batch_shape=(None, *x.shape[1:]), dtype=x.dtype
                ),
                self._data_symbols,
            )
        if inputs is None:
            raise ValueError(
                "Modules become one Keras model if the first has a known "
                "input: a Functional model, a Sequential model with a "
                "keras.Input, or one that was trained. "
                f"Received: modules[0]={self.modules[0]!r}"
            )
        outputs = inputs
        for submodel in self.modules:
            outputs = submodel(outputs)
        return keras.Model(inputs, outputs, name=self.name)

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
    ):
        """Prints a table of the modules, as `fr_keras.summary` does.

        If asked for layers by one of the last three arguments, the layers
        follow, as Keras prints them.

        Args:
            line_length: int, characters in a line, or `None` for 100 in the
                table of the modules and what Keras chooses in that of layers.
            positions: as for `keras.Model.summary`, for the table of layers.
            print_fn: callable, called with each line, or `None` for `print`.
            expand_nested: bool, whether to print all layers, those of nested
                models too.
            show_trainable: bool, whether to print all layers and whether each
                is trainable.
            layer_range: list of two names of layers, or regular expressions,
                the first and the last layer to be printed.

        Raises:
            ValueError: if `layer_range` names no layers.
        """
        summary(self, None, print_fn or print, line_length or 100)
        if not (expand_nested or show_trainable or layer_range):
            return
        parts = self._network
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, keras.Model):
                part.summary(
                    line_length, positions, print_fn, expand_nested,
                    show_trainable, layer_range,
                )

    def export(self, filepath, *args, **kwargs):
        """Exports the network for serving, without `fr_keras`.

        Args:
            filepath: str, the directory of the SavedModel.
            *args: as for `keras.Model.export`.
            **kwargs: as for `keras.Model.export`.
        """
        return self._whole().export(filepath, *args, **kwargs)

    def get_config(self):
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self._network),
            "num_modules": self.num_modules,
            "devices": self._given_devices,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes a model that was saved, on the devices that are here."""
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        try:
            placement.assign_devices(config["num_modules"], config["devices"])
        except ValueError:
            warnings.warn(
                f"The model was trained on the devices {config['devices']}, "
                "which are not here; it goes to those that are.",
                stacklevel=2,
            )
            config["devices"] = None
        return cls(**config)

    # Training.

    def compile(self, *args, jit_compile="auto", **kwargs):
        """Configures the model for training.

        The arguments are those of `keras.Model.compile`, and mean the same,
        except:

        Args:
            optimizer: every module gets a copy of its own. A schedule is
                evaluated at the number of the iteration, the same for all
                modules; `clipnorm` and `global_clipnorm` act on each module
                by itself, so that no module waits for another.
            steps_per_execution: int, U. One call of the training function
                runs U iterations in one graph, in which the work of different
                modules overlaps (for the methods that allow it). The numbers
                are those of U single steps.
            jit_compile: `True` compiles every module by itself with XLA, for
                its own device. `"auto"`, the default, and `False` do not.

        Compiling again begins the training anew: fresh optimizers, and no
        features or error gradients left from before.
        """
        with tf.device(self._devices[-1]):  # For the metrics' variables.
            super().compile(*args, jit_compile=False, **kwargs)
        placement.move(self.metrics, self._devices[-1])
        self._xla_per_module = jit_compile is True
        if self.optimizer is not None:
            self.optimizer = ModuleOptimizers(
                self.optimizer, self.modules_at_work
            )
        for module in self.modules_at_work:
            module.choose_trainable_variables_anew()
        self._age = None

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = self._xla_per_module
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self._build_optimizer()

    def _build_optimizer(self):
        """Makes the optimizers' variables, where the layers have theirs."""
        if not self.optimizer.built and self._layers_are_built():
            self.optimizer.build(self.trainable_variables)

    def make_state(self):
        """Makes fresh state, like replay queues (hook).

        Called before the first training step after `compile`, when the
        modules are built.
        """

    def make_functions(self):
        """Makes the functions that `train_steps` calls (hook).

        Called after `make_state`, and again when batches of a new kind come.
        """

    def train_steps(self, batches, age):
        """Runs a few iterations; traced into one graph (hook).

        Args:
            batches: list of `(x, y, sample_weight)`, one for each iteration.
            age: int, the number of iterations that were run before, at most
                `num_warmup_steps`.
        """
        raise NotImplementedError

    def on_devices(self, function):
        """Makes a function of one module work on every module's device.

        Args:
            function: callable `function(module, *nests)`.

        Returns:
            List of `DeviceFunction`s `(*nests)`, one for each module.
        """
        return [
            self._on_device(module, functools.partial(function, module))
            for module in self.modules_at_work
        ]

    def _on_device(self, module, function):
        return DeviceFunction(
            function, module.device, self._xla_per_module, self.run_eagerly
        )

    def data_spec(self):
        """What the first module takes: `Features` of `tf.TensorSpec`."""
        x, _, _ = self._batch_spec.structure
        return tf.function(
            self.modules_at_work[0].standardize, autograph=False
        ).get_concrete_function(x).structured_outputs

    def delta_spec(self, k, features):
        """What the error gradient of a module's features looks like.

        Args:
            k: int, the number of the module, from 0.
            features: `Features` of `tf.TensorSpec`, its output.

        Returns:
            `ErrorGradient` of `tf.TensorSpec`.
        """
        scale = self.modules_at_work[-1].loss_scale
        return ErrorGradient(
            [
                spec if moves else None
                for spec, moves in zip(features.tensors, self._moves[k])
            ],
            None if scale is None else tf.TensorSpec.from_tensor(scale),
        )

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            # Now, so that callbacks can restore the state of optimizers.
            self._build_optimizer()
            self._batch_spec = None
            self.train_function = labels.told_plainly(self._train_on_iterator)

    def _train_on_iterator(self, iterator):
        """Runs up to `steps_per_execution` iterations; returns the logs."""
        batches = [
            standardize_batch(batch)
            for batch in itertools.islice(iterator, self.steps_per_execution)
        ]
        if not batches:
            raise StopIteration
        self._prepare_for(batches)
        age = min(int(self._age), self.num_warmup_steps)
        if self.run_eagerly:
            return self._train_on_batches(batches, age)
        tensors = [t for b in batches for t in self._batch_spec.flatten(b)]
        return self._trace(len(batches), age)(*tensors)

    def _prepare_for(self, batches):
        """Builds what depends on the kind of batches, when it is new."""
        spec = self._batch_spec or BatchSpec(batches[0])
        for batch in batches:
            spec = spec.union(batch)
        if spec is self._batch_spec:
            return
        self._batch_spec = spec
        self._trace = functools.cache(self._make_trace)
        symbols = batches[0] if self.run_eagerly else spec.symbols()
        self._build_modules(symbols[0])
        self._build_optimizer()
        if not self.trainable_variables:
            warnings.warn("The model has no trainable weights.", stacklevel=2)
        if not self.run_eagerly:
            fits = self._fits(symbols[1], self._output_symbols)
            with tf.device(self._devices[-1]), fits:
                self._symbolic_build(data_batch=symbols)
        if self._age is None:
            with tf.device("CPU:0"):
                self._age = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.make_state()
        # Gradients and update are two functions on purpose. In one, the update
        # of a weight can overtake the computation of e_k, which reads it:
        # TensorFlow's dependency optimizer takes the IdentityN through which
        # Keras passes all gradients for an ordering of the two and drops the
        # control edge between them, and then splits the IdentityN up.
        last = self.modules_at_work[-1]
        self._learn = self._on_device(last, self._learn_batch)
        # Apart, since nobody waits for it, and XLA cannot compile all metrics.
        self._count = DeviceFunction(
            self._count_batch, last.device, run_eagerly=self.run_eagerly
        )
        self._update = self.on_devices(Module.update)
        self.make_functions()

    def _build_modules(self, x):
        """Builds all modules for data like `x`, one after the other."""
        outputs, moves = x, [False] * len(keras.tree.flatten(x))
        self._moves = []
        owner = {}
        for k, module in enumerate(self.modules_at_work, start=1):
            inputs = outputs
            try:
                outputs, moves = module.build(
                    inputs, moves, is_last=(k == self.num_modules)
                )
            except Exception as error:
                below = f"the output of module {k - 1}" if k > 1 else "the data"
                raise ValueError(
                    f"Module {k}, '{module.submodel.name}', must take {below} "
                    f"({_plain(error)}). Received: {_shapes(inputs)}"
                ) from error
            if not module.submodel.weights:
                raise ValueError(
                    "Every module must have weights: one without has nothing "
                    "to learn and belongs to the module before or after it. "
                    f"Received: module {k}, '{module.submodel.name}'"
                )
            self._moves.append(moves)
            for variable in module.submodel.variables:
                if owner.setdefault(id(variable), k) != k:
                    raise ValueError(
                        "A layer must belong to one module only. Received: "
                        f"'{variable.path}' in modules "
                        f"{owner[id(variable)]} and {k}"
                    )
        self._data_symbols = x
        self._output_symbols = outputs

    @contextlib.contextmanager
    def _fits(self, y, y_pred):
        """Says plainly when loss or metrics do not fit what they are given."""
        try:
            yield
        except Exception as error:
            raise ValueError(
                "The loss and the metrics must fit the model's output and the "
                f"labels ({_plain(error)}). Received: loss={self.loss!r}, "
                f"output {_shapes(y_pred)} and labels {_shapes(y)}"
            ) from error

    def _make_trace(self, num_steps, age):
        """Traces `num_steps` iterations on tensors of any batch size."""

        def run(*tensors):
            tensors = iter(tensors)
            batches = [self._batch_spec.pack(tensors) for _ in range(num_steps)]
            return self._train_on_batches(batches, age)

        specs = self._batch_spec.tensor_specs() * num_steps
        return tf.function(run, autograph=False).get_concrete_function(*specs)

    def _train_on_batches(self, batches, age):
        for _, y, _ in batches:
            labels.check(self.loss, y, self._output_symbols)
        self.train_steps(batches, age)
        self._age.assign_add(len(batches))
        with tf.device(self._devices[-1]):
            return self.get_metrics_result()

    def learn(self, x, y, sample_weight, losses_below):
        """The last module's part of an iteration, the same in all methods.

        Forward pass, loss, backward pass and metrics.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            losses_below: list of scalar tensors, the losses of the layers of
                the other modules, which are reported but not differentiated.

        Returns:
            Tuple `(gradients, sent)`: g_K, a list of tensors, and e_K, the
            `ErrorGradient` of `x`.
        """
        gradients, sent, outputs, losses = self._learn(x, y, sample_weight)
        self._count(losses + losses_below, y, outputs, sample_weight)
        return gradients, self.modules_at_work[-1].sent(sent)

    def _learn_batch(self, x, y, sample_weight):
        """Forward and backward pass of the last module."""
        module = self.modules_at_work[-1]
        with tf.GradientTape() as tape:
            module.watch(tape, x)
            outputs, losses, moved = module.forward(x)
            loss = self.compute_loss(
                y=y, y_pred=module.packed(outputs), sample_weight=sample_weight
            )
        module.commit(moved)
        losses = [loss, *losses]
        gradients, sent = module.backward(tape, x, losses)
        return gradients, sent, outputs, losses

    def _count_batch(self, losses, y, outputs, sample_weight):
        """Counts a batch in the loss and the metrics."""
        y_pred = self.modules_at_work[-1].packed(outputs)
        self._report(losses, None, y, y_pred, sample_weight)

    def update(self, gradients, learning_rate):
        """Updates the modules, each on its device by its own optimizer.

        Args:
            gradients: list of K lists of tensors, g_k; `None` for a module
                that is not to be updated.
            learning_rate: γ_t, of `self.optimizer.next_learning_rate()`.
        """
        for k, of_module in enumerate(gradients):
            if of_module is not None:
                self._update[k](of_module, learning_rate)

    # Loss, evaluation, prediction.

    def build(self, input_shape=None):
        """Does nothing: the modules are built with the first batch."""
        del input_shape
        self.built = True

    def call(self, inputs, training=None):
        outputs = inputs
        for module in self.modules_at_work:
            with tf.device(module.device):
                outputs = call_quietly(
                    module.submodel, outputs, training=training
                )
        return outputs

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            super().make_test_function(force=True)
            self.test_function = labels.told_plainly(self.test_function)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The loss that was given to `compile`.

        Unlike that of other Keras models, it leaves out the losses of the
        layers (regularizers, `add_loss`): each belongs to its module.

        Args:
            x: not used.
            y: nest of tensors, the labels.
            y_pred: nest of tensors, the output of the last module.
            sample_weight: nest of tensors or `None`.
            training: not used.

        Returns:
            Scalar tensor.
        """
        del x, training
        loss = None
        if self._compile_loss is not None:
            loss = self._compile_loss(y, y_pred, sample_weight)
        if loss is None:
            raise ValueError(
                "No loss to compute. Provide a `loss` argument in `compile()`."
            )
        return loss

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        labels.check(self.loss, y, y_pred)
        with tf.device(self._devices[-1]), self._fits(y, y_pred):
            loss = self.compute_loss(
                y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
            )
            losses = [loss, *self.losses]
            return self._report(losses, x, y, y_pred, sample_weight)

    def _report(self, losses, x, y, y_pred, sample_weight):
        """Counts a batch in the metrics; returns the logs."""
        total = keras.ops.sum(losses) if len(losses) > 1 else losses[0]
        batch_size = tf.shape(tf.nest.flatten(y_pred)[0])[0]
        self._loss_tracker.update_state(total, sample_weight=batch_size)
        return self.compute_metrics(x, y, y_pred, sample_weight)


def _shapes(nest):
    """A nest of tensors, told by its shapes."""
    return keras.tree.map_structure(
        lambda x: None if x is None else tuple(x.shape), nest
    )


def _plain(error):
    """An error's text in one line, without colours."""
    return " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split())


def _check_modules(modules, num_modules):
    """Returns ready-made modules as a list of Keras layers."""
    for module in modules:
        if not isinstance(module, keras.layers.Layer):
            raise ValueError(
                "`model` must be a Keras model, or a non-empty list of Keras "
                "models or layers, the modules. Received: a list with "
                f"{module!r}"
            )
    if not modules:
        raise ValueError(
            "`model` must be a Keras model, or a non-empty list of Keras "
            f"models or layers, the modules. Received: model={modules!r}"
        )
    if num_modules not in (None, len(modules)):
        raise ValueError(
            f"`model` is a list of {len(modules)} modules, so `num_modules` "
            f"must be {len(modules)} or None. Received: {num_modules=}"
        )
    return list(modules)
