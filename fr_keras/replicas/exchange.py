"""The exchange of gradients between the copies of a module."""

import functools
import math

import tensorflow as tf

from fr_keras.engine import placement
from fr_keras.engine.device_function import DeviceFunction

# Bytes of a gradient that `Packed` sends with others.
_LARGEST_PACKED = 2**16


class Exchange:
    """Adds the gradients of the r copies of a module, and updates all copies.

    Every copy cuts its gradients into r slices, and sends the i-th to copy i,
    which adds the slices of all copies, in the order of the copies, and sends
    the sum to all. So each number is added once, in one place and in one order:
    all copies take the same step, bit for bit. A copy sends and receives
    2 (r - 1) / r times the size of its gradients, as in a ring, but in two
    steps. On CPUs, a slice is some of the gradients, whole: nothing is cut, and
    copies send about as much if no gradient is much larger than the others.

    Only the copies of this module wait for each other.

    Args:
        learners: list of r objects with `device` and `update`, like
            `fr_keras.engine.module.Module`.
        number: int, the number of the module, from 0, for the clock.
        stride: int, how much the numbers of two copies differ.
        run_eagerly: bool, whether to skip tracing.
        jit_compile: bool, whether to compile updates with XLA.
        kind: class, how to cut gradients, `Slices`, `Whole` or `Packed`, or
            `None` for what suits the devices.
    """

    def __init__(
        self, learners, number, stride, run_eagerly, jit_compile, kind=None
    ):
        kind = kind or kind_for([learner.device for learner in learners])
        self._gradients = kind(learners[0], len(learners))
        self._cut, self._add, self._update = (
            [
                DeviceFunction(
                    functools.partial(function, learner), learner.device,
                    compiled, run_eagerly, number + i * stride,
                )
                for i, learner in enumerate(learners)
            ]
            for function, compiled in (
                (self._cut_gradients, False), (self._add_slices, False),
                (self._update_copy, jit_compile),
            )
        )

    def __call__(self, gradients, learning_rate, is_due):
        """Updates all copies with the sum of their gradients.

        Args:
            gradients: list of r lists of tensors, all with the same shapes and
                with `None` in the same places.
            learning_rate: as for `fr_keras.engine.module.Module.update`.
            is_due: the same.
        """
        self._gradients.adopt(gradients[0])
        slices = [cut(of_copy) for cut, of_copy in zip(self._cut, gradients)]
        sums = [add(*parts) for add, parts in zip(self._add, zip(*slices))]
        for update in self._update:
            update(sums, learning_rate, is_due)

    def _cut_gradients(self, learner, gradients):
        del learner
        return self._gradients.cut(gradients)

    def _add_slices(self, learner, *slices):
        del learner
        return [functools.reduce(tf.add, parts) for parts in zip(*slices)]

    def _update_copy(self, learner, sums, learning_rate, is_due):
        learner.update(self._gradients.join(sums), learning_rate, is_due)


def kind_for(devices):
    """How to cut gradients on these devices.

    On CPUs, copying gradients takes longer than sending them
    (docs/parallelism.md). Small ones are an exception between workers, since
    each sending has its price.

    Args:
        devices: list of full device names.

    Returns:
        Class, `Slices`, `Whole` or `Packed`.
    """
    if not all("/device:CPU:" in device for device in devices):
        return Slices
    return Whole if len(set(map(placement.host, devices))) == 1 else Packed


class Whole:
    """Gradients of variables, each of them in one of r slices.

    Args:
        learner: as for `Exchange`.
        count: int, r.
    """

    def __init__(self, learner, count):
        self._learner = learner
        self._count = count

    def adopt(self, gradients):
        """Shares out the variables with a gradient, largest first.

        Args:
            gradients: list of tensors, `tf.IndexedSlices`, or `None`.
        """
        self._slices = [None] * len(gradients)
        sizes = [
            math.prod(variable.shape)
            for variable in self._learner.trainable_variables
        ]
        loads = [0] * self._count
        for j in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
            if gradients[j] is not None:
                self._slices[j] = loads.index(min(loads))
                loads[self._slices[j]] += sizes[j]

    def cut(self, gradients):
        """Returns r lists of dense gradients."""
        return [
            [
                tf.convert_to_tensor(gradient)
                for gradient, other in zip(gradients, self._slices)
                if other == i
            ]
            for i in range(self._count)
        ]

    def join(self, slices):
        """Returns dense gradients, given what `cut` returns."""
        parts = [iter(of_copy) for of_copy in slices]
        return [None if i is None else next(parts[i]) for i in self._slices]


class Packed(Whole):
    """As `Whole`, but the small gradients of a slice are sent together.

    Args:
        learner: as for `Exchange`.
        count: int, r.
    """

    def adopt(self, gradients):
        super().adopt(gradients)
        self._parcels = [{} for _ in range(self._count)]
        for j, i in enumerate(self._slices):
            if i is None:
                continue
            gradient = gradients[j]
            size = gradient.dtype.size * math.prod(self._shape(j))
            is_small = size <= _LARGEST_PACKED
            # A large one is a parcel of its own.
            parcel = gradient.dtype if is_small else j
            self._parcels[i].setdefault(parcel, []).append(j)

    def cut(self, gradients):
        return [
            [_pack([gradients[j] for j in parcel]) for parcel in parcels]
            for parcels in self._in_parcels()
        ]

    def join(self, slices):
        gradients = [None] * len(self._slices)
        for parcels, of_slice in zip(self._in_parcels(), slices):
            for parcel, packed in zip(parcels, of_slice):
                shapes = list(map(self._shape, parcel))
                for j, gradient in zip(parcel, _unpack(packed, shapes)):
                    gradients[j] = gradient
        return gradients

    def _in_parcels(self):
        """For each slice a list of lists of numbers of variables."""
        return [list(parcels.values()) for parcels in self._parcels]

    def _shape(self, j):
        return self._learner.trainable_variables[j].shape


def _pack(gradients):
    if len(gradients) == 1:
        return tf.convert_to_tensor(gradients[0])
    return tf.concat([
        tf.reshape(tf.convert_to_tensor(gradient), [-1])
        for gradient in gradients
    ], 0)


def _unpack(packed, shapes):
    if len(shapes) == 1:
        return [packed]
    return [
        tf.reshape(part, shape) for part, shape in zip(
            tf.split(packed, list(map(math.prod, shapes))), shapes
        )
    ]


class Slices:
    """Gradients of variables as r slices of one buffer for each dtype.

    Args:
        learner: as for `Exchange`.
        count: int, r.
    """

    def __init__(self, learner, count):
        self._learner = learner
        self._count = count

    def adopt(self, gradients):
        """Takes over dtypes, and which variables have a gradient.

        Args:
            gradients: list of tensors, `tf.IndexedSlices`, or `None`.
        """
        self._dtypes = [
            None if gradient is None else gradient.dtype
            for gradient in gradients
        ]

    def cut(self, gradients):
        """Returns r lists of slices, one for each dtype."""
        slices = []
        for dtype, sizes in self._sizes().items():
            buffer = tf.concat([
                tf.reshape(tf.convert_to_tensor(gradient), [-1])
                for gradient, other in zip(gradients, self._dtypes)
                if other == dtype
            ], 0)
            smaller, larger = divmod(sum(sizes), self._count)
            slices.append(tf.split(
                buffer, [smaller + (i < larger) for i in range(self._count)]
            ))
        return list(map(list, zip(*slices)))

    def join(self, slices):
        """Returns dense gradients, given what `cut` returns."""
        parts = {}
        for (dtype, sizes), of_dtype in zip(
            self._sizes().items(), zip(*slices)
        ):
            parts[dtype] = iter(tf.split(tf.concat(of_dtype, 0), sizes))
        return [
            None if dtype is None
            else tf.reshape(next(parts[dtype]), variable.shape)
            for variable, dtype in self._variables()
        ]

    def _variables(self):
        return zip(self._learner.trainable_variables, self._dtypes)

    def _sizes(self):
        """Returns the sizes of all gradients, a list for each dtype."""
        sizes = {}
        for variable, dtype in self._variables():
            if dtype is not None:
                sizes.setdefault(dtype, []).append(math.prod(variable.shape))
        return sizes
