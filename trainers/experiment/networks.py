"""The network that --model names: built, loaded or imported."""

import importlib
import inspect
import os
import re
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import fr_keras
from fr_keras.engine.nested import is_graph
from trainers.command.errors import UsageError
from trainers.data.text_data import TextData
from trainers.experiment import (  # noqa: F401, both define flags.
    data_flags,
    network_flags,
)

FLAGS = flags.FLAGS

# Flags that only some of our own networks read.
_OWN_FLAGS = {"resnet": ("depth", "dropout"), "transformer": ("depth",)}


def build(given):
    """Returns the network that the flags describe.

    Args:
        given: dict of what the data say, as far as they say it: `input_shape`,
            a tuple, the shape of an example; `label_shape`, likewise;
            `num_classes`, an int; and, of sequences of tokens,
            `vocabulary_size` and `padding`, ints.

    Returns:
        `keras.Model`, a graph of layers.

    Raises:
        UsageError: if there is no such network, or it is no graph.
    """
    name = FLAGS.model
    for flag in ("depth", "dropout"):
        if FLAGS[flag].value != FLAGS[flag].default and (
            flag not in _OWN_FLAGS.get(name, ())
        ):
            raise UsageError(
                f"--{flag} does not apply to --model={name}; use --model_args. "
                f"Received: {FLAGS[flag].value}"
            )
    arguments = network_flags.arguments(FLAGS.model_args)
    # What users wrote may fail in any way.
    try:
        network = _make(name, dict(given), arguments)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"--model={name} cannot be made: {type(error).__name__}: {error}. "
            f"Received: --model_args={FLAGS.model_args or '{}'}"
        ) from error
    if not is_graph(network):
        raise UsageError(
            f"--model={name} must be a Functional model, or a Sequential model "
            "that starts with keras.Input; a subclassed model whose `call` is "
            "pure becomes one by keras.Model(inputs, model.call(inputs)). "
            f"Received: {network!r}"
        )
    return network


def _make(name, given, arguments):
    if name == "resnet":
        options = {
            "depth": FLAGS.depth, "dropout": FLAGS.dropout, "num_classes": 10,
        }
        given = _taken(fr_keras.models.resnet, given)
        return fr_keras.models.resnet(**{**options, **given, **arguments})
    if name == "transformer":
        options = {
            "depth": FLAGS.depth, "width": 512, "num_heads": 8,
            "vocabulary_size": given.get("vocabulary_size", 32_000),
            "length": (given.get("input_shape") or (512,))[0],
        }
        if given.get("label_shape") == ():  # One label for a sequence.
            options["num_classes"] = given["num_classes"]
            options["padding"] = given.get("padding", 0)
        return fr_keras.models.transformer(**{**options, **arguments})
    if name.endswith(".keras"):
        return _load(os.path.expanduser(name), arguments)
    library, _, member = name.partition(".")
    if library == "applications":
        return _application(member, given, arguments)
    if library == "keras_hub":
        return _hub_model(member, given, arguments)
    return _call(imported("model", name), given, arguments)


def check(name, network, data):
    """Checks that a network fits a dataset.

    Args:
        name: str, where the network is from, for messages.
        network: `keras.Model`.
        data: `trainers.data.data.Data`.

    Raises:
        UsageError: if it does not take the examples, does not return one
            number for each class, or returns probabilities for logits.
    """
    examples = keras.tree.map_structure(
        lambda spec: keras.KerasTensor((None, *spec.shape), spec.dtype),
        data.input_spec,
    )
    misfit = UsageError(
        f"{name} must take the examples of --dataset={FLAGS.dataset}, "
        f"{data.input_spec}. Received: {network.input_shape}"
    )
    taken, given = map(keras.tree.flatten, (inputs(network), examples))
    if len(taken) != len(given) or not all(map(_fits, given, taken)):
        raise misfit
    try:
        outputs = network.compute_output_spec(examples)
    except Exception as error:
        raise misfit from error
    labels = data.train.element_spec[1]
    expected = (None, *labels.shape, data.num_classes)
    received = keras.tree.map_structure(lambda o: tuple(o.shape), outputs)
    if received != expected:
        raise UsageError(
            f"{name} must return logits of shape {expected} for the "
            f"{data.num_classes} classes of --dataset={FLAGS.dataset}. "
            f"Received: {received}"
        )
    if data.num_classes > 1 and _returns_probabilities(network, data):
        raise UsageError(
            f"{name} must return logits, without a softmax. Received: outputs "
            "that are positive and sum to 1"
        )
    if isinstance(data, TextData) and data.is_language and not (
        _is_causal(network, data)
    ):
        raise UsageError(
            f"{name} must be causal to predict the next token: its output at a "
            "position must not depend on later tokens. Received: one that does"
        )


def _fits(given, taken):
    """Whether an input takes a tensor; Keras converts types, layers ranks."""
    if "int" in taken.dtype and "int" not in given.dtype:
        return False
    return len(given.shape) == len(taken.shape) and all(
        b is None or a == b for a, b in zip(given.shape[1:], taken.shape[1:])
    )


def _returns_probabilities(network, data):
    """Whether outputs of examples look like those of a softmax."""
    with tf.device(data.device):
        two = data.test.take(2).batch(2).map(data.prepare)
    examples, *_ = next(iter(two))
    outputs = keras.ops.cast(network(examples, training=False), "float32")
    sums = keras.ops.sum(outputs, -1)
    return bool(keras.ops.all(outputs >= 0)) and bool(
        keras.ops.all(keras.ops.abs(sums - 1) < 0.01)
    )


def _is_causal(network, data):
    """Whether outputs do not change when later tokens do."""
    some = np.random.default_rng(0).integers(
        1, data.vocabulary_size, (1, data.length)
    )

    def outputs(tokens):
        inputs = data.inputs(tf.constant(tokens, tf.int32))
        found = network(inputs, training=False)
        return keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))

    expected = outputs(some)
    # Equal but for rounding, whatever the scale of a network's first outputs.
    tolerance = 1e-5 * np.abs(expected).max()
    # The first, since groups of tokens may be seen together.
    for begin in {1, data.length // 2, data.length - 1} - {0}:
        others = some.copy()
        others[:, begin:] = data.vocabulary_size - others[:, begin:]
        changes = (outputs(others) - expected)[:, :begin]
        if not np.all(np.abs(changes) <= tolerance):
            return False
    return True


def example(network, batch_size):
    """Random numbers, or zeros for integers, in the shapes of the inputs.

    Args:
        network: `keras.Model`.
        batch_size: int.

    Returns:
        Nest of arrays.

    Raises:
        UsageError: if a shape is not known.
    """

    def of_input(tensor):
        if None in tensor.shape[1:]:
            raise UsageError(
                f"--model={FLAGS.model} must have inputs of known shape. "
                f"Received: {tensor.name} of {tensor.shape}"
            )
        shape = (batch_size, *tensor.shape[1:])
        if "float" in tensor.dtype:
            return np.random.default_rng(0).normal(size=shape)
        return np.zeros(shape, tensor.dtype)

    return keras.tree.map_structure(of_input, inputs(network))


def inputs(network):
    """The nest of a network's symbolic inputs, which Sequential hides.

    Args:
        network: `keras.Model`, a graph of layers.
    """
    if isinstance(network, keras.Sequential):
        return network.inputs[0]
    return network.input


def import_layers():
    """Imports what defines the layers of the network that the flags describe.

    Raises:
        UsageError: if it cannot be imported.
    """
    if FLAGS.model.startswith("keras_hub."):
        _keras_hub()
    elif is_function(FLAGS.model):
        imported("model", FLAGS.model)


def is_function(name):
    """Whether a flag's value, a str, names a function of the user."""
    return re.fullmatch(network_flags.FUNCTION, name) is not None


def imported(flag, name):
    """The function of the user that a flag names.

    Args:
        flag: str, name of the flag.
        name: str, `package.module:function`; modules in the current directory
            are found too.

    Raises:
        UsageError: if there is no such function.
    """
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise UsageError(
            f"--{flag}={name} cannot be imported: {type(error).__name__}: "
            f"{error}"
        ) from error
    if not callable(found):
        raise UsageError(f"--{flag}={name} must be callable. Received: {found}")
    return found


def _call(function, given, arguments):
    """Calls a function with those given values that it has parameters for."""
    return function(**{**_taken(function, given), **arguments})


def _taken(function, given):
    parameters = inspect.signature(function).parameters
    return {name: v for name, v in given.items() if name in parameters}


def _load(path, arguments):
    if arguments:
        raise UsageError(
            "--model_args does not apply to a file. Received: "
            f"{FLAGS.model_args}"
        )
    return keras.saving.load_model(path, compile=False)


def applications():
    """Names of the models of `keras.applications`."""
    return [
        name for name, function in inspect.getmembers(keras.applications)
        if inspect.isfunction(function)
    ]


def _application(name, given, arguments):
    if name not in applications():
        raise UsageError(
            "--model=applications.NAME must name one of "
            f"{', '.join(applications())}. Received: {name}"
        )
    options = {"weights": None, "classifier_activation": None}
    if "num_classes" in given:
        options["classes"] = given["num_classes"]
    if "input_shape" in given:
        options["input_shape"] = given["input_shape"]
    return getattr(keras.applications, name)(**{**options, **arguments})


def _hub_model(name, given, arguments):
    """A model of KerasHub, from a preset or from arguments.

    The arguments of a task's backbone are those under "backbone".
    """
    keras_hub = _keras_hub()
    kind = getattr(keras_hub.models, name, None)
    if not inspect.isclass(kind):
        raise UsageError(
            "--model=keras_hub.NAME must name a class in keras_hub.models. "
            f"Received: {name}"
        )
    arguments = dict(arguments)
    is_task = issubclass(kind, keras_hub.models.Task)
    shape = given.pop("input_shape", None)
    vocabulary_size = given.pop("vocabulary_size", None)
    if is_task:
        given["preprocessor"] = None
    given = _taken(kind.__init__, given)
    if "preset" in arguments:
        return kind.from_preset(arguments.pop("preset"), **given, **arguments)
    if not is_task:
        return kind(**arguments)
    backbone = kind.backbone_cls
    of_backbone = dict(arguments.pop("backbone", {}))
    if shape is not None and len(shape) == 3:
        of_backbone = {
            **_taken(backbone.__init__, {"image_shape": shape}), **of_backbone
        }
    if vocabulary_size is not None:
        of_backbone = {
            **_taken(
                backbone.__init__, {"vocabulary_size": vocabulary_size}
            ),
            **of_backbone,
        }
    return kind(backbone=backbone(**of_backbone), **{**given, **arguments})


def _keras_hub():
    try:
        import keras_hub
    except ImportError as error:
        raise UsageError(
            "--model=keras_hub.NAME needs KerasHub: pip install keras-hub"
        ) from error
    return keras_hub
