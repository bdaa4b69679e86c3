"""Starts a worker that can run modules that only sleep.

    python -m trainers.benchmarks.sleeping_worker PORT
"""

import sys

from absl import flags

from trainers.benchmarks import sleeping
from trainers.workers import serving

if __name__ == "__main__":
    flags.FLAGS(sys.argv[:1])
    sleeping.functions()  # Before any others.
    serving.serve(int(sys.argv[1]), "all", ends_with_input=True)
