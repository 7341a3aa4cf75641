"""Checks of settings."""

import math

from matey.errors import ConfigError


def require(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise ConfigError unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} is {value!r}, expected {expected}.")


def require_positive(group: object, prefix: str, *names: str) -> None:
    """Raise ConfigError for the first of the named settings that is not above zero."""
    for name in names:
        value = getattr(group, name)
        require(math.isfinite(value) and value > 0, prefix + name, value, "a number above 0")


def require_fraction(group: object, prefix: str, *names: str) -> None:
    """Raise ConfigError for the first of the named settings outside [0, 1]."""
    for name in names:
        value = getattr(group, name)
        require(0 <= value <= 1, prefix + name, value, "a number in [0, 1]")
