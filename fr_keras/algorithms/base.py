"""Base class of all algorithms: a `keras.Model` of modules on devices."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras

from fr_keras.algorithms.acceptance import (
    check_link_dtype,
    check_modules,
    check_network,
    check_overrides,
    check_replicas,
    copy_network,
)
from fr_keras.algorithms.fitting import Fitting
from fr_keras.algorithms.places import check_no_strategy
from fr_keras.algorithms.splitting import choose_split
from fr_keras.algorithms.whole_network import whole
from fr_keras.cutting.costs import as_cost
from fr_keras.cutting.graph import Graph
from fr_keras.cutting.partition import find_split_points, split
from fr_keras.engine import placement
from fr_keras.engine.chain import Chain
from fr_keras.engine.user_warnings import warn
from fr_keras.replicas.arrangement import arrange_modules
from fr_keras.replicas.replicate import replicate
from fr_keras.visualization.summary import summary


class Algorithm(Fitting):
    """A network split into K modules on K devices, and a method to train it.

    Subclasses have the options of a method; its iterations are those of their
    `pipeline_class`, a `fr_keras.algorithms.pipeline.BasePipeline`.

    Args:
        model: Sequential or Functional `keras.Model` to split (see
            `fr_keras.partition`), or a list of ready-made modules
            (`keras.Model`s or layers of any kind), each taking the output of
            the one before. A model to split is not changed: a copy on the
            modules' devices is trained, and `to_keras` returns the result.
            Ready-made modules are moved to their devices and trained
            themselves.
        num_modules: int, K; `None` for one module per device; or `"auto"` to
            measure the network and the links between the devices now, and to
            take those K and r with K r devices that are predicted to be the
            fastest (see `fr_keras.planning.layouts.choose_layout`). `costs`
            are then the measured ones.
        devices: list of device names, first those of the K modules of the
            first pipeline, then those of the next. `None`: all GPUs, or else
            all logical CPUs, so that little is sent from machine to machine.
        costs: costs of the layers, by which `fr_keras.partition` balances the
            modules; or `"measured"` to measure them now on the first device
            with `fr_keras.measure_costs`.
        replicas: int, r, the number of pipelines of K modules. Each trains on
            its share of every mini-batch, and the copies of a module take the
            same steps, with the sum of their gradients.
        link_dtype: `"bfloat16"` sends floating-point features and error
            gradients in this dtype from module to module, with a relative
            error of up to 2⁻⁹ each; `None` sends them as they are.
        split_points: K - 1 increasing ints, the numbers of operations below
            each boundary, to split there, such as the planner's
            (`fr_keras.planning.planner.Prediction`), whatever `costs` are;
            `None` to balance the modules for this method by `costs`.
        copy: bool. `False` moves the layers of `model` themselves to the
            devices and trains them, so that `model` has the trained weights
            afterwards. A layer that Keras cannot copy is trained itself in any
            case, with a warning.

    Attributes:
        costs: dict from layer name to the pair of costs (forward, backward) by
            which the modules are balanced, or `None` if they were estimated.
        split_points: tuple of ints, where the model was split, or `None` if
            modules were given.
        modules: tuple of K `keras.Model`s (or the given layers), those of the
            first pipeline, which evaluates, predicts and is saved.
        devices: tuple of K full device names, theirs.
        num_modules: int, K.
        replicas: int, r.

    Raises:
        ValueError: if the model cannot be split into that many modules, Keras
            cannot copy it, a device does not exist, or a `tf.distribute`
            strategy is in scope.
        TypeError: if `model` is neither a Sequential or Functional model nor
            a list.
    """

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | Literal["auto"] | None = None,
        devices: Sequence[str] | None = None,
        costs: Mapping[str, Any] | str | None = None, copy: bool = True,
        replicas: int = 1, link_dtype: str | None = None,
        split_points: Sequence[int] | None = None, **kwargs: Any,
    ) -> None:
        check_no_strategy()
        check_replicas(replicas, self.pipeline_class)
        check_link_dtype(link_dtype)
        if isinstance(model, (list, tuple)):
            if (costs, split_points) != (None, None):
                raise ValueError(
                    "`costs` and `split_points` must be None if `model` is a "
                    "list of modules: they are used only to split a model. "
                    f"Received: {costs=}, {split_points=}"
                )
            submodels = check_modules(model, num_modules)
            if not copy:
                raise ValueError(
                    "`copy` must be True, the default, if `model` is a list "
                    "of modules: these are never copied. Received: copy=False"
                )
            network = list(submodels)
        else:
            split_points, replicas, costs = choose_split(
                self, model, num_modules, devices, costs, replicas, split_points
            )
            check_overrides(model)
            network = copy_network(model) if copy else check_network(model)
            submodels = split(network, split_points)
        # `compile` decides by its dtype policy whether to scale the loss.
        whole = submodels[-1] if isinstance(network, list) else network
        kwargs.setdefault("dtype", whole.dtype_policy)
        placed_on = placement.assign_devices(
            len(submodels) * replicas, devices
        )
        if devices is None and split_points is not None and replicas > 1:
            placed_on = arrange_modules(
                placed_on, Graph(model), split_points, submodels
            )
        modules, copies = replicate(
            network, submodels, split_points, placed_on
        )
        super().__init__(network, modules, copy, copies, **kwargs)
        self._given_devices = devices
        self.link_dtype = link_dtype
        self._split_points = (
            None if split_points is None else tuple(split_points)
        )
        self._costs = None
        if isinstance(costs, Mapping):
            self._costs = {name: as_cost(cost) for name, cost in costs.items()}

    @property
    def costs(self) -> dict[str, Any] | None:
        return self._costs

    @property
    def split_points(self) -> tuple[int, ...] | None:
        return self._split_points

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
        if self.places.restore():
            return self._network
        return copy_network(whole(self, self._network))

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
        return whole(self, self._network).export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self._network),
            "num_modules": self.num_modules,
            "devices": self._given_devices,
            "replicas": self.replicas,
            "link_dtype": self.link_dtype,
            "split_points": self.split_points and list(self.split_points),
            # Measuring again would give other costs and perhaps other modules.
            "costs": self.costs and {
                name: list(cost) for name, cost in self.costs.items()
            },
            # Unknown before training begins.
            "data": self.pipeline.chain
            and keras.saving.serialize_keras_object(
                self.pipeline.chain.data
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Re-creates a saved model on the devices available here."""
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        try:
            placement.assign_devices(
                config["num_modules"] * config.get("replicas", 1),
                config["devices"],
            )
        except ValueError:
            warn(
                f"The model was saved with devices={config['devices']!r}, "
                "which are not all available here; it is placed on the default "
                "devices instead."
            )
            config["devices"] = None
        data = config.pop("data")
        if not isinstance(config["model"], list):
            config["copy"] = False  # Nothing else refers to it.
            if "split_points" not in config:
                # By 0.1.0, which balanced all methods as Features Replay.
                config["split_points"] = find_split_points(
                    config["model"], config["num_modules"], config["costs"],
                    ties=cls.pipeline_class.ties_weights,
                )
        model = cls(**config)
        model.places.forget_originals()
        if data is not None:
            model.pipeline.chain = Chain(
                keras.saving.deserialize_keras_object(data)
            )
        return model
