"""Rows of recurrent layers and their wrappers."""

import keras

layers = keras.layers


def from_state(layer):
    """A recurrent layer that begins with the last state of another."""
    first = layer.__class__.from_config(
        {**layer.get_config(), "name": "first", "return_state": True}
    )

    def call(x):
        _, *state = first(x)
        return layer(x, initial_state=state)

    return call


def recurrent(layer_class):
    rows = {
        "": ("sequence", lambda: layer_class(3)),
        "return_sequences": (
            "sequence", lambda: layer_class(3, return_sequences=True)
        ),
        "return_state": (
            "sequence", lambda: layer_class(3, return_state=True)
        ),
        "stateful": (
            "stateful",
            lambda: layer_class(3, stateful=True, return_sequences=True),
        ),
        "masked": (
            "masked", lambda: layer_class(3, return_sequences=True)
        ),
        "masked, zero_output_for_mask": (
            "masked",
            lambda: layer_class(
                3, return_sequences=True, zero_output_for_mask=True
            ) if layer_class is not layers.SimpleRNN else layer_class(3),
        ),
        "dropout": (
            "sequence",
            lambda: layer_class(3, dropout=0.3, recurrent_dropout=0.3, seed=4),
        ),
        "initial_state": ("sequence", lambda: from_state(layer_class(3))),
        "go_backwards, unroll": (
            "sequence", lambda: layer_class(3, go_backwards=True, unroll=True)
        ),
        "regularizers, constraints": (
            "sequence",
            lambda: layer_class(
                3, kernel_regularizer="l2", recurrent_regularizer="l2",
                bias_regularizer="l2", activity_regularizer="l2",
                recurrent_constraint=keras.constraints.UnitNorm(),
            ),
        ),
    }
    return rows


def cell(cell_class):
    return {
        "": ("sequence", lambda: layers.RNN(cell_class(3))),
        "dropout": (
            "sequence",
            lambda: layers.RNN(
                cell_class(3, dropout=0.3, recurrent_dropout=0.3, seed=4),
                return_sequences=True,
            ),
        ),
    }


ROWS = {
    "SimpleRNN": recurrent(layers.SimpleRNN),
    "GRU": {
        **recurrent(layers.GRU),
        "reset_after=False": (
            "sequence", lambda: layers.GRU(3, reset_after=False)
        ),
    },
    "LSTM": {
        **recurrent(layers.LSTM),
        "two stateful": (
            "stateful",
            lambda: keras.Sequential([
                layers.LSTM(3, stateful=True, return_sequences=True),
                layers.LSTM(3, stateful=True),
            ]),
        ),
    },
    "SimpleRNNCell": cell(layers.SimpleRNNCell),
    "GRUCell": cell(layers.GRUCell),
    "LSTMCell": cell(layers.LSTMCell),
    "StackedRNNCells": {
        "": (
            "sequence",
            lambda: layers.RNN(
                layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)])
            ),
        ),
    },
    "RNN": {
        "": ("sequence", lambda: layers.RNN(layers.GRUCell(3))),
        "list of cells, return_state": (
            "sequence",
            lambda: layers.RNN(
                [layers.GRUCell(3), layers.GRUCell(2)], return_state=True
            ),
        ),
        "stateful": (
            "stateful",
            lambda: layers.RNN(layers.LSTMCell(3), stateful=True),
        ),
    },
    "Bidirectional": {
        "": ("sequence", lambda: layers.Bidirectional(layers.LSTM(3))),
        "sum of sequences": (
            "masked",
            lambda: layers.Bidirectional(
                layers.GRU(3, return_sequences=True), merge_mode="sum"
            ),
        ),
        "two layers": (
            "sequence",
            lambda: layers.Bidirectional(
                layers.LSTM(3, return_sequences=True),
                backward_layer=layers.GRU(
                    3, go_backwards=True, return_sequences=True
                ),
            ),
        ),
        "return_state": (
            "sequence",
            lambda: layers.Bidirectional(layers.LSTM(3, return_state=True)),
        ),
        "stateful": (
            "stateful",
            lambda: layers.Bidirectional(layers.LSTM(3, stateful=True)),
        ),
    },
    "TimeDistributed": {
        "": ("sequence", lambda: layers.TimeDistributed(layers.Dense(3))),
        "masked": (
            "masked", lambda: layers.TimeDistributed(layers.Dense(3))
        ),
        "of batch normalization": (
            "sequence",
            lambda: layers.TimeDistributed(layers.BatchNormalization()),
        ),
        "of a model": (
            "sequence",
            lambda: layers.TimeDistributed(
                keras.Sequential([
                    keras.Input((4,)), layers.Dense(3, activation="tanh"),
                    layers.Dense(2),
                ])
            ),
        ),
        "of dropout": (
            "sequence",
            lambda: layers.TimeDistributed(layers.Dropout(0.4, seed=3)),
        ),
    },
    "ConvLSTM1D": {
        "": ("image", lambda: layers.ConvLSTM1D(2, 2)),
        "stateful": (
            "stateful image", lambda: layers.ConvLSTM1D(2, 2, stateful=True)
        ),
    },
    "ConvLSTM2D": {
        "": ("volume", lambda: layers.ConvLSTM2D(2, 2)),
        "sequences, dropout": (
            "volume",
            lambda: layers.ConvLSTM2D(
                2, 2, padding="same", return_sequences=True, dropout=0.3,
                recurrent_dropout=0.3, seed=3,
            ),
        ),
    },
    "ConvLSTM3D": {"": ("video", lambda: layers.ConvLSTM3D(2, 2))},
}
