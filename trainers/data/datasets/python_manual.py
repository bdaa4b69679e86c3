"""Python's own reference manual as a text, as a TFDS builder."""

import sys
from pydoc_data import topics

import tensorflow_datasets as tfds


class PythonManual(tfds.core.GeneratorBasedBuilder):
    """The topics of Python's `help`, half a million characters.

    Of every ten topics, sorted by name, one is for testing and one for
    validation. The text, and so the dataset's version, is that of the running
    Python.
    """

    VERSION = tfds.core.Version("{}.{}.{}".format(*sys.version_info))

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {"topic": tfds.features.Text(), "text": tfds.features.Text()}
            ),
            homepage="https://docs.python.org/3/reference",
        )

    def _split_generators(self, dl_manager):
        names = sorted(topics.topics)
        of = {"test": names[::10], "validation": names[1::10]}
        held_out = {*of["test"], *of["validation"]}
        of["train"] = [name for name in names if name not in held_out]
        return {
            split: self._generate_examples(names)
            for split, names in of.items()
        }

    def _generate_examples(self, names):
        for name in names:
            yield name, {"topic": name, "text": topics.topics[name]}
