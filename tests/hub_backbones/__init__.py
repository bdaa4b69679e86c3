"""KerasHub's backbones, each small enough to be trained in seconds.

Nothing is downloaded: weights are random and widths tiny. Depth is not, since
the models are to be split into four modules.
"""

import keras_hub

from tests.hub_backbones import images, mixed, text

# By class, what makes its arguments; nested models are made anew each time.
_ARGUMENTS = {**text.ARGUMENTS, **images.ARGUMENTS, **mixed.ARGUMENTS}


def make(name):
    """Makes a small backbone.

    Args:
        name: str, the class in `keras_hub.models`, and after a comma which
            variant of it.

    Returns:
        `keras_hub.models.Backbone`, without dropout.
    """
    return getattr(keras_hub.models, name.split(",")[0])(**_ARGUMENTS[name]())


def names():
    """Names of the classes that `make` knows, a list."""
    return list(_ARGUMENTS)
