"""Tasks, methods and sources by name: a module of this package, or anybody's own.

A name without a dot is a module of the package that asks (`lora` in `peft_ablation.methods`); a
name with dots is imported as it is, so that a module anywhere on `PYTHONPATH` is registered by
being named in a study.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from peft_ablation.errors import InputError, near_miss


def plugin(package: str, name: str, attribute: str) -> object:
    """Return `attribute` of the module `name`; raises `InputError` where there is none."""
    module = _module(package, name, attribute)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise InputError(
            f"found {name!r}, a module without {attribute}; expected one that defines it"
        ) from None


def built_in(package: str, attribute: str) -> list[str]:
    """Return the names of the modules of `package` that define `attribute`."""
    path = import_module(package).__path__
    names = (module.name for module in iter_modules(path) if not module.name.startswith("_"))
    return sorted(name for name in names if hasattr(import_module(f"{package}.{name}"), attribute))


def _module(package: str, name: str, attribute: str) -> ModuleType:
    target = name if "." in name else f"{package}.{name}"
    try:
        return import_module(target)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{target}.".startswith(f"{error.name}."):
            raise
    except TypeError:
        pass  # a name that begins with a dot
    allowed = built_in(package, attribute)
    raise InputError(
        f"found {name!r}, allowed: {', '.join(allowed)}, or the dotted name of a module on "
        f"PYTHONPATH{near_miss(name, allowed)}"
    )
