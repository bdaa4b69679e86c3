"""For tools that look for it; everything is said in pyproject.toml."""

import setuptools

setuptools.setup()
