"""Reading of batches for training, evaluation and prediction."""

import contextlib
import functools
import inspect

import tensorflow as tf

from fr_keras.engine import placement, private


class Reading:
    """The default `tf.distribute.Strategy`, except for reading datasets.

    It turns off the autotuner of tf.data, because its thread sleeps for up to 5
    seconds at a time, and the end of every iterator, and so of `fit`, waits for
    it. `AUTOTUNE` in a dataset then is TensorFlow's fixed default. Datasets
    that set `options.autotune.enabled` themselves are left as they are.
    """

    def experimental_distribute_dataset(self, dataset, options=None):
        """Called by Keras for every dataset that it is going to read.

        Args:
            dataset: `tf.data.Dataset`.
            options: not used.

        Returns:
            `tf.data.Dataset`.
        """
        del options
        if dataset.options().autotune.enabled is not None:
            return dataset
        without = tf.data.Options()
        without.autotune.enabled = False
        return dataset.with_options(without)

    def __getattr__(self, name):
        return getattr(tf.distribute.get_strategy(), name)


class RemoteDataset(tf.data.Dataset):
    """A dataset on another machine, wrapped for use by Keras.

    Args:
        dataset: `tf.data.Dataset` that was created in the scope of a device of
            another process.
    """

    def __init__(self, dataset):
        self._dataset = dataset
        super().__init__(private.handle_of(dataset))

    def _inputs(self):
        return [self._dataset]

    @property
    def element_spec(self):
        return self._dataset.element_spec

    def cardinality(self):
        with tf.device(private.handle_of(self).device):
            return self._dataset.cardinality()

    def options(self):
        with tf.device(private.handle_of(self).device):
            return self._dataset.options()

    def _transformed(self, name, *args, **kwargs):
        with tf.device(private.handle_of(self).device):
            return RemoteDataset(getattr(self._dataset, name)(*args, **kwargs))

    def map(self, *args, **kwargs):
        return self._transformed("map", *args, **kwargs)

    def prefetch(self, *args, **kwargs):
        return self._transformed("prefetch", *args, **kwargs)

    def with_options(self, *args, **kwargs):
        return self._transformed("with_options", *args, **kwargs)


def reads(method):
    """Lets a method of `keras.Model` read datasets on other machines.

    Args:
        method: `fit`, `evaluate` or `predict`.

    Returns:
        The same method, for any dataset in its arguments.
    """

    @functools.wraps(method)
    def reading(*args, **kwargs):
        given = inspect.signature(method).bind(*args, **kwargs)
        for name in {"x", "validation_data"} & given.arguments.keys():
            given.arguments[name] = _wrapped_if_remote(given.arguments[name])
        return method(*given.args, **given.kwargs)

    return reading


def _wrapped_if_remote(data):
    if not isinstance(data, tf.data.Dataset) or isinstance(data, RemoteDataset):
        return data
    if placement.is_here(private.handle_of(data).device):
        return data
    return RemoteDataset(data)


def draw_function(iterator):
    """Chooses how to draw the elements of an iterator.

    Args:
        iterator: iterator, of a dataset on any machine or any other.

    Returns:
        Callable like `next`.
    """
    resource = getattr(iterator, "_iterator_resource", None)
    if resource is None:
        return next
    if not placement.is_here(resource.device):
        return _draw_remotely
    specs = iterator.element_spec
    if type(specs) is tuple and all(type(s) is tf.TensorSpec for s in specs):
        return functools.partial(_draw_tensors, resource, specs)
    return next


def _draw_tensors(resource, specs, iterator):
    """Returns the next element of an iterator over tuples of tensors.

    Takes half of the time of `next`, which can draw elements of any kind.
    """
    del iterator  # Only its resource is needed.
    try:
        return tuple(tf.raw_ops.IteratorGetNext(
            iterator=resource,
            output_types=[spec.dtype for spec in specs],
            output_shapes=[spec.shape for spec in specs],
        ))
    except tf.errors.OutOfRangeError:
        raise StopIteration from None


def _draw_remotely(iterator):
    """Returns the next element of an iterator on another machine.

    At the end of its dataset, `next` would leave an error behind that
    TensorFlow reports later.
    """
    element = iterator.get_next_as_optional()
    if not element.has_value():
        raise StopIteration
    return element.get_value()


def draw_up_to(count, iterator):
    """Returns a list of an iterator's next elements, fewer at its end."""
    draw_next = draw_function(iterator)
    drawn = []
    with contextlib.suppress(StopIteration):
        while len(drawn) < count:
            drawn.append(draw_next(iterator))
    return drawn
