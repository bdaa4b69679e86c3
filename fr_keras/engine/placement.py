"""Placement of K modules on K devices."""

import keras
import tensorflow as tf

from fr_keras.engine import layer_variables, private
from fr_keras.engine.user_warnings import warn


def assign_devices(num_modules, devices=None):
    """Chooses one device for each module.

    Args:
        num_modules: int, K.
        devices: list of device names in any spelling TensorFlow accepts
            (`"GPU:0"`, `"/device:CPU:1"`,
            `"/job:worker/replica:0/task:1/device:GPU:0"`), or `None` for all
            visible GPUs, else all logical CPU devices; in a cluster, those of
            its workers. If there are fewer devices than modules, modules share
            them round-robin.

    Returns:
        Tuple of `num_modules` full device names; entry k is that of module k.

    Raises:
        ValueError: if a name is not that of an available logical device.
    """
    if devices is None:
        names = [_full_name(device.name) for device in _default_devices()]
        if len(names) < num_modules:
            warn(_shared(names, num_modules))
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
                way_out = (
                    "To create logical CPU devices, call "
                    "fr_keras.use_cpu_devices before TensorFlow starts."
                )
                if name and "GPU" in name and not any(
                    "GPU" in of_device for of_device in full_names
                ):
                    way_out = (
                        "TensorFlow finds no GPU; its CUDA libraries come with "
                        "pip install 'fr-keras[gpu]'."
                    )
                raise ValueError(
                    "`devices` must name available devices: "
                    f"{', '.join(available)}. {way_out} "
                    f"Received: device={device!r}"
                )
    return tuple(names[k % len(names)] for k in range(num_modules))


def _shared(names, num_modules):
    """Returns the warning that modules share devices by default."""
    devices = ", ".join(map(short_name, names))
    way_out = "use fewer modules"
    if not names[0].startswith("/job:localhost"):
        way_out = "use fewer modules or more workers"
    elif names[0].rpartition(":")[0].endswith("CPU"):
        way_out = (
            f"call fr_keras.use_cpu_devices({num_modules}) before anything "
            "else (useful if the CPU has as many cores)"
        )
    return (
        f"{num_modules} modules share {devices} and take turns there, which "
        f"is slower than ordinary training. To train in parallel, {way_out}. "
        "To share devices on purpose, pass `devices`."
    )


def short_name(device):
    """Drops the parts of a device name that all local devices share.

    Args:
        device: full device name.

    Returns:
        str: `CPU:1` for `/job:localhost/replica:0/task:0/device:CPU:1`, and
        `worker:1/GPU:0` for `/job:worker/replica:0/task:1/device:GPU:0`.
    """
    spec = tf.DeviceSpec.from_string(device)
    name = f"{spec.device_type}:{spec.device_index}"
    if spec.job == "localhost":
        return name
    return f"{spec.job}:{spec.task}/{name}"


def host(device: str) -> str:
    """Returns the CPU of the machine that a device is in.

    Args:
        device: full device name.

    Returns:
        Full device name.

    Example:

    ```python
    # Read data on the machine of the first module, even if it is remote.
    with tf.device(fr_keras.cluster.host(model.devices[0])):
        dataset = tf.data.TFRecordDataset(files).map(decode).batch(128)
    ```
    """
    spec = tf.DeviceSpec.from_string(device)
    return spec.replace(device_type="CPU", device_index=0).to_string()


def this_host():
    """Returns the full device name of the first CPU of this process."""
    with tf.device(None):  # Ignore the caller's device scope.
        return host(tf.zeros([]).device)


def is_here(device):
    """Whether a device, given by its full name, belongs to this process."""
    return host(device) == this_host()


def default_num_modules(devices=None):
    """Returns the default number of modules, one for each device.

    Args:
        devices: as for `assign_devices`.

    Returns:
        int: the number of different devices.
    """
    if devices is None:
        return len(_default_devices())
    return len(set(assign_devices(len(devices), devices)))


def _default_devices():
    """Returns all GPUs, else all logical CPU devices; of workers, if any."""
    devices = tf.config.list_logical_devices()
    elsewhere = [d for d in devices if not is_here(d.name)]
    devices = elsewhere or devices
    return [d for d in devices if d.device_type == "GPU"] or [
        d for d in devices if d.device_type == "CPU"
    ]


def _full_name(device):
    """Completes a device name; returns None if it is not one."""
    try:
        if "/" not in device:
            index = "" if ":" in device else ":0"
            device = f"/device:{device.upper()}{index}"
        spec = tf.DeviceSpec.from_string(device)
    except (AttributeError, TypeError, ValueError):
        return None
    here = tf.DeviceSpec.from_string(this_host())
    return here.make_merged_spec(spec).to_string()


def move(parts, device):
    """Moves variables to a device.

    The `keras.Variable`s and their values stay the same. Functions that were
    traced with the variables in their old place must be traced again; this is
    done for `fit`, `evaluate` and `predict` of Keras models. The variables of a
    `keras.layers.TFSMLayer` are not moved, since its saved functions cannot be
    traced again.

    Args:
        parts: list of `keras.layers.Layer` or `keras.metrics.Metric`.
            Variables that do not exist yet will be placed where their part is
            built.
        device: full device name.

    Example:

    ```python
    (device,) = assign_devices(1, ["GPU:1"])
    fr_keras.engine.placement.move([module], device)
    ```
    """
    for part in parts:
        is_layer = isinstance(part, keras.layers.Layer)
        variables = (
            layer_variables.all_variables(part) if is_layer else part.variables
        )
        stay = immovable(part) if is_layer else ()
        move_variables((v, device) for v in variables if id(v) not in stay)
        if is_layer:
            reset_functions(part)


def immovable(layer):
    """Returns the variables of a layer that `move` leaves in place.

    Args:
        layer: `keras.layers.Layer`, including its sublayers.

    Returns:
        Set of the ids of `keras.Variable`s.
    """
    return {
        id(variable) for part in private.sublayers(layer)
        if isinstance(part, keras.layers.TFSMLayer)
        for variable in part.variables
    }


def move_variables(places):
    """Moves individual variables.

    Args:
        places: iterable of pairs of a `keras.Variable` and a full device name.
    """
    for variable, device in places:
        if variable.value.device != device:
            _replace_variable(variable, variable.value.name, device)


def reset_functions(layer):
    """Makes models trace their functions again, after variables were moved.

    Args:
        layer: `keras.layers.Layer`, including all models in it.
    """
    for part in private.sublayers(layer):
        if isinstance(part, keras.Model):
            part.train_function = None
            part.test_function = None
            part.predict_function = None
            if hasattr(part, "generate_function"):  # KerasHub's.
                part.generate_function = None


def _replace_variable(variable, name, device):
    """Gives a `keras.Variable` a new `tf.Variable` with the same value.

    Optimizers use the name of the `tf.Variable` ("dense/kernel:0") to exclude
    it from weight decay by name, and its unique id to exclude the variable
    itself.

    Args:
        variable: `keras.Variable`.
        name: str, the name of the new `tf.Variable`, its scopes included.
        device: full device name.
    """
    old = variable.value
    with tf.device(device), tf.name_scope(""):  # Not the caller's name scope.
        new = tf.Variable(
            tf.identity(old),
            trainable=variable.trainable,
            name=name.removesuffix(":0"),
            aggregation=old.aggregation,
            synchronization=old.synchronization,
        )
    private.replace_value(variable, new)


def copy_name(source, target):
    """Makes optimizers treat the copy of a variable like the original.

    Patterns of an `OptimizerMap`, `exclude_from_weight_decay` and Muon's
    `exclude_layers` look at paths and names; `original_keys` holds the keys
    excluded by `exclude_from_weight_decay(var_list=...)`.

    Args:
        source: `keras.Variable`.
        target: `keras.Variable`, its copy.
    """
    private.set_path(target, source.path)
    if target.value.name != source.value.name:
        _replace_variable(target, source.value.name, target.value.device)
    target.original_keys = {
        private.unique_id(source), *getattr(source, "original_keys", ())
    }
