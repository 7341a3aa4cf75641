"""A file of a run is looked into as rarely as can be."""

import os

import numpy as np
import xarray

from matey.config import SourceConfig
from matey.data.formats.hdf5 import Hdf5Container
from matey.data.runs import glance
from matey.data.trajectories import open_like
from tests.waves import STEPS, TIMES, X, Y, wave, written


def write_frames(folder):
    for k in range(STEPS):
        coords = {"time": [TIMES[k]], "y": Y, "x": X}
        dataset = xarray.Dataset({"u": (("time", "y", "x"), wave(0)[k][None])}, coords)
        written(folder / f"out_{k:04d}.nc", dataset, unlimited_dims=["time"])


def count_looks(monkeypatch):
    looked, look = [], glance.look
    monkeypatch.setattr(
        glance, "look", lambda path, *rest: (looked.append(path), look(path, *rest))[1]
    )
    return looked


def test_files_that_several_sources_may_fit_are_looked_at_once(tmp_path, monkeypatch):
    write_frames(tmp_path / "run")
    looked = count_looks(monkeypatch)
    sources = [SourceConfig(name, ("elsewhere",), join="time") for name in ("a", "b")]
    assert len(open_like([tmp_path / "run"], sources, "a run")) == 1
    assert sorted(looked) == sorted((tmp_path / "run").iterdir())


def test_a_file_that_was_written_again_is_looked_at_again(tmp_path, monkeypatch):
    write_frames(tmp_path)
    path, *_ = sorted(tmp_path.iterdir())
    looked = count_looks(monkeypatch)
    with glance.each_once():
        first = glance.glance(path)
        written(path, xarray.open_dataset(path).load().assign_coords(time=[TIMES[1]]))
        os.utime(path, ns=(0, 1))
        second = glance.glance(path)
        assert glance.glance(path) is second
    assert len(looked) == 2
    np.testing.assert_array_equal(first.clock.times, TIMES[:1])
    np.testing.assert_array_equal(second.clock.times, TIMES[1:2])
    assert glance.glance(path) is not second  # outside nothing is kept


def test_what_an_open_file_says_is_its_own_copy(tmp_path):
    write_frames(tmp_path)
    file = Hdf5Container(min(tmp_path.iterdir()))
    names, keys = file.names(), list(file.attributes("u"))
    file.names().clear()
    file.attributes("u").clear()
    assert (file.names(), list(file.attributes("u"))) == (names, keys)
    assert "u" in names
    assert keys
    file.close()
