"""Rows of layers that change images."""

import keras

layers = keras.layers
SMALL_IMAGE = {"value_range": (0, 1), "seed": 3}


def image(make):
    """Rows of a layer that changes images, in front of and inside a network."""
    return {
        "": ("image", make),
        "at the input": ("raw image", make),
    }


ROWS = {
    "Resizing": image(lambda: layers.Resizing(6, 5)),
    "CenterCrop": image(lambda: layers.CenterCrop(6, 5)),
    # Augmentation.
    "AutoContrast": image(lambda: layers.AutoContrast((0, 1))),
    "ContrastLimitedAdaptiveHistogramEqualization": image(
        lambda: layers.ContrastLimitedAdaptiveHistogramEqualization(
            (0, 1), tile_grid_size=(2, 2)
        )
    ),
    "CutMix": image(lambda: layers.CutMix(0.8, seed=3)),
    # (Inside of a model Keras takes it for a cycle.)
    "Equalization": {
        "at the input": ("raw image", lambda: layers.Equalization((0, 1)))
    },
    "MixUp": image(lambda: layers.MixUp(0.8, seed=3)),
    "Pipeline": image(
        lambda: layers.Pipeline(
            [layers.RandomFlip(seed=3), layers.Rescaling(2.0)]
        )
    ),
    "RandAugment": image(lambda: layers.RandAugment(**SMALL_IMAGE)),
    "RandomBrightness": image(
        lambda: layers.RandomBrightness(0.4, **SMALL_IMAGE)
    ),
    "RandomColorDegeneration": image(
        lambda: layers.RandomColorDegeneration(0.4, **SMALL_IMAGE)
    ),
    "RandomColorJitter": image(
        lambda: layers.RandomColorJitter(
            brightness_factor=0.3, contrast_factor=0.3, saturation_factor=0.3,
            hue_factor=0.2, **SMALL_IMAGE,
        )
    ),
    "RandomContrast": image(lambda: layers.RandomContrast(0.4, **SMALL_IMAGE)),
    "RandomCrop": image(lambda: layers.RandomCrop(6, 5, seed=3)),
    "RandomElasticTransform": image(
        lambda: layers.RandomElasticTransform(**SMALL_IMAGE)
    ),
    "RandomErasing": image(lambda: layers.RandomErasing(**SMALL_IMAGE)),
    "RandomFlip": image(lambda: layers.RandomFlip(seed=3)),
    "RandomGaussianBlur": image(
        lambda: layers.RandomGaussianBlur(**SMALL_IMAGE)
    ),
    "RandomGrayscale": image(lambda: layers.RandomGrayscale(0.5, seed=3)),
    "RandomHue": image(lambda: layers.RandomHue(0.4, **SMALL_IMAGE)),
    "RandomInvert": image(lambda: layers.RandomInvert(0.5, **SMALL_IMAGE)),
    "RandomPerspective": image(
        lambda: layers.RandomPerspective(0.5, 0.5, seed=3)
    ),
    "RandomPosterization": image(
        lambda: layers.RandomPosterization(4, **SMALL_IMAGE)
    ),
    "RandomRotation": image(lambda: layers.RandomRotation(0.2, seed=3)),
    "RandomSaturation": image(
        lambda: layers.RandomSaturation(0.4, **SMALL_IMAGE)
    ),
    "RandomSharpness": image(
        lambda: layers.RandomSharpness(0.4, **SMALL_IMAGE)
    ),
    "RandomShear": image(lambda: layers.RandomShear(0.3, 0.3, seed=3)),
    "RandomTranslation": image(
        lambda: layers.RandomTranslation(0.3, 0.3, seed=3)
    ),
    "RandomZoom": image(lambda: layers.RandomZoom(0.3, seed=3)),
    "Solarization": image(
        lambda: layers.Solarization(0.3, 0.3, **SMALL_IMAGE)
    ),
}
