"""Every layer of Keras in a network that is trained, by Keras and by us."""

import keras
import pytest

from tests.differential import layer_cases, networks
from tests.differential.harness import BadCase, Case, check, train
from tests.differential.layer_cases.calls import on_list
from tests.differential.selection import parameters

FAST = {
    ("BatchNormalization", "of images"), ("Bidirectional", "stateful"),
    ("Dropout", ""), ("Embedding", "mask_zero"), ("LSTM", "stateful"),
    ("MultiHeadAttention", "masked, dropout"), ("RandomFlip", ""),
    ("ReversibleEmbedding", "tied"), ("SpectralNormalization", ""),
    ("StringLookup", ""),
}


def names():
    for name in sorted(layer_cases.classes()):
        if name not in layer_cases.LEFT_OUT:
            for option in layer_cases.LAYERS.get(name, {""}):
                yield name, option


@pytest.mark.parametrize("name, num_modules", parameters(names(), FAST))
@pytest.mark.quick_cases(
    "BatchNormalization", "LSTM stateful", "MultiHeadAttention masked",
    "SpectralNormalization",
)
def test_is_trained_as_by_keras(name, num_modules):
    layer, option = name
    if layer in layer_cases.LAYERS:
        check(layer_cases.case(layer, option, num_modules=num_modules))
    else:
        check(case_of_unknown(layer_cases.classes()[layer]))


def case_of_unknown(layer_class):
    """The first kind of network that a layer without arguments fits in."""
    problems = {}
    for kind in networks.KINDS:
        for call in (lambda layer: layer, on_list):
            case = layer_cases.of_kind(kind, lambda call=call: call(
                layer_class()
            ))
            try:
                train(case, None)
                return case
            except Exception as error:
                problems[kind] = str(error).splitlines()[0]
    pytest.fail(
        f"{layer_class.__name__} fits in no network as it is: add a row to "
        f"`layer_cases.LAYERS`, or a reason to `LEFT_OUT`. {problems}"
    )


def test_a_layer_of_a_later_version_enters_by_itself():
    class Later(keras.layers.Dense):
        def __init__(self, **kwargs):
            super().__init__(3, **kwargs)

    case = case_of_unknown(Later)
    assert isinstance(case, Case)
    assert any(isinstance(layer, Later) for layer in case.make().layers)


def test_a_layer_that_fits_nowhere_is_told():
    class Nowhere(keras.layers.Layer):
        def __init__(self, argument):
            super().__init__()

    with pytest.raises(pytest.fail.Exception, match="LAYERS.*LEFT_OUT"):
        case_of_unknown(Nowhere)


def test_every_class_is_a_case_or_left_out(tell):
    found, left_out = layer_cases.classes(), layer_cases.LEFT_OUT
    listed = layer_cases.LAYERS.keys()
    assert left_out.keys() <= found.keys(), "of an earlier version"
    assert listed <= found.keys(), "of an earlier version"
    assert not listed & left_out.keys()
    tried = found.keys() - left_out.keys()
    tell(
        f"{len(list(names()))} options of {len(tried)} layers, of which "
        f"{len(tried - listed)} are tried without arguments: "
        f"{sorted(tried - listed)}"
    )
    for name, reason in (left_out | layer_cases.OPTIONS_LEFT_OUT).items():
        tell(f"left out: {name}: {reason}")


def test_case_that_proves_nothing_is_told():
    case = layer_cases.of_kind(
        "vector", lambda: keras.layers.Rescaling(float("nan"))
    )
    with pytest.raises(BadCase, match="not finite"):
        check(case)
