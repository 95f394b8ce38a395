"""What code says, as a text that changes when it does: by this, finished work knows whether it still holds."""

from __future__ import annotations

import inspect
import types
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

PLAIN = (int, float, complex, str, bytes, bool, type(None))
OURS = Path(__file__).resolve().parent.parent
LIBRARIES = ("kdlab", "torch", "transformers", "numpy", "builtins", "math", "datasets")


def code_of(*things: object) -> str:
    """The source of functions, of the classes of other objects, and of what of the user's own they call; with the
    numbers and words that they look up outside.

    Tensors, models and data that code looks up outside are not seen.
    """
    seen: dict[int, str] = {}
    for thing in things:
        _read(thing if inspect.isroutine(thing) or inspect.isclass(thing) or isinstance(thing, partial) else
              type(thing), seen)
        if not inspect.isroutine(thing):
            for value in vars(thing).values() if hasattr(thing, "__dict__") else ():
                if inspect.isfunction(value) or isinstance(value, partial):
                    _read(value, seen)
    return "\n".join(seen.values())


@cache
def code_of_kdlab() -> str:
    """A hash of the rooms that decide what a run comes to."""
    digest = sha256()
    for path in sorted(OURS.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(thing: object, seen: dict[int, str]) -> None:
    if id(thing) in seen:
        return
    if isinstance(thing, partial):
        seen[id(thing)] = repr((thing.args, thing.keywords))
        _read(thing.func, seen)
        return
    module = (getattr(thing, "__module__", None) or "").split(".")[0]
    if module in LIBRARIES:
        seen[id(thing)] = f"{module} {getattr(thing, '__qualname__', '')}"
        return
    if inspect.isclass(thing):
        seen[id(thing)] = _source(thing)
        for member in vars(thing).values():
            if inspect.isfunction(member):
                _read(member, seen)
        return
    if not inspect.isfunction(thing):
        return
    seen[id(thing)] = f"{_source(thing)} {thing.__defaults__!r} {thing.__kwdefaults__!r}"
    for name, value in _outside(thing).items():
        if isinstance(value, PLAIN) or (isinstance(value, tuple | list | dict) and len(repr(value)) < 10_000):
            seen[hash((id(thing), name))] = f"{name} = {value!r}"
        elif not isinstance(value, types.ModuleType) and (inspect.isfunction(value) or inspect.isclass(value)):
            _read(value, seen)


def _outside(function: types.FunctionType) -> dict[str, object]:
    """What a function, or one inside it, looks up outside, by name."""
    found, codes = {}, [function.__code__]
    while codes:
        code = codes.pop()
        found |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):      # nothing is there yet
            found[name] = cell.cell_contents
    return found


def _source(thing: object) -> str:
    code = getattr(thing, "__code__", None)
    try:
        text = inspect.getsource(thing)
    except (OSError, TypeError):        # typed at a prompt that keeps nothing
        text = "" if code else repr(thing)
    if code and (not text or "<lambda>" in code.co_name):       # two lambdas may share a line
        plain = [value for value in code.co_consts if not isinstance(value, types.CodeType)]
        text += repr((code.co_code, plain, code.co_names))
    return text
