"""The replay queue: the last few inputs of a module, in `tf.Variable`s."""

import collections

import tensorflow as tf

from fr_keras.engine import structures


class ReplayQueue(tf.Module):
    """A queue of nested tensors in `tf.Variable`s on one device.

    Between two calls of a training function, the entries are stored in
    variables. Inside the function, the queue is a plain Python deque of
    tensors: `load` reads the variables once at the start, `store` assigns them
    once at the end, and moving an entry up costs nothing. A variable of
    unspecified shape takes over the buffer of the assigned tensor, so nothing
    is copied, and entries may have different batch sizes.

    Args:
        length: int, the number of entries kept between iterations.
        device: name of the device that holds the variables.
        name: name of the queue, letters, digits and underscores.

    Example:

    ```python
    queue = ReplayQueue(length=2, device="/device:CPU:0")
    queue.build(tf.TensorSpec([None, 10]))
    entries = queue.load(count=0)  # Nothing was stored yet.
    entries.append(tf.ones([128, 10]))
    entries.append(tf.ones([17, 10]))
    queue.store(entries)
    queue.load(count=2)
    ```
    """

    def __init__(self, length, device, name="replay_queue"):
        super().__init__(name=name)
        self.length = length
        self.device = device
        self._spec = None
        self._slots = None

    def build(self, spec):
        """Creates the variables; if called again, only adopts the new shapes.

        Args:
            spec: nest like one entry, of objects with `shape` (unknown
                dimensions are `None`) and `dtype`, or `None` where entries have
                `None`.

        Raises:
            ValueError: if entries would have other tensors than earlier ones.
        """
        previous, self._spec = self._spec, spec
        if self._slots is not None:
            old, new = (
                [leaf.dtype.name for leaf in structures.flatten(like)]
                for like in (previous, spec)
            )
            if old != new:
                raise ValueError(
                    f"Queue '{self.name}' must hold tensors of the same dtypes "
                    f"in all iterations, here {old}. Call `compile` again to "
                    "train on batches of another kind. "
                    f"Received: dtypes={new}"
                )
            return
        with tf.device(self.device):
            self._slots = [
                [
                    tf.Variable(
                        _empty(leaf.dtype),
                        shape=tf.TensorShape(None),
                        trainable=False,
                        name=f"{self.name}_{i}_{j}",
                    )
                    for j, leaf in enumerate(structures.flatten(spec))
                ]
                for i in range(self.length)
            ]

    def load(self, count):
        """Reads the newest entries.

        Args:
            count: int, the number of entries stored, at most `length`.

        Returns:
            `collections.deque` of nests of tensors, oldest first.
        """
        entries = collections.deque()
        if not count:
            return entries
        with tf.device(self.device), tf.name_scope("queues/"):
            for slot in self._slots[self.length - count:]:
                tensors = []
                for variable, leaf in zip(slot, structures.flatten(self._spec)):
                    tensor = variable.read_value()
                    if not tf.executing_eagerly():
                        tensor.set_shape(leaf.shape)
                    tensors.append(tensor)
                entries.append(structures.pack(self._spec, tensors))
        return entries

    def store(self, entries):
        """Writes the entries back.

        Args:
            entries: nests of tensors, oldest first, at most `length`.

        Raises:
            ValueError: if there are too many.
        """
        if len(entries) > self.length:
            raise ValueError(
                f"Queue '{self.name}' holds at most {self.length} entries. "
                f"Received: {len(entries)} entries"
            )
        if entries and self._slots is None:
            self.build(entries[0])  # Eager execution.
        slots = self._slots[self.length - len(entries):]
        with tf.device(self.device), tf.name_scope("queues/"):
            for slot, entry in zip(slots, entries):
                for variable, tensor in zip(slot, structures.flatten(entry)):
                    variable.assign(tensor, read_value=False)


def _empty(dtype):
    """Returns the value of a variable before anything is stored."""
    if dtype == tf.variant:  # A list of tensors, as loops store it.
        return tf.raw_ops.EmptyTensorList(
            element_shape=[0], max_num_elements=0, element_dtype=tf.float32
        )
    return tf.zeros([0], dtype)
