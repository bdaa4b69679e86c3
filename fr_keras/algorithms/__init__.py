"""Training algorithms by name, each in its own file."""

from fr_keras.algorithms.backprop import Backprop
from fr_keras.algorithms.ddg import DDG
from fr_keras.algorithms.dni import DNI
from fr_keras.algorithms.exact_pipeline import GPipe, Pipeline
from fr_keras.algorithms.features_replay import FeaturesReplay

ALGORITHMS = {
    "backprop": Backprop,
    "ddg": DDG,
    "dni": DNI,
    "features_replay": FeaturesReplay,
    "gpipe": GPipe,
    "pipeline": Pipeline,
}
