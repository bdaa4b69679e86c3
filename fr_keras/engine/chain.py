"""A chain of modules: the output of one is the input of the next."""

import dataclasses
import re

import keras

from fr_keras.engine import layer_variables
from fr_keras.engine.casts import LinkCasts, NoCasts


@dataclasses.dataclass
class Chain:
    """The tensors that flow through built modules.

    Not a tuple or dict, because Keras wraps those as attributes of a model.

    Attributes:
        data: nest of `keras.KerasTensor`, the input of the first module, for
            batches of any size.
        outputs: nest of `keras.KerasTensor` or tensors, the output of the last.
        features: list with the flattened output of each module.
        differentiable: list with one list of bool for each module: whether each
            tensor of its output has an error gradient.
    """

    data: object
    outputs: object = None
    features: list | None = None
    differentiable: list | None = None


def build(modules, x, link_dtype=None):
    """Builds modules in order, unless they are built already.

    Args:
        modules: list of `fr_keras.engine.module.Module`.
        x: nest of `keras.KerasTensor` or tensors, the input of the first.
        link_dtype: str, the dtype in which features and error gradients cross
            boundaries, or `None` for their own.

    Returns:
        `Chain`.

    Raises:
        ValueError: if a module does not accept the output of the one below,
            has no weights, or has a variable that belongs to another module.
    """
    outputs, differentiable = x, [False] * len(keras.tree.flatten(x))
    features, differentiable_by_module = [], []
    arriving = [None] * len(differentiable)
    module_of, state_owners = {}, {}
    for k, module in enumerate(modules, start=1):
        inputs = outputs
        module.state.owners = state_owners
        try:
            outputs, differentiable = module.build(
                inputs, differentiable, is_last=(k == len(modules))
            )
        except Exception as error:
            below = f"the output of module {k - 1}" if k > 1 else "the data"
            raise ValueError(
                f"Module {k}, '{module.submodel.name}', must accept {below} "
                f"({one_line(error)}). "
                f"Received: inputs of shape {shapes(inputs)}"
            ) from error
        module.casts = NoCasts()
        if link_dtype is not None:
            module.casts = LinkCasts(
                module, link_dtype, arriving, outputs, k == len(modules)
            )
            arriving = module.casts.outputs
        if not module.submodel.weights:
            raise ValueError(
                "Every module must have weights. Merge a module without "
                "weights into the one before or after it. "
                f"Received: module {k}, '{module.submodel.name}'"
            )
        features.append(keras.tree.flatten(outputs))
        differentiable_by_module.append(differentiable)
        for variable in layer_variables.all_variables(module.submodel):
            if module_of.setdefault(id(variable), k) != k:
                raise ValueError(
                    "A layer must belong to one module only. To share its "
                    "weights between modules, pass the model that is to be "
                    "split instead of a list of modules. Received: variable "
                    f"'{variable.path}' in modules "
                    f"{module_of[id(variable)]} and {k}"
                )
    data = keras.tree.map_structure(
        lambda x: keras.KerasTensor(
            (None, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype)
        ),
        x,
    )
    return Chain(data, outputs, features, differentiable_by_module)


def shapes(nest):
    """Returns the shapes of a nest of tensors, for messages."""
    return keras.tree.map_structure(
        lambda x: None if x is None else tuple(x.shape), nest
    )


def one_line(error):
    """Returns an error's text on one line, without colors, for messages."""
    return " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split())
