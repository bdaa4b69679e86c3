"""The table of the modules against independent counts."""

import re

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras.visualization.summary import size_text


def lines_of(modules, **kwargs):
    lines = []
    result = fr_keras.summary(modules, print_fn=lines.append, **kwargs)
    assert result is None
    return lines


def rows_of(lines):
    """Cells of the modules' rows, by column."""
    header = re.split(r"  +", lines[0].strip())
    cells = [re.split(r"  +", line.strip()) for line in lines]
    return [dict(zip(header, row)) for row in cells if row[0].isdigit()]


def tiny():
    """Forward costs 4*6+8*6=72, 6*8+8*8=112 and 8*2+8*2=32."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, name="a"),
            keras.layers.Dense(8, name="b"),
            keras.layers.Dense(2, name="c"),
        ]
    )


def test_table_of_a_tiny_model():
    assert lines_of(fr_keras.partition(tiny(), 2)) == [
        "module  layers  parameters  trainable   cost  inputs kept",
        "---------------------------------------------------------",
        "        input 4 float32, 16 B",
        "     1       1          30         30  40.0%     2 x 16 B",
        "        a",
        "        -> 6 float32, 24 B",
        "     2       2          74         74  60.0%     1 x 24 B",
        "        b ... c",
        "        output 2 float32, 8 B",
        "---------------------------------------------------------",
        "Balance: module 2 is slowest and takes 1.17 times as long as in "
        "perfect balance",
        "Speed-up over back-propagation: at most 1.50 (in perfect balance on "
        "K devices: 1.75)",
        "Replay queues: 56 B per example. Module k keeps K-k+1 inputs, "
        "without passthrough tensors.",
        "Parameters: 104, of which 104 trainable",
    ]


def test_given_costs():
    costs = {"a": 1, "b": 1, "c": 2}
    modules = fr_keras.partition(tiny(), 3, costs)
    # Iterations cost 4, 4 and 6; balanced: 4 forward units in 11/12 T.
    lines = lines_of(modules, costs=costs)
    assert [row["cost"] for row in rows_of(lines)] == [
        "28.6%", "28.6%", "42.9%"
    ]
    text = "\n".join(lines)
    assert "module 3 is slowest and takes 1.25 times" in text  # 6 / (48/10)
    assert "at most 2.00 (in perfect balance on K devices: 2.50)" in text


@pytest.mark.parametrize("num_modules", [1, 2, 4])
def test_parameters_and_layers_add_up(num_modules):
    model = fr_keras.models.resnet(20, 10)
    model.layers[1].trainable = False
    lines = lines_of(fr_keras.partition(model, num_modules))
    rows = rows_of(lines)

    def total(column):
        return sum(int(row[column].replace(",", "")) for row in rows)

    trainable = sum(
        int(np.prod(v.shape)) for v in model.trainable_variables
    )
    assert len(rows) == num_modules
    assert total("parameters") == model.count_params()
    assert total("trainable") == trainable
    assert total("layers") == len(model.layers) - 1  # But the input.
    assert lines[-1] == (
        f"Parameters: {model.count_params():,}, of which {trainable:,} "
        "trainable"
    )
    shares = [float(row["cost"].rstrip("%")) for row in rows]
    assert sum(shares) == pytest.approx(100, abs=0.05 * num_modules)
    assert max(map(len, lines)) <= 100


def test_what_passes_is_told_and_not_kept():
    inputs = keras.Input((4,), name="x")
    other = keras.Input((3,), dtype="float64", name="z")
    stem = keras.layers.Dense(6, name="stem")(inputs)
    x = keras.layers.Dense(5, name="inner")(stem)
    x = keras.layers.Concatenate(name="join")([x, stem, other])
    x = keras.layers.Dense(1, name="head")(x)
    model = keras.Model([inputs, other], [x, stem])
    costs = {"stem": 1, "inner": 1, "join": 0, "head": 1}

    lines = lines_of(fr_keras.partition(model, 3, costs), costs=costs)

    kept = [row["inputs kept"] for row in rows_of(lines)]
    assert kept == [
        "3 x 16 B",  # x
        "2 x 24 B",  # stem
        "1 x 68 B",  # z, stem, and what `inner` made
    ]
    text = "\n".join(lines)
    assert text.count("3 float64, 24 B, from the input to 3") == 3
    assert text.count(
        "6 float32, 24 B, from 1 to 2 and 3 and the output"
    ) == 3
    assert "        -> 3 tensors, 68 B" in lines
    assert "           5 float32, 20 B" in lines
    assert "Replay queues: 164 B" in text


def test_bytes_of_types_and_unknown_lengths():
    modules = fr_keras.partition(
        keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                keras.layers.Embedding(9, 4, dtype="mixed_bfloat16"),
                keras.layers.LSTM(5),
            ]
        ),
        2,
    )
    text = "\n".join(lines_of(modules))
    assert "input ? int32, 4 B" in text
    assert "-> ?x4 bfloat16, 8 B" in text


def test_nested_sequential_costs_what_its_layers_do():
    def layers():
        return [keras.layers.Conv2D(3, 3), keras.layers.GlobalMaxPooling2D()]

    head = keras.layers.Dense(900)
    plain = keras.Sequential([keras.Input((9, 9, 3)), *layers(), head])
    nested = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            keras.Sequential([keras.Input((9, 9, 3)), *layers()]),
            keras.layers.Dense(900),
        ]
    )
    shares = [
        [row["cost"] for row in rows_of(lines_of(fr_keras.partition(m, 2)))]
        for m in (plain, nested)
    ]
    # 4 * (49 * 81 + 8 * 50 * 3) and 3 * (3 * 900 + 8 * 900).
    assert shares == [["41.0%", "59.0%"]] * 2


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3, name="within")

    def call(self, x):
        return self.dense(x)


def own_modules():
    first = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    return [first, Own(), keras.layers.Dense(2, name="last")]


def test_modules_of_unknown_shape():
    lines = lines_of(own_modules())
    rows = rows_of(lines)
    assert [row["parameters"] for row in rows] == ["25", "?", "?"]
    assert [row["cost"] for row in rows] == ["?"] * 3
    assert [row["inputs kept"] for row in rows] == [
        "3 x 16 B", "2 x 20 B", "1 x ?"
    ]
    assert "        within" in lines and "        last" in lines
    assert "        -> 5 float32, 20 B" in lines
    assert "        -> ?" in lines and "        output ?" in lines
    assert "Balance: ?, since the cost of module 2 and 3 is unknown" in lines
    assert lines[-1] == "Parameters: ?"


def test_modules_of_own_classes_are_known_once_they_were_called():
    model = fr_keras.FeaturesReplay(own_modules())
    model.compile("sgd", "mse")
    model.fit(np.ones([4, 4]), np.ones([4, 2]), verbose=0)
    lines = lines_of(model)
    rows = rows_of(lines)
    assert [row["parameters"] for row in rows] == ["25", "18", "8"]
    # 4 * (4*5 + 8*5), 4 * (5*3 + 8*3) and 3 * (3*2 + 8*2).
    assert [row["cost"] for row in rows] == ["51.9%", "33.8%", "14.3%"]
    assert "        -> 3 float32, 12 B" in lines


def test_unknown_shape_that_the_next_module_tells():
    second = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    lines = lines_of([Own(), second])
    assert "        -> 3 float32, 12 B" in lines
    assert rows_of(lines)[1]["inputs kept"] == "1 x 12 B"


def test_model_summary_has_devices():
    model = fr_keras.FeaturesReplay(tiny(), 3, ["CPU:0", "CPU:0", "CPU:1"])
    lines = []
    assert model.summary(print_fn=lines.append) is None
    assert [row["device"] for row in rows_of(lines)] == [
        "CPU:0", "CPU:0", "CPU:1"
    ]
    # Two share a device: 3 * (72 + 112 + 32) / (4 * 72 + 4 * 112).
    assert "at most 0.88 " in "\n".join(lines)
    assert lines == lines_of(model)


def test_back_propagation_keeps_nothing():
    model = fr_keras.Backprop(tiny(), 2)
    lines = []
    model.summary(print_fn=lines.append)
    rows = rows_of(lines)
    assert "inputs kept" not in rows[0]
    assert [row["cost"] for row in rows] == ["33.3%", "66.7%"]  # 72, 144
    text = "\n".join(lines)
    assert "Replay queues" not in text and "Speed-up" not in text
    assert "takes 1.33 times" in text


def test_default_prints(capsys):
    fr_keras.summary(fr_keras.partition(tiny(), 2))
    fr_keras.FeaturesReplay(tiny(), 2).summary()
    assert capsys.readouterr().out.count("Parameters: 104") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"expand_nested": True},
        {"show_trainable": True},
        {"layer_range": ["a", "b"]},
        {"expand_nested": True, "line_length": 60},
    ],
)
def test_arguments_of_keras_summary(arguments):
    lines = []
    model = fr_keras.FeaturesReplay(tiny(), 2)
    model.summary(print_fn=lines.append, **arguments)
    text = "\n".join(lines)
    assert "Balance" in text and "a (Dense)" in text and "b (Dense)" in text
    assert ("c (Dense)" in text) == ("layer_range" not in arguments)


def test_layers_of_ready_made_modules():
    lines = []
    fr_keras.FeaturesReplay(own_modules()).summary(
        print_fn=lines.append, expand_nested=True
    )
    assert "within" in "\n".join(lines[1:])


def test_long_names_are_shortened():
    model = keras.Sequential(
        [keras.Input((4,))]
        + [keras.layers.Dense(4, name=c * 60) for c in "ab"]
    )
    lines = lines_of([model], line_length=70)
    assert f"        {'a' * 59}..." in lines


@pytest.mark.parametrize("modules", [[], "resnet", None, [1], [tiny, tiny]])
@pytest.mark.parametrize("function", [fr_keras.summary, fr_keras.plot_modules])
def test_what_are_no_modules(function, modules):
    with pytest.raises(ValueError, match="`modules` must be.*Received: "):
        function(modules)


def test_uncut_model_is_refused():
    with pytest.raises(ValueError, match="as `fr_keras.partition` returns"):
        fr_keras.summary(tiny())


def test_costs_need_an_entry_for_every_layer():
    with pytest.raises(ValueError, match="'b'.*Received: costs={'a': 1}"):
        fr_keras.summary(fr_keras.partition(tiny(), 2), costs={"a": 1})


@pytest.mark.parametrize("num_bytes, text", [
    (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (65536, "65.5 kB"),
    (999_499, "999 kB"), (999_500, "1 MB"), (1_048_576, "1.05 MB"),
    (12_340_000_000, "12.3 GB"), (4_000_000_000_000, "4000 GB"),
])
def test_sizes(num_bytes, text):
    assert size_text(num_bytes) == text
