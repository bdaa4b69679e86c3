"""All that is used of Keras and TensorFlow without being public.

Each function says what it relies on; `tests/private_test.py` checks each on its
own, and that nothing else in the library reaches into Keras or TensorFlow. When
a new version fails there, this file is what has to change.

What else depends on Keras' internals are methods of its classes that are
overridden; they are listed in `OVERRIDDEN`.
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
    # Keras' optimizers as they are written for all backends.
    "BaseOptimizer",
    # The class of the models that keras.Model(inputs, outputs) makes.
    "Functional",
    # What a function returns for `keras.KerasTensor`s, without computing it.
    "compute_output_spec",
    # The scope in force; a scope within it must let the outer one take part.
    "get_stateless_scope",
    # Of layers without a seed generator of their own, one for all.
    "global_seed_generator",
    # There is no public question for what enable_op_determinism() has set.
    "is_op_determinism_enabled",
    # Whether XLA can compile all layers of a model, as Keras decides it.
    "model_supports_jit",
]

# Not public, and overridden: {class: names of its methods}.
OVERRIDDEN = {
    Functional: (
        "_adjust_input_rank", "_assert_input_compatibility",
        "_convert_inputs_to_tensors",
    ),
    keras.Model: ("_get_metrics_result_or_logs", "_maybe_symbolic_build"),
}


# Layers: what is in them.


def sublayers(layer, include_self=True, recursive=True):
    """Iterates over a layer and the layers in it, each once."""
    return layer._flatten_layers(
        include_self=include_self, recursive=recursive
    )


def own_variables(layer):
    """The variables of a layer itself, without those of layers in it.

    Tuple of the list of those that were made to be trained, and of the others.
    """
    return layer._trainable_variables, layer._non_trainable_variables


def own_layers(layer):
    """The layers that are attributes of a layer, or of a model."""
    return layer._layers


def own_metrics(layer):
    """The metrics that are attributes of a layer; `Model.metrics` has more."""
    return layer._metrics


def own_seed_generators(layer):
    """The seed generators that are attributes of a layer."""
    return layer._seed_generators


def copy_trainable(source, target):
    """Sets whether a layer is trainable, and not all layers in it."""
    target._trainable = source._trainable


def copy_dtype_policy(source, target):
    """Sets the dtype policy of a layer that has none of its own to set."""
    target._dtype_policy = source._dtype_policy


def add_losses(layer, losses):
    """Adds losses to those that `add_loss` has collected in a layer."""
    layer._losses.extend(losses)


def take_inputs_as_they_are(layer):
    """Lets a layer neither convert its inputs to tensors nor cast them."""
    layer._convert_input_args = False


# Graphs: calls of layers, and the tensors between them.


def functional_of(model):
    """The Functional model that a built Sequential one consists of, or None."""
    return getattr(model, "_functional", None)


def calls_of(operation):
    """Keras' nodes, one for each call of a layer on symbolic tensors."""
    return operation._inbound_nodes


def history_of(tensor):
    """Which call made a `keras.KerasTensor`, or None for what has no call.

    Tuple `(operation, node_index, tensor_index)`.
    """
    return getattr(tensor, "_keras_history", None)


def nodes_by_depth(model):
    """The calls of a Functional model: {depth: list of nodes}, last first."""
    return model._nodes_by_depth


def set_nodes_by_depth(model, nodes):
    """Has a Functional model make its calls in another order."""
    # (Not by assignment: TensorFlow would track the dict.)
    vars(model)["_nodes_by_depth"] = nodes


def set_outputs(model, outputs):
    """Has a Functional model return a few of the outputs it computes.

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
    """The list of the inputs that a Functional model's layers begin with."""
    return model._standardize_inputs(inputs)


def mask_of(tensor):
    """The mask that Keras' layers hand on with a tensor, or None."""
    return getattr(tensor, "_keras_mask", None)


def set_mask(tensor, mask):
    """Sets the mask that Keras' layers find at a tensor."""
    tensor._keras_mask = mask


# Variables.


def raw_value(variable):
    """The `tf.Variable` itself, whatever scope is in force."""
    return variable._value


def replace_value(variable, new):
    """Has a `keras.Variable` hold another `tf.Variable`, known by the same id.

    Optimizers go by that id when variables are excluded from weight decay.
    """
    new._unique_id = variable.value._unique_id
    variable._initialize(new)


def unique_id(variable):
    """By which optimizers know a `keras.Variable`."""
    return variable.value._unique_id


def set_path(variable, path):
    """Sets the path of a `keras.Variable`, where optimizers match patterns."""
    variable._path = path


# Optimizers.


def own_iterations(optimizer):
    """The variable that counts batches, whatever is accumulated."""
    return optimizer._iterations


def schedule_of(optimizer):
    """The learning rate schedule that was given, or the variable."""
    return optimizer._learning_rate


def trained_by(optimizer):
    """The list of the variables that a built optimizer updates."""
    return optimizer._trainable_variables


def averages_of(optimizer):
    """Pairs of variables and their moving averages, with `use_ema`."""
    return list(zip(
        optimizer._trainable_variables,
        optimizer._model_variables_moving_average,
    ))


def show_averages(optimizer, averages):
    """Puts such pairs where `SwapEMAWeights` looks for them."""
    # Not by assignment: they are saved with another optimizer.
    vars(optimizer).update(
        _trainable_variables=[variable for variable, _ in averages],
        _model_variables_moving_average=[average for _, average in averages],
    )


def track(optimizer, part, name):
    """Makes something a part of an optimizer for `tf.train.Checkpoint`."""
    optimizer._track_trackable(part, name, overwrite=True)


def adam_slots(optimizer):
    """The lists of first and second moments of Adam and its kin."""
    return optimizer._momentums, optimizer._velocities


def exclusion_key(optimizer, variable):
    """By which `exclude_from_weight_decay` remembers a variable."""
    return optimizer._var_key(variable)


def optimizer_map(optimizer):
    """The `OptimizerMap` of a `MultiOptimizer`."""
    return optimizer._optimizer_map


# Models in training.


def event_directories(callback):
    """Where `keras.callbacks.TensorBoard` writes: `train` and `validation`."""
    return callback._train_dir, callback._val_dir


def compiled_loss(model):
    """The loss that was given to `compile`, for all outputs, or None."""
    return model._compile_loss


def compiled_metrics(model):
    """The metrics that were given to `compile`, for all outputs, or None."""
    return model._compile_metrics


def loss_tracker(model):
    """The `keras.metrics.Mean` in which `fit` counts the loss."""
    return model._loss_tracker


def build_for(model, batch):
    """Builds loss and metrics for a batch of `keras.KerasTensor`s."""
    model._symbolic_build(data_batch=batch)


def set_initial_epoch(model, epoch):
    """Has `fit`, once it has begun, skip to an epoch."""
    model._initial_epoch = epoch


def ignores_a_class(loss):
    """Whether a loss function leaves out the labels of one class."""
    return loss._fn_kwargs.get("ignore_class") is not None


class EpochIterator:
    """Keras' iterator over the epochs of `fit`, with what it keeps."""

    def __init__(self, iterator):
        self._iterator = iterator

    @property
    def data(self):
        """What is iterated over, once for each epoch."""
        return self._iterator._distributed_dataset

    @data.setter
    def data(self, data):
        self._iterator._distributed_dataset = data

    @property
    def num_batches(self):
        """int, the batches of an epoch, or None while that is not known."""
        return self._iterator._num_batches

    @num_batches.setter
    def num_batches(self, count):
        self._iterator._num_batches = count

    @property
    def steps_seen(self):
        """int, the batches of an epoch of unknown length until now."""
        return self._iterator._steps_seen

    @steps_seen.setter
    def steps_seen(self, count):
        self._iterator._steps_seen = count

    @property
    def steps_per_epoch(self):
        """int, as `fit` was given it, or None."""
        return self._iterator.steps_per_epoch

    def set_current(self, iterator):
        """Has the epoch that is running go on with another iterator."""
        self._iterator._current_iterator = iterator

    @property
    def enumerate_epoch(self):
        """The method that yields `(first step, last step, iterator)`."""
        return self._iterator._enumerate_iterator

    @enumerate_epoch.setter
    def enumerate_epoch(self, method):
        self._iterator._enumerate_iterator = method

    def restore_enumerate_epoch(self):
        """Takes a method away that was set in place of the class's."""
        del self._iterator._enumerate_iterator


# TensorFlow.


def handle_of(dataset):
    """The tensor that stands for a dataset in TensorFlow's graphs."""
    return dataset._variant_tensor


def context_id():
    """int, by which workers know this program."""
    return pywrap_tfe.TFE_GetContextId(context.context()._context_handle)
