"""A part of a study: run once, by one process, with a file of results."""

import dataclasses
import json
import os
import typing

from trainers.studies import claims


@dataclasses.dataclass(frozen=True)
class Part:
    """What names a part of a study.

    Attributes:
        task: str, one of `tasks.TASKS`.
        optimizer: str, one of `methods.OPTIMIZERS`.
        method: str, one of `methods.METHODS`.
        num_modules: int, K.
    """

    task: str
    optimizer: str
    method: str
    num_modules: int

    prefix: typing.ClassVar[str] = ""

    @property
    def name(self):
        return f"{self.task}_{self.optimizer}_{self.method}_k{self.num_modules}"

    def path(self, folder):
        """Path of the results.

        Args:
            folder: str, the directory of the study.
        """
        return os.path.join(folder, f"{self.prefix}{self.name}.json")

    def results(self, folder):
        """The results, a dict, or `None` if the part has not been run.

        Args:
            folder: str, the directory of the study.
        """
        try:
            with open(self.path(folder)) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def claimed(self, folder):
        """Claims the part for this process, see `claims.claimed`."""
        return claims.claimed(self.path(folder))
