"""What is public is documented and has types."""

import inspect
import types

import pytest

import fr_keras

PUBLIC = {
    f"{prefix}{name}": getattr(package, name)
    for prefix, package in [
        ("", fr_keras),
        *(
            (f"{name}.", getattr(fr_keras, name))
            for name in fr_keras.__all__
            if isinstance(getattr(fr_keras, name), types.ModuleType)
        ),
    ]
    for name in package.__all__
    if callable(getattr(package, name))
}


def constructor(thing):
    """What is called, unless it is somebody else's."""
    if not inspect.isclass(thing):
        return thing
    init = thing.__init__
    ours = getattr(init, "__module__", "").startswith("fr_keras")
    return init if ours else None


@pytest.mark.parametrize("name", PUBLIC)
def test_has_a_docstring(name):
    summary, *rest = inspect.getdoc(PUBLIC[name]).splitlines()
    assert summary.endswith((".", ":")) and len(summary) < 80
    function = constructor(PUBLIC[name])
    if function is None or name.endswith("Error"):
        return
    text = "\n".join(rest)
    parameters = {*inspect.signature(function).parameters} - {
        "self", "args", "kwargs"
    }
    if parameters:
        assert "Args:" in text
    for parameter in parameters:
        assert f"    {parameter}: " in text, parameter


@pytest.mark.parametrize("name", PUBLIC)
def test_has_types(name):
    function = constructor(PUBLIC[name])
    if function is None:
        return
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            assert parameter.annotation is not parameter.empty, parameter
