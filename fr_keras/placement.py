"""Placement: K modules onto K devices."""

import keras
import tensorflow as tf


def assign_devices(num_modules, devices=None):
    """Chooses one device for each module.

    Args:
        num_modules: int, K.
        devices: list of device names in any spelling TensorFlow accepts
            (`"GPU:0"`, `"/device:CPU:1"`,
            `"/job:worker/replica:0/task:1/device:GPU:0"`), or `None` for all
            GPUs that there are, else all logical CPU devices. Fewer devices
            than modules share them round-robin.

    Returns:
        Tuple of `num_modules` full device names; module k is on entry k.

    Raises:
        ValueError: if a name is not that of an available logical device.
    """
    if devices is None:
        names = [_full_name(device.name) for device in _default_devices()]
    else:
        if isinstance(devices, str) or not devices:
            raise ValueError(
                "`devices` must be a non-empty list of device names, or None "
                f"for the default. Received: devices={devices!r}"
            )
        names = [_full_name(device) for device in devices]
        available = [d.name for d in tf.config.list_logical_devices()]
        full_names = [_full_name(name) for name in available]
        for device, name in zip(devices, names):
            if name not in full_names:
                raise ValueError(
                    "`devices` must name available devices, which are "
                    f"{', '.join(available)} (logical CPU devices are made "
                    "with tf.config.set_logical_device_configuration before "
                    f"TensorFlow starts). Received: device={device!r}"
                )
    return tuple(names[k % len(names)] for k in range(num_modules))


def default_num_modules(devices=None):
    """Number of modules when none is given: one for each device.

    Args:
        devices: as for `assign_devices`.

    Returns:
        int: the number of different devices.
    """
    if devices is None:
        return len(_default_devices())
    return len(set(assign_devices(len(devices), devices)))


def _default_devices():
    """All GPUs, or else all logical CPU devices."""
    return tf.config.list_logical_devices(
        "GPU"
    ) or tf.config.list_logical_devices("CPU")


def _full_name(device):
    """`device` with what it leaves out, or None if it is no device name."""
    local = tf.DeviceSpec.from_string(tf.zeros([]).device)
    try:
        if "/" not in device:
            index = "" if ":" in device else ":0"
            device = f"/device:{device.upper()}{index}"
        spec = tf.DeviceSpec.from_string(device)
    except (AttributeError, TypeError, ValueError):
        return None
    return local.replace(device_index=0).make_merged_spec(spec).to_string()


def place(model, device):
    """Puts a Keras model on a device.

    A layer's variables live on the device on which they were made, so a model
    that was built elsewhere is copied: same configuration, same weights, same
    state of its random number generators. The given model is left as it is.

    Args:
        model: `keras.Model`. A model without variables as yet is returned
            unchanged: its variables will be made on the device later.
        device: full device name.

    Returns:
        `keras.Model` all of whose variables are on `device`.

    Raises:
        ValueError: if the model has to be copied and cannot be.

    Example:

    ```python
    module = fr_keras.placement.place(module, "/device:GPU:1")
    ```
    """
    if all(variable.value.device == device for variable in model.variables):
        return model
    return copy_model(model, device)


def copy_model(model, device=None):
    """Copies a Keras model with its weights and random state.

    Args:
        model: `keras.Model`.
        device: full device name, or `None` for TensorFlow's default.

    Returns:
        A `keras.Model` with variables of its own, on that device.

    Raises:
        ValueError: if Keras cannot rebuild the model from its configuration.
    """
    try:
        with tf.device(device):
            if _is_graph(model):
                copy = keras.models.clone_model(
                    model, clone_function=_copy_layer
                )
            else:
                copy = _copy_layer(model)
                if model.built:
                    copy.build_from_config(model.get_build_config())
        copy_state(model, copy)
    except Exception as error:
        raise ValueError(
            f"Module '{model.name}' was built on another device than its own "
            "and cannot be copied there from its configuration; build it "
            "under `tf.device(...)`, pass it unbuilt, or give its classes "
            f"`get_config`. Received: module={model!r} ({error})"
        ) from error
    return copy


def copy_state(source, target):
    """Copies all variables from one layer to another of the same make."""
    if len(source.variables) != len(target.variables):
        raise ValueError(
            f"Layer '{target.name}' must have the {len(source.variables)} "
            f"variables of layer '{source.name}'. "
            f"Received: {len(target.variables)} variables"
        )
    for theirs, ours in zip(source.variables, target.variables):
        ours.assign(theirs)


def _is_graph(model):
    """Whether a model is Sequential or Functional."""
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _copy_layer(layer):
    """A fresh layer with the same configuration."""
    if _is_graph(layer):
        return keras.models.clone_model(layer, clone_function=_copy_layer)
    if type(layer).get_config is keras.Model.get_config:
        # Keras' default leaves the constructor's arguments out.
        raise ValueError(f"class {type(layer).__name__} has no `get_config`")
    config = layer.get_config()
    if isinstance(layer, keras.layers.Lambda):
        # Its function is at hand: no need to deserialize code.
        config["function"] = layer.function
        return layer.__class__(**config)
    return layer.__class__.from_config(config)
