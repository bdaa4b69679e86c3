"""Everything of module k is on device k, operation by operation."""

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

K = 4
DEVICES = [f"CPU:{k}" for k in (3, 1, 5, 2)]


def keeping_gpipe(*args, **options):
    return fr_keras.GPipe(*args, recompute=False, **options)


ALGORITHMS = [*fr_keras.ALGORITHMS.values(), keeping_gpipe]


def ready_made_modules():
    layers = keras.layers
    modules = []
    for k in range(1, K + 1):
        module = [
            keras.Input((6, 6, 4)),
            layers.Conv2D(
                4, 3, padding="same", name=f"part{k}_conv",
                kernel_regularizer=keras.regularizers.L2(1e-3),
            ),
            fr_keras.layers.FusedBatchNormalization(name=f"part{k}_norm"),
            layers.ReLU(name=f"part{k}_relu"),
            layers.Dropout(0.1, seed=k, name=f"part{k}_drop"),
        ]
        if k == K:
            module += [
                layers.GlobalAveragePooling2D(name="part4_pool"),
                layers.Dense(3, name="part4_logits"),
            ]
        modules.append(keras.Sequential(module))
    return modules


def trained(algorithm, steps_per_execution):
    modules = ready_made_modules()
    model = algorithm(modules, devices=DEVICES)
    model.compile(
        keras.optimizers.Adam(0.01, weight_decay=1e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    x = np.ones([8 * 4, 6, 6, 4], "float32")
    model.fit(x, np.zeros(8 * 4, int), batch_size=4, verbose=0)
    return model


# TensorFlow puts these where the variable is that they read or write, and
# with soft placement off fails if it cannot.
FOLLOWS_ITS_VARIABLE = re.compile(
    "ReadVariableOp|Assign(Add|Sub)?VariableOp|Resource.*|VarHandleOp"
)
NO_WORK = {"Placeholder", "NoOp", "Identity", "Const"}


def device_index(device):
    match = re.search(r"CPU:(\d+)$", device)
    return int(match.group(1)) if match else None


def calls(graph):
    """Calls of functions in a graph: (operation, body)."""
    for op in graph.get_operations():
        if "PartitionedCall" in op.type:
            name = op.node_def.attr["f"].func.name
            yield op, graph._get_function(name).graph


def devices_in(graph):
    """Devices that the operations of a graph and its functions name."""
    own = {device_index(op.device) for op in graph.get_operations()}
    return own.union(*(devices_in(body) for _, body in calls(graph)))


def check_work(graph, index, counts):
    """Checks a graph whose operations belong to several modules."""
    for op, body in calls(graph):
        # The work of one module: forward, backward or update. (A function of
        # several devices would run on the host of a cluster, which would get
        # its arguments, and its results such as gradients.)
        inside = devices_in(body) - {None}
        assert inside == {device_index(op.device)}
        check_module(body, index, device_index(op.device), counts)
    check_names(graph, index, counts)


def check_module(graph, index, device, counts):
    """Checks a function that must belong to the module on one device."""
    for op in graph.get_operations():
        if device_index(op.device) is None:
            assert op.type in NO_WORK or FOLLOWS_ITS_VARIABLE.match(op.type), op
    module = index.index(device) + 1
    # All layers and variables in it are of that module.
    for op in graph.get_operations():
        for part in re.findall(r"part(\d)_", op.name):
            assert int(part) == module, op.name
    check_names(graph, index, counts)


def check_names(graph, index, counts):
    """Operations made by a layer, forward or backward, carry its name."""
    for op in graph.get_operations():
        match = re.search(r"part(\d)_", op.name)
        if not match or op.type in NO_WORK:
            continue
        if FOLLOWS_ITS_VARIABLE.match(op.type):
            continue
        assert device_index(op.device) == index[int(match.group(1)) - 1], op
        counts[int(match.group(1))] += 1


@pytest.mark.parametrize(
    "steps_per_execution", [pytest.param(1, marks=pytest.mark.slow), 4]
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.quick_cases("FeaturesReplay-4", "GPipe-4")
def test_everything(hard_placement, algorithm, steps_per_execution):
    assert not tf.config.get_soft_device_placement()
    model = trained(algorithm, steps_per_execution)
    index = [device_index(name) for name in model.devices]
    graph = model.training.graph

    counts = dict.fromkeys(range(1, K + 1), 0)
    check_work(graph, index, counts)

    # Convolution and normalization, forward and backward: the check has seen
    # the work. The host (CPU:0) counts steps and checks labels.
    assert min(counts.values()) >= 8, counts
    assert devices_in(graph) == {None, 0, *index}
    for module, device in zip(model.pipeline.modules, model.devices):
        state = module.submodel.variables + module.optimizer.variables
        assert {variable.value.device for variable in state} == {device}
    if algorithm in (fr_keras.FeaturesReplay, fr_keras.DDG):
        for queues in (model.pipeline._replay_queues, model.pipeline._deltas):
            for queue, device in zip(queues, model.devices[:-1], strict=True):
                assert {v.device for v in queue.variables} == {device}


def is_large(tensor):
    """Whether a tensor is as large as a batch or a variable."""
    if tensor.dtype in (tf.resource, tf.variant, tf.string):
        return False
    return tensor.shape.num_elements() is None or (
        tensor.shape.num_elements() > len(DEVICES)
    )


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("algorithm", [
    *ALGORITHMS,
    pytest.param(
        functools.partial(fr_keras.FeaturesReplay, num_microbatches=2),
        id="micro-batches",
    ),
    pytest.param(
        functools.partial(fr_keras.FeaturesReplay, link_dtype="bfloat16"),
        id="bfloat16",
    ),
    pytest.param(
        functools.partial(fr_keras.Pipeline, schedule="zb-h1"), id="zb-h1"
    ),
])
@pytest.mark.quick_cases("Backprop-2", "FeaturesReplay-1")
def test_nothing_large_goes_by_way_of_the_host(algorithm, replicas):
    modules = ready_made_modules()
    model = algorithm(
        [modules[0], modules[-1]], replicas=replicas,
        devices=DEVICES[:2 * replicas],
    )
    model.compile(
        keras.optimizers.Adam(0.01, global_clipnorm=1.0, use_ema=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], steps_per_execution=3,
    )
    x = np.ones([24, 6, 6, 4], "float32")
    model.fit(x, np.zeros(24, int), batch_size=8, verbose=0)
    # What has no device is on the host, which is another machine in a cluster.
    assert [
        op for op in model.training.graph.get_operations()
        if not op.device and op.type not in NO_WORK
        and not FOLLOWS_ITS_VARIABLE.match(op.type)
        and any(map(is_large, [*op.inputs, *op.outputs]))
    ] == []


def skipping_model():
    """The second input passes modules 1 and 2 by."""
    layers = keras.layers
    a, b = keras.Input((4,)), keras.Input((4,))
    x = layers.Dense(4, name="of_1")(a)
    y = layers.Dense(4, name="of_2")(x)
    z = layers.Concatenate(name="join")([y, b])
    return keras.Model([a, b], layers.Dense(2, name="of_3")(z))


def test_nothing_waits_for_what_only_passes():
    model = fr_keras.FeaturesReplay(
        skipping_model(), 3, devices=DEVICES[:3],
        costs={"of_1": 1, "of_2": 1, "of_3": 1, "join": 0},
    )
    assert [len(m.outputs) for m in model.modules] == [2, 2, 1]
    model.compile("sgd", "mse", steps_per_execution=4)
    x = np.ones([16, 4], "float32"), np.ones([16, 4])  # One is to be cast.
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros([16, 2])))
    model.fit(data.batch(4), verbose=0)
    graph = model.training.graph
    replays = [
        operation for operation in graph.get_operations()
        if operation.type.endswith("PartitionedCall")
        and operation.get_attr("f").name.startswith("__inference_replay")
    ]
    assert len(replays) == 2 * 4
    for replay in replays:
        for waited_for in replay.control_inputs:
            assert waited_for.device == replay.device, waited_for
    casts = [o for o in graph.get_operations() if o.type == "Cast"]
    host = fr_keras.cluster.host(model.devices[0])
    of_data = [
        o for o in casts if o.inputs[0].op.type == "Placeholder"
        and o.inputs[0].dtype == tf.float64 and o.inputs[0].shape[-1] == 4
    ]
    assert len(of_data) == 4
    assert {o.device for o in of_data} == {host}
