"""Training algorithms, by name; each lies in a file of its own."""

from fr_keras.algorithms.backprop import Backprop
from fr_keras.algorithms.features_replay import FeaturesReplay

ALGORITHMS = {
    "backprop": Backprop,
    "features_replay": FeaturesReplay,
}
