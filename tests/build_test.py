"""BUILD has a library for each package, with the imports as dependencies."""

import re

import pytest

from tests import arrows

TEXT = (arrows.ROOT / "BUILD").read_text()
LIBRARIES = {
    re.search(r'name = "(\w+)"', rule)[1]: rule
    for rule in re.findall(r"^py_library\((.*?)^\)", TEXT, re.M | re.S)
}
PACKAGES = {
    package.partition(".")[2].replace(".", "_") or package: package
    for top in ("fr_keras", "trainers") for package in arrows.packages(top)
}
NOT_AT_THE_TOP = {name for name in PACKAGES.values() if "." in name}


def label_of(module):
    """The target that a module lies in."""
    if module == "fr_keras.versions":
        return "versions"
    package = arrows.package_of(module)
    return next(label for label, name in PACKAGES.items() if name == package)


def test_every_package_is_a_target():
    assert {*LIBRARIES} == {*PACKAGES, "versions", "test_support"}


@pytest.mark.parametrize("label", PACKAGES)
def test_target_has_the_files_and_the_imports(label):
    package = PACKAGES[label]
    folder = package.replace(".", "/")
    modules = arrows.files(package)
    if package in NOT_AT_THE_TOP:
        srcs = f'srcs = glob(["{folder}/*.py"])'
    else:
        srcs = f'srcs = ["{folder}/__init__.py"]'
        modules = {package: modules[package]}
    assert srcs in LIBRARIES[label]
    needed = {
        label_of(name)
        for path in modules.values() for name in arrows.imported(path)
    }
    given = re.findall(r'":(\w+)"', LIBRARIES[label])
    assert given == sorted(needed - {label})


def test_every_dependency_is_there():
    assert {*re.findall(r'":(\w+)"', TEXT)} <= {*LIBRARIES}
