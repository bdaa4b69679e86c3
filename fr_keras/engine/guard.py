"""A guard that blocks changes based on non-finite numbers."""

import tensorflow as tf

from fr_keras.engine import placement


class Guard:
    """Makes a change only if the numbers it is based on are finite.

    Its counters live on the same device as the change, so that nothing waits
    for another device.

    Args:
        device: full device name.
    """

    def __init__(self, device):
        with tf.device(device):
            self._calls, self._first, self._withheld = (
                tf.Variable(value, dtype=tf.int64, trainable=False)
                for value in (0, -1, 0)
            )

    def __call__(self, tensors, change):
        """Calls `change` if all numbers are finite.

        Args:
            tensors: list of tensors or `None`.
            change: callable without arguments.
        """
        call = self._calls.assign_add(1)

        def withhold():
            self._withheld.assign_add(1)
            is_first = self._first < 0
            self._first.assign(tf.where(is_first, call - 1, self._first))

        def apply():
            change()

        tf.cond(all_finite(tensors), apply, withhold)

    @property
    def counters(self):
        """List of three `tf.Variable`: calls, first withheld, withheld."""
        return [self._calls, self._first, self._withheld]

    def reset(self):
        """Forgets the changes withheld so far."""
        self._withheld.assign(0)
        self._first.assign(-1)


class Guards:
    """Several guards, read together: a single small tensor goes to the host.

    Args:
        guards: list of `Guard`.
    """

    def __init__(self, guards):
        self._guards = guards

        def look():
            with tf.device(placement.this_host()):
                return tf.stack([
                    tf.stack([tf.identity(v) for v in guard.counters])
                    for guard in guards
                ])

        # Traced now, for the reason that `NonFiniteVariables` gives.
        self._look = tf.function(look, autograph=False).get_concrete_function()

    def read(self):
        """Reports the changes withheld since the last `read`.

        Returns:
            List of tuples `(withheld, ago)` of ints, one per guard: how many
            changes were withheld, and how many calls ago the first of them was
            (1: the last call).
        """
        found = []
        for guard, counters in zip(self._guards, self._look().numpy()):
            calls, first, withheld = map(int, counters)
            if withheld:
                guard.reset()
            found.append((withheld, calls - first if withheld else 0))
        return found


def all_finite(tensors):
    """Whether all numbers are finite, as a scalar bool tensor.

    Args:
        tensors: list of tensors, `tf.IndexedSlices`, or `None`.
    """
    values = [
        tensor.values if isinstance(tensor, tf.IndexedSlices) else tensor
        for tensor in tensors if tensor is not None
    ]
    return tf.reduce_all([
        tf.reduce_all(tf.math.is_finite(value)) for value in values
        if value.dtype.is_floating
    ])


class NonFiniteVariables:
    """Finds variables whose values make training impossible.

    These are NaN and, in trainable variables, infinity. Other variables may
    contain infinity on purpose, for instance an additive mask.

    Args:
        variables: list of `keras.Variable`.
        device: full name of the device that holds them.
    """

    def __init__(self, variables, device):
        self._variables = [
            v for v in variables if tf.as_dtype(v.dtype).is_floating
        ]

        def find():
            with tf.device(device):
                return tf.stack([
                    tf.reduce_any(
                        ~tf.math.is_finite(v.value) if v.trainable
                        else tf.math.is_nan(v.value)
                    )
                    for v in self._variables
                ])

        # Traced now: if a worker hangs later, tracing or running single
        # operations would block all threads of this process, even the one that
        # detects the hang.
        self._find = None
        if self._variables:
            self._find = tf.function(
                find, autograph=False
            ).get_concrete_function()
            self._find()

    def first(self):
        """Returns the first such variable, or `None`."""
        if self._find is None:
            return None
        return next(
            (v for v, bad in zip(self._variables, self._find().numpy()) if bad),
            None,
        )


def finite_or_current(variable, value):
    """Returns a variable's new value, or the current one if not finite."""
    if not tf.as_dtype(value.dtype).is_floating:
        return value
    return tf.where(all_finite([value]), value, variable)
