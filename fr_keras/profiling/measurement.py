"""Measurement: how long layers and modules take on an available device."""

import contextlib
import dataclasses
import json
import math
import statistics
from typing import Any

import keras
import tensorflow as tf

from fr_keras.cutting import copying
from fr_keras.cutting.costs import Cost
from fr_keras.cutting.graph import as_graph
from fr_keras.engine import chain, layer_variables, placement
from fr_keras.engine.calling import call_quietly
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.features import Features
from fr_keras.engine.forward_backward import ForwardBackward, record
from fr_keras.engine.functional import submodel
from fr_keras.engine.module import Module
from fr_keras.profiling.module_times import ModuleTimes
from fr_keras.profiling.timing import run_once, seconds_of

_UNKNOWN = 32  # Examples, and other unknown dimensions, if no data is given.


def measure_costs(
    model: keras.Model, x: Any = None, device: str | None = None,
) -> dict[str, Cost]:
    """Measures the layers of a model, forward and backward.

    Every layer is run by itself, forward and forward with backward, on a batch
    of data that has passed the layers before it; identical layers, on inputs of
    the same shape, are measured once. The device should be otherwise idle.

    Args:
        model: Sequential or Functional `keras.Model`, or its
            `fr_keras.cutting.graph.Graph`; it is not changed.
        x: nest of tensors or arrays, a batch of data for `model`; `None` for
            random numbers (zeros for integer inputs), with the batch size of
            the model, or else 32; other unknown dimensions are 32 too.
        device: str, where to measure; `None` for the first GPU or, without a
            GPU, the first CPU device.

    Returns:
        Dict from layer name to `fr_keras.cutting.costs.Cost`, seconds per call
        (forward, backward), for `costs` of `fr_keras.partition`.

    Raises:
        TypeError: if `model` is neither Sequential nor Functional.
        ValueError: if a device does not exist, or layers cannot be copied.

    Example:

    ```python
    model = fr_keras.models.resnet(56, num_classes=10)
    costs = fr_keras.measure_costs(model, x_train[:128])
    modules = fr_keras.partition(model, num_modules=4, costs=costs)
    ```
    """
    seconds: dict[str, list] = {}
    for call in measure_calls(model, x, device):
        seconds.setdefault(call.name, []).append(call.cost)
    return {
        name: Cost(*(statistics.mean(passes) for passes in zip(*of_calls)))
        for name, of_calls in seconds.items()
    }


@dataclasses.dataclass(frozen=True)
class Call:
    """The costs of a call of a layer.

    Attributes:
        name: str, of the layer or other operation.
        cost: `fr_keras.cutting.costs.Cost`, in seconds.
        own_bytes: int, bytes of the internal tensors that a backward pass
            needs.
        kept: set of the ids of those symbolic tensors, inputs and outputs of
            the call, that its backward pass needs.
        sizes: dict from the ids of its symbolic inputs and outputs to bytes.
    """

    name: str
    cost: Cost
    own_bytes: int
    kept: set
    sizes: dict


def measure_calls(model, x=None, device=None):
    """Measures the layer calls of a model, as `measure_costs` does.

    Args:
        model: as for `measure_costs`.
        x: as for `measure_costs`.
        device: as for `measure_costs`.

    Returns:
        List of `Call`s, in the order of `graph.Graph(model).nodes`.
    """
    graph = as_graph(model)
    (device,) = placement.assign_devices(1, device and [device])
    values = _values_of(graph.input, x)
    depends = set()  # Ids of the tensors that depend on trainable weights.
    measured, calls = {}, []
    for node in graph.nodes:
        inputs = list({id(t): t for t in node.input_tensors}.values())
        alone = submodel([node], inputs, node.output_tensors, "measured_layer")
        tensors = [values[id(tensor)] for tensor in inputs]
        differentiable = [id(tensor) in depends for tensor in inputs]
        kind = kind_of(node, tensors, differentiable)
        if kind not in measured:
            measured[kind] = _measure_call(
                alone, tensors, differentiable, device
            )
        cost, own_bytes, kept = measured[kind]
        made = keras.tree.flatten(call_quietly(alone, tensors, training=False))
        values |= {id(t): value for t, value in zip(node.output_tensors, made)}
        ids = [id(tensor) for tensor in [*inputs, *node.output_tensors]]
        calls.append(Call(
            node.operation.name, cost, own_bytes,
            {i for i, needed in zip(ids, kept) if needed},
            {i: num_bytes(values[i]) for i in ids},
        ))
        if any(differentiable) or alone.trainable_weights:
            depends |= {id(tensor) for tensor in node.output_tensors}
    return calls


def measure_modules(modules, optimizer, x):
    """Measures modules, each by itself.

    Measured are the forward pass (a play and, without the tape, a replay),
    backward pass and update of one module after the other, on its device, which
    should be otherwise idle. The loss and the metrics are left out. Weights and
    state of the modules change as with learning rate zero, so pass modules
    made for this.

    Args:
        modules: list of K `fr_keras.engine.module.Module`.
        optimizer: their `fr_keras.engine.optimizers.ModuleOptimizers`.
        x: nest of tensors or arrays, a batch of data for the first.

    Returns:
        List of K `fr_keras.profiling.module_times.ModuleTimes`, in seconds.
    """
    x = keras.tree.map_structure(tf.convert_to_tensor, x)
    chain.build(modules, x)
    optimizer.build(None)
    learning_rate = [
        tf.zeros_like(rate) for rate in optimizer.next_learning_rate()
    ]
    features, times = modules[0].standardize(x), []
    for module in modules:
        used = module.used(features)
        of_module, made = _measure(module, used, learning_rate)
        times.append(of_module)
        features = module.output(features, made)
    return times


def activation_bytes(module, x):
    """Returns the bytes that a module's backward pass needs of its forward.

    Args:
        module: `fr_keras.engine.module.Module` that was built.
        x: `fr_keras.engine.features.Features`, the used part of its input.

    Returns:
        int, including the input but not the weights.
    """
    own_bytes, kept = residuals(module, x)
    made, _, _ = module.forward(x)
    return own_bytes + sum(
        num_bytes(tensor)
        for tensor, needed in zip([*x.tensors, *made.tensors], kept) if needed
    )


def num_bytes(tensor):
    """Returns the bytes of a tensor, or of one with a full `tf.TensorSpec`."""
    return math.prod(tensor.shape) * tensor.dtype.size


def random_batch(inputs):
    """Makes a batch for a model of which no data is given.

    Args:
        inputs: nest of `keras.KerasTensor`, the input of a model.

    Returns:
        Nest of tensors: normally distributed, or zeros for integers, with the
        batch size of the input, or else 32; other unknown dimensions are 32
        too.
    """
    return keras.tree.map_structure(
        lambda spec: _random([d or _UNKNOWN for d in spec.shape], spec.dtype),
        inputs,
    )


def _values_of(inputs, x):
    """Values of the model's inputs, by the id of the symbolic tensor."""
    specs = keras.tree.flatten(inputs)
    x = random_batch(inputs) if x is None else x
    values = [tf.convert_to_tensor(v) for v in keras.tree.flatten(x)]
    if len(values) != len(specs):
        raise ValueError(
            f"`x` must have one tensor for each of the {len(specs)} inputs of "
            f"the model. Received: {len(values)} tensors"
        )
    return {
        id(spec): tf.cast(value, spec.dtype)
        for spec, value in zip(specs, values)
    }


def _random(shape, dtype):
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating:
        return tf.cast(tf.random.stateless_normal(shape, [0, 0]), dtype)
    return tf.zeros(shape, dtype)


def kind_of(node, tensors, differentiable):
    """Returns a string that is the same for calls that take equally long.

    Args:
        node: Keras' node of the call.
        tensors: list of tensors or `tf.TensorSpec`, its inputs.
        differentiable: list of bool, for each whether it depends on trainable
            weights.
    """
    operation = node.operation
    try:
        config = {**operation.get_config(), "name": None}
        config = json.dumps(keras.saving.serialize_keras_object(config))
    except Exception:  # Without a configuration, it is like nothing else.
        config = id(operation)
    arguments = keras.tree.map_structure(
        lambda value: None if isinstance(value, keras.KerasTensor) else value,
        [node.arguments.args, node.arguments.kwargs],
    )
    shapes = [(tuple(t.shape), t.dtype.name) for t in tensors]
    trainable = getattr(operation, "trainable", None)
    return repr((
        type(operation), config, trainable, arguments, shapes, differentiable
    ))


def _measure_call(alone, tensors, differentiable, device):
    """Measures a model of one call.

    Returns:
        Tuple `(cost, own_bytes, kept)`: as in `Call`, but the last as in
        `residuals`.
    """
    with copy_to_measure(alone) as copy:
        placement.move([copy], device)
        module = Module(copy, device)
        module.build(tensors, differentiable, is_last=True)
        with tf.device(device):
            x = Features(
                [tf.identity(tensor) for tensor in tensors],
                [None] * len(tensors),
            )
        times, made = _measure(module, x)
        if not module.learns:
            return Cost(times.forward, 0.0), 0, []
        own_bytes, kept = residuals(module, x)
        return Cost(times.forward, times.backward), own_bytes, kept


@contextlib.contextmanager
def copy_to_measure(model):
    """Yields a copy of a model, whose state and device may change.

    Layers that cannot be copied are restored afterwards.

    Args:
        model: `keras.Model`.

    Yields:
        `keras.Model`.
    """
    copy, kept, _ = copying.copy_model(model)
    before = [
        (layer, [(v, v.numpy(), v.value.device) for v in held])
        for layer in kept if (held := layer_variables.all_variables(layer))
    ]
    try:
        yield copy
    finally:
        for layer, variables in before:
            placement.move([layer], variables[0][2])
            for variable, value, _ in variables:
                variable.assign(value)


def residuals(module, x, run=run_once):
    """Finds what a backward pass needs of a forward pass besides weights.

    Args:
        module: `Module` that was built.
        x: `Features`, the used part of its input.
        run: callable on a `DeviceFunction` and `x`, which runs it, or only
            returns the specs of its results.

    Returns:
        Tuple `(own_bytes, kept)`: as in `Call`, but the last a list of bool,
        for each input and each output.
    """
    kept = []
    # It has the functions of layers' loops, which exist as long as it does.
    passes = ForwardBackward(module)

    def forward(x):
        made, residuals, _, _ = passes.stateless_forward(x)
        needed = {tensor.ref() for tensor in residuals}
        kept[:] = [t.ref() in needed for t in [*x.tensors, *made.tensors]]
        seen = {t.ref() for t in [*x.tensors, *made.tensors]}
        return [t for t in residuals if t.ref() not in seen]

    own = run(DeviceFunction(forward, module.device), x)
    weights = {tuple(weight.shape) for weight in module.submodel.weights}
    return sum(
        num_bytes(tensor) for tensor in own
        if tensor.dtype != tf.variant and tuple(tensor.shape) not in weights
    ), kept


def _measure(module, x, learning_rate=None):
    """Measures a module that was built.

    Args:
        module: `Module`.
        x: `Features`, the used part of its input.
        learning_rate: for `Module.update`, or `None` not to update.

    Returns:
        Tuple `(times, made)`: `ModuleTimes`, and the computed `Features`.
    """

    def forward(x):
        made, losses, moved = module.forward(x)
        module.commit(moved)
        return made, losses

    def forward_backward(x, delta):
        made, losses, _, backward = record(module, x)
        gradients, sent = backward(delta)
        # Returned so that all of the forward pass is executed.
        return made.tensors, losses, gradients, sent.tensors

    forward, forward_backward = (
        DeviceFunction(function, module.device)
        for function in (forward, forward_backward)
    )
    made, _ = run_once(forward, x)
    forward_seconds = seconds_of(forward, x)
    if not module.learns:
        return ModuleTimes(forward_seconds, 0.0), made
    with tf.device(module.device):
        delta = [tf.ones_like(t) for t in module.differentiated(made)]
    both_seconds = seconds_of(forward_backward, x, delta)
    times = ModuleTimes(
        forward_seconds, max(0.0, both_seconds - forward_seconds)
    )
    if learning_rate is not None:
        _, _, gradients, _ = run_once(forward_backward, x, delta)

        def update(gradients):
            module.update(gradients, learning_rate)
            return tf.constant(0)

        times.update = seconds_of(
            DeviceFunction(update, module.device), gradients
        )
    return times, made
