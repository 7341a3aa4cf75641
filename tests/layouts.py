"""What files in layouts of others hold, compared with what the draft of them reads."""

from dataclasses import replace

import numpy as np
import pytest

import matey
from matey.config import SourceConfig
from matey.data.draft_config import data_config
from matey.data.inspect import inspect
from matey.data.trajectories import open_source
from matey.errors import DataError
from matey.fields import Boundary

OPEN, ROUND = (Boundary.OPEN,) * 2, (Boundary.PERIODIC,) * 2


def drafted(path):
    """The trajectories of the one system that a draft describes."""
    (source,) = data_config(path).systems
    return open_source(source)


def asked(path, **changes):
    """The trajectories of a system that has a doubt, in the drafted layout with these changes."""
    report = inspect([path])
    assert any("which it is" in text for text in report.refused)
    with pytest.raises(DataError, match="which it is"):
        matey.open(path)
    (system,) = report.systems
    layout = replace(system.described, doubts=(), **changes)
    options = SourceConfig("asked", tuple(map(str, system.paths)), layout=layout)
    return open_source(replace(options, join=system.join))


def check(field, values, times, sides, axes, units=None):
    """`values` by the file's names, with the axes `axes` in the order of the grid; `axes` are
    positions by name, None where the file holds none."""
    names = [variable.alias or variable.name for variable in field.spec.variables]
    assert field.grid.axes == tuple(axes)
    assert field.boundaries[3 - len(axes) :] == sides
    np.testing.assert_allclose(field.times, times, rtol=1e-12)
    for place, points in enumerate(axes.values(), 3 - len(axes)):
        if points is not None:
            np.testing.assert_allclose(field.grid.coordinate(place), points, rtol=1e-6)
    for name, expected in values.items():
        found = field.values[:, names.index(name)].numpy()
        found = found.reshape(len(found), *found.shape[4 - len(axes) :])
        if not field.spec.variables[names.index(name)].static:
            assert len(found) == len(expected)
        expected = np.broadcast_to(expected, found.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert set(values) == set(names) - {"mask"}
    for name, unit in (units or {}).items():
        assert field.spec.variables[names.index(name)].units == unit


def faces(values, axis):
    """Means of neighbouring faces at centres; at a side, and beside land, that of the one there."""
    values = np.moveaxis(values, axis, -1)
    padded = np.concatenate([values[..., :1] * np.nan, values, values[..., :1] * np.nan], -1)
    low, high = padded[..., :-1], padded[..., 1:]
    mean = np.where(np.isnan(low), high, np.where(np.isnan(high), low, (low + high) / 2))
    return np.moveaxis(mean, -1, axis)
