"""Installs fr_keras and its command lines."""

import pathlib
import re

import setuptools

# Read, not imported: importing fr_keras needs the packages that this very
# file makes pip install.
VERSIONS = pathlib.Path(__file__).parent / "fr_keras" / "versions.py"
VERSION = re.search(
    r'^VERSION = "(.+)"', VERSIONS.read_text(encoding="utf-8"), re.MULTILINE
).group(1)

TENSORFLOW_VERSIONS = ">=2.20,<2.22"

# Bounded above, so that an install next year gets what works today.
REQUIREMENTS = [
    "absl-py>=2.1,<3",
    "grpcio>=1.60,<2",
    # tensorflow-datasets 4.9 imports importlib_resources in its builders
    # without declaring it for Python 3.9 and newer.
    "importlib_resources>=6,<8",
    "keras>=3.12,<3.16",
    "matplotlib>=3.8,<4",
    "numpy>=1.26,<3",
    "psutil>=6,<8",
    "scikit-learn>=1.5,<2",
    "scipy>=1.11,<2",
    "tensorboard>=2.20,<2.22",
    f"tensorflow{TENSORFLOW_VERSIONS}",
    "tensorflow-datasets>=4.9.9,<4.10",
]

setuptools.setup(
    name="fr-keras",
    version=VERSION,
    description="Features Replay for Keras: deep networks trained as modules "
    "in parallel",
    author="The fr_keras Authors",
    license="Apache-2.0",
    packages=setuptools.find_packages(
        include=["fr_keras", "fr_keras.*", "trainers", "trainers.*"]
    ),
    python_requires=">=3.10",
    install_requires=REQUIREMENTS,
    extras_require={
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW_VERSIONS}"],
        # Its models are tested, with all layers that they bring along.
        "hub": ["keras-hub>=0.32,<0.33"],
        "dev": [
            "hypothesis>=6.100,<7",
            "pytest>=8,<10",
            "pytest-xdist>=3.5,<4",
            "ruff>=0.9,<0.18",
        ],
    },
)
