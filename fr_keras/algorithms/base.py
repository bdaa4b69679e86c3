"""Base class of all algorithms: a `keras.Model` of modules on devices."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from fr_keras.algorithms.acceptance import (
    check_modules,
    check_overrides,
    checked,
    copied,
)
from fr_keras.algorithms.face import Face
from fr_keras.cutting.costs import as_cost
from fr_keras.cutting.graph import Graph
from fr_keras.cutting.partition import best_cut, split
from fr_keras.engine import holdings, placement, private
from fr_keras.engine.chain import Chain
from fr_keras.engine.module import Module
from fr_keras.engine.user_warnings import warn
from fr_keras.profiling.measurement import measure_costs
from fr_keras.visualization.summary import summary


class Algorithm(Face):
    """A network split into K modules on K devices, and a method to train it.

    Subclasses implement the iterations of their method in `make_functions` and
    `train_steps` (see `fr_keras.algorithms.trainer.ModuleTrainer`).

    Args:
        model: Sequential or Functional `keras.Model` to split (see
            `fr_keras.partition`), or a list of ready-made modules
            (`keras.Model`s or layers of any kind), each taking the output of
            the one before. A model to split is not changed: a copy on the
            modules' devices is trained, and `to_keras` returns the result.
            Ready-made modules are moved to their devices and trained
            themselves.
        num_modules: int, K, or `None` for one module per device.
        devices: list of device names. `None` uses the available GPUs or,
            without a GPU, the logical CPU devices (see
            `fr_keras.engine.placement.assign_devices`).
        costs: costs of the layers, by which `fr_keras.partition` balances the
            modules; or `"measured"` to measure them now on the first device
            with `fr_keras.measure_costs`.
        copy: bool. `False` moves the layers of `model` themselves to the
            devices and trains them, so that `model` has the trained weights
            afterwards. A layer that Keras cannot copy is trained itself in any
            case, with a warning.

    Attributes:
        costs: dict from layer name to the pair of costs (forward, backward) by
            which the modules are balanced, or `None` if they were estimated.
        modules: tuple of K `keras.Model`s (or the given layers).
        devices: tuple of K full device names.
        num_modules: int, K.

    Raises:
        ValueError: if the model cannot be split into that many modules, Keras
            cannot copy it, a device does not exist, or a `tf.distribute`
            strategy is in scope.
        TypeError: if `model` is neither a Sequential or Functional model nor
            a list.
    """

    # Whether modules may share weights, which are then sent with the features.
    ties_weights = True

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        costs: Mapping[str, Any] | str | None = None, copy: bool = True,
        **kwargs: Any,
    ) -> None:
        if tf.distribute.has_strategy():
            raise ValueError(
                "Modules go to devices by `devices`, not by a strategy of "
                "tf.distribute: make the model outside of its scope. "
                f"Received: strategy={tf.distribute.get_strategy()!r}"
            )
        if isinstance(model, (list, tuple)):
            if costs is not None:
                raise ValueError(
                    "`costs` are for a model that is to be cut; `model` is a "
                    f"list of modules. Received: costs={costs!r}"
                )
            submodels = check_modules(model, num_modules)
            if not copy:
                raise ValueError(
                    "`copy` is for a model that is to be cut; a list of "
                    "modules is never copied. Received: copy=False"
                )
            network = list(submodels)
        else:
            if num_modules is None:
                num_modules = placement.default_num_modules(devices)
            if isinstance(costs, str) and costs == "measured":
                first = devices[0] if devices else None
                costs = measure_costs(model, device=first)
            graph = Graph(model)
            cut = best_cut(graph, num_modules, costs, ties=self.ties_weights)
            check_overrides(model)
            network = copied(model) if copy else checked(model)
            submodels = split(network, cut)
        # `compile` decides by its dtype policy whether to scale the loss.
        whole = submodels[-1] if isinstance(network, list) else network
        kwargs.setdefault("dtype", whole.dtype_policy)
        super().__init__(**kwargs)
        # Keras tracks, saves and lists the trained network as a whole, so that
        # its weights do not depend on the split.
        self._network = network
        self._chain = None
        self._given_devices = devices
        self._costs = None
        if isinstance(costs, Mapping):
            self._costs = {name: as_cost(cost) for name, cost in costs.items()}
        self._devices = placement.assign_devices(len(submodels), devices)
        # Original places of a network that is not copied, for `to_keras`.
        self._homes = None if copy else _Homes([
            (variable, variable.value.device)
            for variable in holdings.variables(network)
        ])
        self._is_home = False
        self.modules_at_work = []
        for submodel, device in zip(submodels, self._devices):
            self.modules_at_work.append(Module(submodel, device))
        self._take_to_devices()
        self.built = self._layers_are_built()

    def _take_to_devices(self):
        """Moves the modules to their devices, if they are elsewhere."""
        for module in self.modules_at_work:
            placement.move([module.submodel], module.device)
        for part in self.parts:
            placement.forget_functions(part)
        self._is_home = False

    def _check_places(self):
        if self._is_home:
            self._take_to_devices()
            self.train_function = None
            self.test_function = None
            self.predict_function = None
        super()._check_places()

    def _layers_are_built(self):
        return all(
            layer.built for layer in private.sublayers(self, include_self=False)
        )

    @property
    def parts(self):
        """list of `keras.layers.Layer`: the network, or the given modules."""
        network = self._network
        return list(network) if isinstance(network, list) else [network]

    @property
    def modules(self) -> tuple[keras.layers.Layer, ...]:
        return tuple(module.submodel for module in self.modules_at_work)

    @property
    def devices(self) -> tuple[str, ...]:
        return self._devices

    @property
    def costs(self) -> dict[str, Any] | None:
        return self._costs

    @property
    def num_modules(self) -> int:
        return len(self.modules_at_work)

    def to_keras(self) -> keras.Model:
        """Returns the trained network as one plain Keras model.

        Returns:
            `keras.Model` with the structure, the current weights and, where it
            can be re-created, the class of the given model; later training
            does not change it. With `copy=False` it is the given model itself,
            its variables back in their original places until the next call of
            `fit`, `evaluate` or `predict`.

        Raises:
            ValueError: if ready-made modules were given whose input is not
                known, or which Keras cannot copy.
        """
        if self._homes is not None:
            placement.put(self._homes.places)
            placement.forget_functions(self._network)
            self._is_home = True
            return self._network
        return copied(self._whole())

    def _whole(self):
        """The network as one Functional model that shares all weights."""
        if not isinstance(self._network, list):
            return self._network
        first = self.modules[0]
        inputs = first.input if getattr(first, "inputs", None) else None
        if inputs is None and self._chain is not None:
            inputs = keras.tree.map_structure(
                lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype),
                self._chain.data,
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

        If one of the last three arguments is set, Keras' table of the layers
        follows.

        Args:
            line_length: int, characters per line, or `None` for 100 in the
                table of the modules and Keras' default in that of the layers.
            positions: as for `keras.Model.summary`, for the table of layers.
            print_fn: callable, called with each line, or `None` for `print`.
            expand_nested: bool, whether to print all layers, including those
                of nested models.
            show_trainable: bool, whether to print all layers and whether each
                is trainable.
            layer_range: list of two layer names or regular expressions, the
                first and the last layer to print.

        Raises:
            ValueError: if `layer_range` matches no layers.
        """
        summary(self, None, print_fn or print, line_length or 100)
        if not (expand_nested or show_trainable or layer_range):
            return
        for part in self.parts:
            if isinstance(part, keras.Model):
                part.summary(
                    line_length, positions, print_fn, expand_nested,
                    show_trainable, layer_range,
                )

    def export(
        self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any,
    ):
        """Exports the network for serving, without `fr_keras`.

        Args:
            filepath: str, the directory of the SavedModel.
            *args: as for `keras.Model.export`.
            **kwargs: as for `keras.Model.export`.
        """
        return self._whole().export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self._network),
            "num_modules": self.num_modules,
            "devices": self._given_devices,
            # Measuring again would give other costs, and perhaps modules.
            "costs": self.costs and {
                name: list(cost) for name, cost in self.costs.items()
            },
            # Unknown before training begins.
            "data": self._chain
            and keras.saving.serialize_keras_object(self._chain.data),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Re-creates a saved model on the devices available here."""
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        try:
            placement.assign_devices(config["num_modules"], config["devices"])
        except ValueError:
            warn(
                f"The model was trained on the devices {config['devices']}, "
                "which are not here; it goes to those that are."
            )
            config["devices"] = None
        data = config.pop("data")
        if not isinstance(config["model"], list):
            config["copy"] = False  # Nothing else refers to it.
        model = cls(**config)
        model._homes = None
        if data is not None:
            model._chain = Chain(keras.saving.deserialize_keras_object(data))
        return model


@dataclasses.dataclass
class _Homes:
    """Original places of variables. (Keras would track a list of them.)"""

    places: list
