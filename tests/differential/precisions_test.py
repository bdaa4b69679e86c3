"""Mixed precision: whole networks, and single layers, by Keras and by us."""

import keras
import pytest

from tests.differential import networks
from tests.differential.harness import Case, check, compile_arguments
from tests.differential.layer_cases import of_kind

layers = keras.layers


def mixed_network(policy):
    def make():
        keras.config.set_dtype_policy(policy)
        try:
            return networks.network(
                "vector",
                lambda x: layers.Dense(4)(
                    layers.BatchNormalization()(layers.Dense(6)(x))
                ),
            )
        finally:
            keras.config.set_dtype_policy("float32")

    return make


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    """In the same order of operations: a rounding apart, of 8 or 11 bits.

    At a loss scale that does not overflow: an overflow skips the update of
    its module only.
    """

    def compile():
        optimizer = keras.optimizers.SGD(0.05, 0.9)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(
                optimizer, initial_scale=16.0
            )
        return {**compile_arguments(), "optimizer": optimizer}

    check(Case(
        mixed_network(policy), fit=lambda: networks.data("vector"),
        compile=compile, floatx="float32", tolerance=1e-2,
    ))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("layer", ["Dense", "LSTM", "BatchNormalization"])
def test_layer_of_another_precision(layer, dtype):
    def make():
        if layer == "BatchNormalization":
            return layers.BatchNormalization(dtype=dtype)
        return getattr(layers, layer)(4, dtype=dtype)

    check(of_kind("sequence", make, floatx="float32", tolerance=1e-2))
