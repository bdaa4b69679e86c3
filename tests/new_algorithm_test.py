"""The algorithm of docs/new_algorithm.md works as it is written."""

import pathlib
import re

import keras
import pytest
import tensorflow as tf

from tests import agreement, reference

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "new_algorithm.md"
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def program():
    """The names that the program defines."""
    names = {"__name__": "new_algorithm"}
    exec(compile(PROGRAM, str(PAGE), "exec"), names)
    return names


def test_is_short():
    code = [line for line in PROGRAM.splitlines() if line.strip()]
    assert len(code) <= 50


def plain_greedy_learning(modules, heads, optimizer, learning_rate, batches):
    """Every module with its head is a network that is trained by itself."""
    rules = [optimizer() for _ in modules]
    rules_of_heads = [optimizer() for _ in heads]
    losses = []
    for t, (x, y) in enumerate(batches):
        h = tf.constant(x)
        for k, module in enumerate(modules):
            trained = [(module, rules[k])]
            if k < len(heads):
                trained.append((heads[k], rules_of_heads[k]))
            weights = [sum(part.weights, []) for part, _ in trained]
            with tf.GradientTape() as tape:
                tape.watch(weights)
                h = out = module.forward(module.weights, h, True)
                for part, _ in trained[1:]:
                    out = part.forward(part.weights, out, True)
                loss = reference.cross_entropy(y, out)
            gradients = tape.gradient(loss, weights)
            for (part, rule), of_part in zip(trained, gradients):
                reference.update(part, rule, of_part, learning_rate(t))
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("num_modules", [1, 3])
@pytest.mark.parametrize(
    "net", [agreement.dense_net, agreement.convolutional_net]
)
@pytest.mark.quick_cases("convolutional_net-3")
def test_agrees_with_reference(float64, program, num_modules, net):
    make_head, models = program["make_head"], []

    def seeded_head(features, units, device, optimizer):
        keras.utils.set_random_seed(int(device[-1]))
        return make_head(features, units, device, optimizer)

    program["make_head"] = seeded_head

    def algorithm(*args):
        models.append(program["GreedyLearning"](*args))
        return models[0]

    def plain(modules, *args):
        (model,) = models
        heads = [
            seeded_head(module.output, 4, device, keras.optimizers.SGD())
            for module, device in zip(model.modules[:-1], model.devices)
        ]
        heads = [reference.PlainModule(h.submodel.layers) for h in heads]
        return plain_greedy_learning(modules, heads, *args)

    agreement.check(algorithm, plain, num_modules, net, "nesterov", steps=5)
