"""Which packages import which, read from the sources."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent


def packages(top):
    """Dotted names of a top-level package and all packages within."""
    return [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in sorted((ROOT / top).rglob("__init__.py"))
    ]


def files(package):
    """The modules of a package, by their dotted names."""
    folder = ROOT.joinpath(*package.split("."))
    return {
        package if path.stem == "__init__" else f"{package}.{path.stem}": path
        for path in sorted(folder.glob("*.py"))
    }


def imported(path):
    """Dotted names of the modules of this repository that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {
                name if is_module(name) else node.module
                for name in (f"{node.module}.{a.name}" for a in node.names)
            }
    return {name for name in found if is_module(name)}


def is_module(name):
    """Whether a dotted name is a module or package of this repository."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (
        path / "__init__.py"
    ).is_file()


def package_of(name):
    """The package that a module lies in, or that it is."""
    path = ROOT.joinpath(*name.split("."))
    return name if path.is_dir() else name.rpartition(".")[0]
