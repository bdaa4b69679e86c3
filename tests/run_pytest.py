"""What Bazel runs for each of its test targets: pytest on one file."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
