"""The picture of the modules: written, sized, and with all that it promises."""

import keras
import pytest
from matplotlib import colors, image, pyplot

import fr_keras
from fr_keras.visualization import palette, plotting
from fr_keras.visualization.description import Description


def resnet():
    return fr_keras.models.resnet(20, 10)


def unet():
    """One level of skips over another."""
    inputs = keras.Input((16, 16, 3))
    skips, x = [], inputs
    for width in (4, 8):
        x = keras.layers.Conv2D(width, 3, padding="same")(x)
        skips.append(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(16, 3, padding="same")(x)
    for skip in reversed(skips):
        x = keras.layers.UpSampling2D()(x)
        x = keras.layers.Concatenate()([x, skip])
        x = keras.layers.Conv2D(8, 3, padding="same")(x)
    return keras.Model(inputs, x)


def several():
    """An input that enters late, and an output that appears early."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    early = keras.layers.Dense(5)(a)
    x = keras.layers.Dense(6)(early)
    x = keras.layers.Dense(7)(x)
    x = keras.layers.Dense(8)(keras.layers.Concatenate()([x, b]))
    return keras.Model([a, b], [early, x])


@pytest.mark.parametrize("make", [resnet, unet, several])
@pytest.mark.parametrize("num_modules", [1, 2, 4])
def test_picture_has_a_sensible_size(make, num_modules, tmp_path):
    modules = fr_keras.partition(make(), num_modules)
    path = tmp_path / "modules.png"
    assert fr_keras.plot_modules(modules, path) is None
    height, width, _ = image.imread(path).shape
    assert 800 <= width <= 1500
    assert 150 * num_modules <= height <= 150 * num_modules + 600
    assert (image.imread(path)[..., :3] < 0.5).any()


def test_algorithm_many_modules_and_print_format(tmp_path):
    model = fr_keras.FeaturesReplay(resnet(), 16)
    fr_keras.plot_modules(model, str(tmp_path / "modules.svg"))
    picture = (tmp_path / "modules.svg").read_text()
    assert "<svg" in picture
    assert not pyplot.get_fignums()


def test_modules_of_unknown_shape(tmp_path):
    modules = [keras.layers.Dense(3), keras.layers.Dense(2)]
    fr_keras.plot_modules(modules, tmp_path / "modules.png")
    assert (tmp_path / "modules.png").exists()


def drawn(modules, costs=None):
    """Texts and boxes of a picture."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    axes = Figure().add_subplot()
    plotting._Picture(Description(modules, costs)).draw(axes)
    boxes = [p for p in axes.patches if isinstance(p, Rectangle)]
    return [text.get_text() for text in axes.texts], boxes


def test_texts():
    model = several()
    costs = {layer.name: int(bool(layer.weights)) for layer in model.layers}
    texts, _ = drawn(fr_keras.partition(model, 4, costs), costs)
    # 4, 4, 4 and 3 of 15.
    assert "Module 1 · 26.7% of the cost" in texts
    assert "Module 4 · 20.0% of the cost" in texts
    assert "Concatenate, Dense" in texts
    for label in (
        "4 float32, 16 B",  # a
        "3 float32, 12 B",  # b, around the modules
        "6 float32, 24 B",
        "7 float32, 28 B",
        "8 float32, 32 B",
    ):
        assert texts.count(label) == 1, label
    # `early`, to the second module and, around the others, to the output.
    assert texts.count("5 float32, 20 B") == 2


def test_boxes_are_as_high_as_costs():
    costs = {"a": 1, "b": 3, "c": 4}
    model = keras.Sequential(
        [keras.Input((4,))] + [keras.layers.Dense(4, name=n) for n in "abc"]
    )
    modules = fr_keras.partition(model, 3, costs)
    _, (_, _, *boxes) = drawn(modules, costs)
    heights = [box.get_height() for box in boxes]
    assert heights[1] / heights[0] == pytest.approx(3)
    assert heights[2] / heights[0] == pytest.approx(3)  # 12 and 4 units.
    assert len({box.get_facecolor() for box in boxes}) == 3


def test_long_names_lose_their_middle():
    """What comes last in a name, and the last layer, tell most."""
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(1234, name="expanded_conv_2_project"),
        keras.layers.Dense(3, name="expanded_conv_10_depthwise_batch"),
    ])
    texts, _ = drawn(fr_keras.partition(model, 1))
    assert (
        "9,875 parameters, expanded_conv_2_project … expanded…depthwise_batch"
        in texts
    )


def test_lines_have_the_colours_of_boxes():
    modules = fr_keras.partition(resnet(), 3)
    _, (_, _, *boxes) = drawn(modules)
    of_boxes = [colors.to_hex(box.get_facecolor()) for box in boxes]
    names = ["sigma/module_1", "sigma/module_3", "sigma/total", "loss"]
    first, third, *others = palette.log_colours(names)
    assert [first, third] == [of_boxes[0], of_boxes[2]]
    assert len({first, third, *others}) == 4


def test_many_tensors_are_summed_up():
    inputs = [keras.Input((4,)) for _ in range(9)]
    x = keras.layers.Dense(4)(keras.layers.Concatenate()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    texts, _ = drawn(fr_keras.partition(model, 2))
    assert "9 tensors, 144 B" in texts


def test_bypasses_do_not_share_a_lane_side_by_side():
    bypasses = [
        plotting._Bypass(maker, users, [])
        for maker, users in [(0, (5,)), (1, (3,)), (2, (4,)), (3, (5, 6))]
    ]
    assert plotting._assign_lanes(bypasses) == 3
    assert [bypass.lane for bypass in bypasses] == [2, 0, 1, 0]
