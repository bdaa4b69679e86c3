"""The network that modules form together."""

import keras


def whole(model, network):
    """Returns the network as one Keras model that shares all weights.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`.
        network: the `keras.Model` that was split, or a list of the ready-made
            modules.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: if ready-made modules were given whose input is not known.
    """
    if not isinstance(network, list):
        return network
    first = model.modules[0]
    inputs = first.input if getattr(first, "inputs", None) else None
    if inputs is None and model.pipeline.chain is not None:
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype),
            model.pipeline.chain.data,
        )
    if inputs is None:
        raise ValueError(
            "To merge the modules into one Keras model, the first must "
            "have a known input. Use a Functional model or a Sequential "
            "model with a keras.Input as the first module, or call `fit` "
            f"first. Received: modules[0]={model.modules[0]!r}"
        )
    outputs = inputs
    for submodel in model.modules:
        outputs = submodel(outputs)
    return keras.Model(inputs, outputs, name=model.name)
