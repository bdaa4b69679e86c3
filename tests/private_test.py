"""What the library uses of Keras and TensorFlow is there, and does what it did.

When a new version of Keras fails here, and nowhere else yet, it is
`fr_keras/engine/private.py` that has to follow.
"""

import ast
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from fr_keras.engine import private
from tests import arrows

layers = keras.layers

# Underscored names of Python's own, or of our classes in another's hands.
_OURS = {"_asdict", "_exit", "_getframe", "_replace"}


def own_names():
    """Names of attributes and functions that this repository defines."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(
                node.ctx, ast.Store
            ):
                found.add(node.attr)
            elif isinstance(node, ast.Assign):
                found |= {t.id for t in node.targets if hasattr(t, "id")}
    return found


def sources():
    return [
        path for top in ("fr_keras", "trainers")
        for package in arrows.packages(top)
        for path in arrows.files(package).values()
        if path.name != "private.py"
    ]


def test_nothing_else_reaches_into_keras_or_tensorflow():
    ours = own_names() | _OURS
    wrong = []
    for path in sources():
        text = path.read_text()
        wrong += re.findall(r"keras\.src\S*|tensorflow\.python\S*", text)
        wrong += [
            f"{path.name}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Attribute)
            and re.match(r"_[a-z]", node.attr) and node.attr not in ours
        ]
    assert wrong == []


@pytest.mark.parametrize("owner, name", [
    (owner, name) for owner, names in private.OVERRIDDEN.items()
    for name in names
])
def test_what_is_overridden_is_there(owner, name):
    assert callable(getattr(owner, name))


@pytest.fixture
def sequential():
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, name="a"), layers.Dropout(0.5)]
    )


@pytest.fixture
def functional():
    x = keras.Input((3,))
    hidden = layers.Dense(2, name="a")(x)
    return keras.Model(x, [layers.Dense(1, name="b")(hidden), hidden])


class Metered(layers.Layer):
    """A layer that has one of everything."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(2)
        self.meter = keras.metrics.Mean()
        self.seeds = keras.random.SeedGenerator(1)

    def build(self, shape):
        self.scale = self.add_weight(shape=())
        self.count = self.add_weight(shape=(), trainable=False)
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_layers(sequential):
    a, dropout = sequential.layers
    assert list(private.sublayers(sequential))[0] is sequential
    assert {*private.sublayers(sequential, include_self=False)} >= {a, dropout}
    layer = Metered()
    layer(np.ones((1, 2), "float32"))
    trainable, others = private.own_variables(layer)
    assert list(trainable) == [layer.scale]
    assert list(others) == [layer.count]
    assert list(private.own_metrics(layer)) == [layer.meter]
    assert list(private.own_seed_generators(layer)) == [layer.seeds]
    assert list(private.own_layers(layer)) == [layer.inner]
    nested = keras.Sequential([keras.Input((2,)), layer])
    inner = [*private.sublayers(nested, include_self=False, recursive=False)]
    assert layer in inner and layer.inner not in inner


def test_flags_of_a_layer_alone():
    source, target = Metered(), Metered()
    source.trainable = False
    private.copy_trainable(source, target)
    assert not target.trainable and target.inner.trainable
    source = layers.Dense(1, dtype="float64")
    private.copy_dtype_policy(source, target)
    assert target.dtype_policy.name == "float64"


def test_losses_are_added():
    layer = Metered()
    layer(np.ones((1, 2), "float32"))
    private.add_losses(layer, [tf.constant(2.0)])
    assert [float(loss) for loss in layer.losses] == [2.0]


def test_inputs_are_taken_as_they_are():
    class Same(layers.Layer):
        def call(self, x):
            self.seen = x.dtype
            return x

    layer = Same(dtype="float32")
    private.disable_input_conversion(layer)
    layer(tf.ones(2, "float64"))
    assert layer.seen == np.dtype("float64")


def test_graphs(sequential, functional):
    inner = private.functional_of(sequential)
    assert isinstance(inner, private.Functional)
    assert private.functional_of(keras.Sequential([layers.Dense(1)])) is None
    assert private.functional_of(functional) is None
    a = functional.get_layer("a")
    (node,) = private.calls_of(a)
    output, hidden = functional.outputs
    assert private.history_of(hidden)[:2] == (a, 0)
    assert private.history_of(np.ones(1)) is None
    depths = private.nodes_by_depth(functional)
    assert node in [n for nodes in depths.values() for n in nodes]
    assert max(depths) == 2 and depths[2][0].is_input
    x = np.ones((1, 3), "float32")
    whole = functional(x)
    private.set_nodes_by_depth(functional, dict(depths))
    private.set_outputs(functional, hidden)
    np.testing.assert_array_equal(functional(x), whole[1])
    assert functional.output_names == ["a"]


def test_inputs_are_standardized(functional):
    (tensor,) = private.standardize_inputs(functional, np.ones((2, 3), "int32"))
    assert tensor.dtype == tf.float32


def test_masks():
    x = layers.Embedding(3, 2, mask_zero=True)(np.array([[0, 1]]))
    np.testing.assert_array_equal(private.mask_of(x), [[False, True]])
    y = tf.constant([[[1.0], [3.0]]])
    assert private.mask_of(y) is None
    pool = layers.GlobalAveragePooling1D()
    np.testing.assert_array_equal(pool(y), [[2]])
    private.set_mask(y, tf.constant([[False, True]]))
    np.testing.assert_array_equal(pool(y), [[3]])


def test_symbolic_outputs():
    spec = private.compute_output_spec(
        lambda x: keras.ops.sum(x, -1), keras.KerasTensor((None, 3))
    )
    assert spec.shape == (None,)


def test_variables():
    variable = keras.Variable(np.ones(2), name="v")
    other = tf.Variable(np.zeros(2, "float32"))
    key = private.unique_id(variable)
    with keras.StatelessScope([(variable, np.full(2, 5.0))]):
        np.testing.assert_array_equal(private.raw_value(variable), [1, 1])
    private.replace_value(variable, other)
    assert variable.value is other and private.unique_id(variable) == key
    private.set_path(variable, "some/path")
    assert variable.path == "some/path"


def test_scopes_and_seeds():
    assert private.get_stateless_scope() is None
    with keras.StatelessScope() as scope:
        assert private.get_stateless_scope() is scope
    before = private.global_seed_generator().state.numpy()
    keras.random.normal((1,))
    assert (private.global_seed_generator().state.numpy() != before).any()


def test_optimizers():
    variable = keras.Variable(np.ones(2), name="v")
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5),
        use_ema=True, gradient_accumulation_steps=2,
    )
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([np.ones(2, "float32")])
    assert int(private.own_iterations(optimizer)) == 3
    assert int(optimizer.iterations) == 1
    assert private.schedule_of(optimizer).initial_learning_rate == 0.5
    assert private.trained_by(optimizer) == [variable]
    ((of, average),) = private.averages_of(optimizer)
    assert of is variable and average.shape == variable.shape
    (m,), (v,) = private.adam_slots(optimizer)
    assert m.shape == v.shape == (2,)
    shown = keras.optimizers.SGD()
    private.expose_averages(shown, [(of, average)])
    assert private.averages_of(shown) == [(of, average)]


def test_exclusions_go_by_a_key():
    variable = keras.Variable(np.ones(2), name="v")
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay([variable])
    assert private.exclusion_key(optimizer, variable) == (
        private.unique_id(variable)
    )
    assert not optimizer._use_weight_decay(variable)


def test_map_of_optimizers():
    of = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(), {"a": keras.optimizers.Adam()}
    )
    assert private.optimizer_map(keras.optimizers.MultiOptimizer(of)) is of


def test_parts_are_saved_with_an_optimizer(tmp_path):
    optimizer, part = keras.optimizers.SGD(), tf.Module()
    part.v = tf.Variable(3.0)
    private.track(optimizer, part, "part")
    path = tf.train.Checkpoint(o=optimizer).write(str(tmp_path / "c"))
    names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    assert any(name.startswith("o/part/v/") for name in names)


def test_optimizers_of_all_backends():
    for name in ("stateless_apply", "assign", "assign_add", "_var_key"):
        assert callable(getattr(private.BaseOptimizer, name))


def test_models_in_training(functional):
    functional = keras.Model(functional.input, functional.outputs[0])
    assert private.model_supports_jit(functional)
    functional.compile("sgd", "mse", metrics=["mae"])
    symbols = (
        keras.KerasTensor((4, 3)), keras.KerasTensor((4, 1)), None
    )
    private.build_for(functional, symbols)
    x, y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")
    loss = private.compiled_loss(functional)(y, functional(x))
    history = functional.fit(x, y, batch_size=4, verbose=0)
    np.testing.assert_allclose(loss, history.history["loss"][0], rtol=1e-6)
    assert float(private.loss_tracker(functional).count) > 0
    assert "mae" in {
        metric.name for metric in private.compiled_metrics(functional).metrics
    }

    class Skip(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            private.set_initial_epoch(self.model, 2)

    history = functional.fit(x, y, epochs=3, verbose=0, callbacks=[Skip()])
    assert history.epoch == [2]


def test_ignored_classes():
    loss = keras.losses.SparseCategoricalCrossentropy
    assert private.ignores_a_class(loss(ignore_class=0))
    assert not private.ignores_a_class(loss())


def test_epoch_iterator():
    seen = []

    class Look(keras.Model):
        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            seen.append(iterator)
            return super()._maybe_symbolic_build(iterator, data_batch)

    x = keras.Input((3,))
    model = Look(x, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors(
        (np.ones((2, 3), "float32"), np.ones((2, 1), "float32"))
    ).repeat(3)
    model.fit(data, verbose=0)
    epochs = private.EpochIterator(seen[0])
    assert epochs.num_batches == 3
    assert len(list(epochs.data)) == 3
    steps = [(first, last) for first, last, _ in epochs.enumerate_epoch()]
    assert [first for first, _ in steps] == [0, 1, 2]
    epochs.enumerate_epoch = lambda: iter([(0, 0, None)])
    assert len(list(epochs.enumerate_epoch())) == 1
    epochs.restore_enumerate_epoch()
    assert len(list(epochs.enumerate_epoch())) == 3
    assert epochs.steps_per_epoch is None
    epochs.steps_seen, epochs.num_batches = 1, 2
    assert (epochs.steps_seen, epochs.num_batches) == (1, 2)
    epochs.data = [1]
    assert epochs.data == [1]
    epochs.set_current(iter([]))


def test_tensorboard_writes_to_two_directories(tmp_path, functional):
    callback = keras.callbacks.TensorBoard(str(tmp_path))
    callback.set_model(functional)
    train, validation = private.event_directories(callback)
    assert train == str(tmp_path / "train")
    assert validation == str(tmp_path / "validation")


def test_tensorflow():
    handle = private.handle_of(tf.data.Dataset.range(3))
    assert handle.dtype == tf.variant and "CPU" in handle.device
    assert isinstance(private.context_id(), int)
    assert not private.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    assert private.is_op_determinism_enabled()
    disable_op_determinism()
