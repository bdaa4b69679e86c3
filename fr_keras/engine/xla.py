"""The choice of modules to compile with XLA."""

from fr_keras.engine import private
from fr_keras.engine.user_warnings import warn


def choose_xla(modules):
    """Chooses the modules that XLA can compile; warns of all others.

    Args:
        modules: list of `fr_keras.engine.module.Module`.

    Returns:
        List of bool, one for each module.
    """
    chosen = []
    for k, module in enumerate(modules, start=1):
        chosen.append(private.model_supports_jit(module.submodel))
        if chosen[-1]:
            continue
        names = [
            layer.name for layer in private.sublayers(module.submodel)
            if not layer.supports_jit
        ]
        reason = (
            f"XLA cannot compile its layers {', '.join(names)}" if names
            else "XLA is not supported on this machine or with op determinism"
        )
        warn(f"Module {k} is not compiled with XLA: {reason}.")
    return chosen
