"""What runs where: the partitions of a training function, one per device."""

import collections
import glob
import os
import re
import typing

import tensorflow as tf
from tensorboard.compat.proto import config_pb2, event_pb2

_TAG = "graphs"

# What moves data, or is not computed at all.
_PLUMBING = {
    "_Arg", "_DeviceArg", "_DeviceRetval", "_HostRecv", "_HostSend", "_Recv",
    "_Retval", "_Send", "Const", "Identity", "IdentityN", "NoOp",
    "VarHandleOp",
}

# What the host does not compute: it reads data, checks labels, counts, and
# computes learning rates and other single numbers. (Kinds for single
# processors have these names in theirs.)
_OF_DEVICES = re.compile(
    "BatchNorm|BiasAdd|Conv|Einsum|Elu|LayerNorm|MatMul|Pool|Relu|"
    "ResourceApply|ResourceSparseApply|Softmax|Tanh|Xla"
)


class Partition(typing.NamedTuple):
    """The part of a function that runs on one device.

    Attributes:
        device: str, like `CPU:1`.
        operations: dict from the kind of an operation to the number of those
            in a call.
        sent: dict from the name of another device to the number of tensors
            that are sent to it in a call.
    """

    device: str
    operations: dict
    sent: dict

    @property
    def num_operations(self):
        """int, operations in a call."""
        return sum(self.operations.values())

    def misplaced(self):
        """Kinds of operations that a host should not compute, a list."""
        return sorted(filter(_OF_DEVICES.search, self.operations))


def record(run, folder):
    """Runs a callable and returns how a function that it calls is partitioned.

    Args:
        run: callable without arguments that calls the function for the first
            time (later, nothing is partitioned) and returns its
            `tf.Graph`.
        folder: str, an empty directory for what TensorFlow writes.

    Returns:
        List of `Partition`, that of the host first.
    """
    writer = tf.summary.create_file_writer(folder)
    tf.summary.trace_on(graph=True, profiler=False)
    try:
        graph = run()
        with writer.as_default():
            tf.summary.trace_export(_TAG, step=0)
    finally:
        tf.summary.trace_off()
        writer.close()
    (path,) = glob.glob(os.path.join(folder, "*"))
    # TensorFlow records all functions, and no names.
    names = {operation.name for operation in graph.get_operations()}
    partitioned = max(
        _recorded(path).function_graphs, key=lambda function: len(
            names & {node.name for node in function.pre_optimization_graph.node}
        )
    )
    library = graph.as_graph_def().library
    found = [_partition(part, library) for part in partitioned.partition_graphs]
    return sorted(found, key=lambda of: (of.device != "CPU:0", of.device))


def _recorded(path):
    """The graphs that TensorFlow wrote into an event file."""
    for record_ in tf.data.TFRecordDataset(path):
        event = event_pb2.Event.FromString(record_.numpy())
        for value in event.summary.value:
            if value.tag == _TAG:
                return config_pb2.RunMetadata.FromString(
                    value.tensor.string_val[0]
                )
    raise ValueError(f"{path} must contain the graphs of a run")


def _partition(graph, library):
    """A `Partition`; functions that it calls may be only in the library."""
    bodies = {
        function.signature.name: function.node_def
        for function in (*library.function, *graph.library.function)
    }
    device = _short(next(node.device for node in graph.node if node.device))
    operations = collections.Counter()

    def count(nodes):
        for node in nodes:
            called = [
                name for value in node.attr.values()
                for name in (value.func.name, *(
                    function.name for function in value.list.func
                )) if name in bodies
            ] + [node.op] * (node.op in bodies)
            for name in called:
                count(bodies[name])
            if not called and node.op not in _PLUMBING:
                operations[node.op] += 1

    count(graph.node)
    sent = collections.Counter(
        _short(node.attr["recv_device"].s.decode())
        for node in graph.node if node.op in ("_Send", "_HostSend")
    )
    del sent[device]  # To a kernel that works on the host's memory.
    return Partition(device, dict(operations), dict(sent))


def _short(device):
    """`CPU:1` of a full name."""
    spec = tf.DeviceSpec.from_string(device)
    return f"{spec.device_type}:{spec.device_index}"
