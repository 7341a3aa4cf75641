"""What executes the annotations of the package under test. An int counts as a float.

jaxtyping's own way looks at arguments twice in every call, and makes its checks anew whenever a
function makes another: that was more than half of the time of a simulation or a tiny training.
"""

from collections.abc import Callable
from inspect import isclass, isfunction, isgeneratorfunction
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
jaxtyped = jaxtyping.jaxtyped


def checking(**options: Any) -> Callable[[Any], Any]:
    """Stands in for `jaxtyping.jaxtyped`, which the import hook puts above all definitions."""
    return checked


def checked(what: Any) -> Any:
    """A function or a dataclass of the package, whose annotations are executed in each call.

    A function that is made by another is left to mypy unless it names shapes.
    """
    if isclass(what):
        if "__dataclass_fields__" in vars(what) and "__init__" in vars(what):
            what.__init__ = checked(what.__init__)
        return what
    if not isfunction(what):
        return jaxtyped(what, typechecker=check)
    shapes = has_shapes(list(what.__annotations__.values()))
    if "<locals>" in what.__qualname__ and not shapes:
        return what
    if isgeneratorfunction(what) or not resolves(what):
        return jaxtyped(what, typechecker=check)
    return jaxtyped(check(what), typechecker=None) if shapes else check(what)


def resolves(function: Any) -> bool:
    """Whether annotations that are strings name what there is when the function is made."""
    try:
        get_type_hints(function)
    except Exception:
        return False
    return True


def has_shapes(annotation: Any) -> bool:
    """Whether an annotation, or one within it, is of an array with a shape."""
    if isinstance(annotation, list):
        return any(map(has_shapes, annotation))
    if isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return has_shapes(list(get_args(annotation)))
