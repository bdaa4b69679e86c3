"""All uses of private Keras and TensorFlow APIs.

Each function documents what it relies on; `tests/private_test.py` checks each
one separately, and that nothing else in the library reaches into Keras or
TensorFlow. If a new version fails there, this is the file to change.

The only other dependence on Keras' internals is overridden methods of its
classes; they are listed in `OVERRIDDEN`.
"""

import keras
from keras.src.backend import compute_output_spec
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.models.functional import Functional
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.random.seed_generator import global_seed_generator
from keras.src.trainers.trainer import model_supports_jit
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context
from tensorflow.python.framework.config import is_op_determinism_enabled

__all__ = [
    # The backend-independent base of Keras' optimizers.
    "BaseOptimizer",
    # The class of models created by keras.Model(inputs, outputs).
    "Functional",
    # Infers a function's results for `keras.KerasTensor`s without computing.
    "compute_output_spec",
    # The active scope; a scope within it must involve the outer one.
    "get_stateless_scope",
    # Shared by all layers without their own seed generator.
    "global_seed_generator",
    # There is no public getter for the flag set by enable_op_determinism().
    "is_op_determinism_enabled",
    # Whether XLA can compile all layers of a model, as decided by Keras.
    "model_supports_jit",
]

# Private methods that are overridden: {class: names of its methods}.
OVERRIDDEN = {
    Functional: (
        "_adjust_input_rank", "_assert_input_compatibility",
        "_convert_inputs_to_tensors",
    ),
    keras.Model: ("_get_metrics_result_or_logs", "_maybe_symbolic_build"),
}


# Layers and their contents.


def sublayers(layer, include_self=True, recursive=True):
    """Iterates over a layer and its sublayers, each once."""
    return layer._flatten_layers(
        include_self=include_self, recursive=recursive
    )


def own_variables(layer):
    """Returns the variables of a layer itself, without those of its sublayers.

    Tuple of the list of those created as trainable, and of the others.
    """
    return layer._trainable_variables, layer._non_trainable_variables


def own_layers(layer):
    """Returns the layers that are attributes of a layer or model."""
    return layer._layers


def own_metrics(layer):
    """Metrics that are attributes of a layer; `Model.metrics` has more."""
    return layer._metrics


def own_seed_generators(layer):
    """Returns the seed generators that are attributes of a layer."""
    return layer._seed_generators


def copy_trainable(source, target):
    """Copies whether a layer itself is trainable, without its sublayers."""
    target._trainable = source._trainable


def copy_dtype_policy(source, target):
    """Copies the dtype policy of a layer without using the setter."""
    target._dtype_policy = source._dtype_policy


def add_losses(layer, losses):
    """Adds losses to those that `add_loss` has collected in a layer."""
    layer._losses.extend(losses)


def disable_input_conversion(layer):
    """Makes a layer neither convert its inputs to tensors nor cast them."""
    layer._convert_input_args = False


# Graphs: calls of layers and the tensors between them.


def functional_of(model):
    """Returns the Functional model inside a built Sequential one, or None."""
    return getattr(model, "_functional", None)


def calls_of(operation):
    """Returns Keras nodes, one for each call of a layer on symbolic tensors."""
    return operation._inbound_nodes


def history_of(tensor):
    """Returns the call that computes a `keras.KerasTensor`, or None.

    Tuple `(operation, node_index, tensor_index)`.
    """
    return getattr(tensor, "_keras_history", None)


def nodes_by_depth(model):
    """The calls of a Functional model: {depth: list of nodes}, last first."""
    return model._nodes_by_depth


def set_nodes_by_depth(model, nodes):
    """Makes a Functional model run its calls in another order."""
    # (Not by assignment: TensorFlow would track the dict.)
    vars(model)["_nodes_by_depth"] = nodes


def set_outputs(model, outputs):
    """Makes a Functional model return only some of the outputs it computes.

    Args:
        model: Functional `keras.Model`.
        outputs: nest of `keras.KerasTensor`, some of its outputs.
    """
    tensors = keras.tree.flatten(outputs)
    # (Not by assignment: Keras would track the lists.)
    vars(model).update(
        _outputs_struct=outputs,
        _outputs=tensors,
        output_names=[history_of(t).operation.name for t in tensors],
    )


def standardize_inputs(model, inputs):
    """Returns the flat list of inputs that a Functional model's layers take."""
    return model._standardize_inputs(inputs)


def mask_of(tensor):
    """Returns the mask that Keras layers pass along with a tensor, or None."""
    return getattr(tensor, "_keras_mask", None)


def set_mask(tensor, mask):
    """Sets the mask that Keras layers find on a tensor."""
    tensor._keras_mask = mask


# Variables.


def raw_value(variable):
    """Returns the `tf.Variable` itself, whatever scope is active."""
    return variable._value


def replace_value(variable, new):
    """Makes a `keras.Variable` hold another `tf.Variable` under the same id.

    Optimizers use that id when variables are excluded from weight decay.
    """
    new._unique_id = variable.value._unique_id
    variable._initialize(new)


def unique_id(variable):
    """Returns the id by which optimizers know a `keras.Variable`."""
    return variable.value._unique_id


def set_path(variable, path):
    """Sets the path of a `keras.Variable`, which optimizers' patterns match."""
    variable._path = path


# Optimizers.


def own_iterations(optimizer):
    """Returns the variable that counts batches, regardless of accumulation."""
    return optimizer._iterations


def schedule_of(optimizer):
    """Returns the given learning rate schedule, or the variable."""
    return optimizer._learning_rate


def trained_by(optimizer):
    """Returns the list of variables that a built optimizer updates."""
    return optimizer._trainable_variables


def averages_of(optimizer):
    """Returns pairs of variables and their moving averages, with `use_ema`."""
    return list(zip(
        optimizer._trainable_variables,
        optimizer._model_variables_moving_average,
    ))


def expose_averages(optimizer, averages):
    """Stores such pairs where `SwapEMAWeights` looks for them."""
    # Not by assignment, because they are saved with another optimizer.
    vars(optimizer).update(
        _trainable_variables=[variable for variable, _ in averages],
        _model_variables_moving_average=[average for _, average in averages],
    )


def track(optimizer, part, name):
    """Makes `tf.train.Checkpoint` track an object as part of an optimizer."""
    optimizer._track_trackable(part, name, overwrite=True)


def adam_slots(optimizer):
    """The lists of first and second moments of Adam and its variants."""
    return optimizer._momentums, optimizer._velocities


def exclusion_key(optimizer, variable):
    """Returns the key of a variable in `exclude_from_weight_decay`."""
    return optimizer._var_key(variable)


def optimizer_map(optimizer):
    """Returns the `OptimizerMap` of a `MultiOptimizer`."""
    return optimizer._optimizer_map


# Models in training.


def event_directories(callback):
    """The `train` and `validation` folders of `keras.callbacks.TensorBoard`."""
    return callback._train_dir, callback._val_dir


def compiled_loss(model):
    """Returns the loss passed to `compile`, for all outputs, or None."""
    return model._compile_loss


def single_losses(model):
    """Returns the losses passed to `compile`, once they are built.

    List of tuples `(path, loss)`: the path to an output, a tuple of keys, and
    its `keras.losses.Loss`.
    """
    if model._compile_loss is None:
        return []
    return [(each.path, each.loss) for each in model._compile_loss._flat_losses]


def compiled_metrics(model):
    """Returns the metrics passed to `compile`, for all outputs, or None."""
    return model._compile_metrics


def loss_tracker(model):
    """Returns the `keras.metrics.Mean` in which `fit` accumulates the loss."""
    return model._loss_tracker


def build_for(model, batch):
    """Builds loss and metrics for a batch of `keras.KerasTensor`s."""
    model._symbolic_build(data_batch=batch)


def set_initial_epoch(model, epoch):
    """Makes `fit`, once it has begun, skip to an epoch."""
    model._initial_epoch = epoch


def ignores_a_class(loss):
    """Whether a loss function ignores the labels of one class."""
    return loss._fn_kwargs.get("ignore_class") is not None


class EpochIterator:
    """Keras' iterator over the epochs of `fit`, with its private state."""

    def __init__(self, iterator):
        self._iterator = iterator

    @property
    def data(self):
        """The data that is iterated over once per epoch."""
        return self._iterator._distributed_dataset

    @data.setter
    def data(self, data):
        self._iterator._distributed_dataset = data

    @property
    def num_batches(self):
        """int, batches per epoch, or None while unknown."""
        return self._iterator._num_batches

    @num_batches.setter
    def num_batches(self, count):
        self._iterator._num_batches = count

    @property
    def steps_seen(self):
        """int, batches so far in an epoch of unknown length."""
        return self._iterator._steps_seen

    @steps_seen.setter
    def steps_seen(self, count):
        self._iterator._steps_seen = count

    @property
    def steps_per_epoch(self):
        """int, as passed to `fit`, or None."""
        return self._iterator.steps_per_epoch

    def set_current(self, iterator):
        """Makes the running epoch continue with another iterator."""
        self._iterator._current_iterator = iterator

    @property
    def enumerate_epoch(self):
        """The method that yields `(first step, last step, iterator)`."""
        return self._iterator._enumerate_iterator

    @enumerate_epoch.setter
    def enumerate_epoch(self, method):
        self._iterator._enumerate_iterator = method

    def restore_enumerate_epoch(self):
        """Removes a method that was set in place of the class's own."""
        del self._iterator._enumerate_iterator


# TensorFlow.


def handle_of(dataset):
    """Returns the tensor that represents a dataset in TensorFlow graphs."""
    return dataset._variant_tensor


def context_id():
    """Returns the int by which workers identify this process."""
    return pywrap_tfe.TFE_GetContextId(context.context()._context_handle)
