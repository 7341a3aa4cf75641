"""What a run may be given: values, grids and splits that a mixture takes or refuses."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from matey.config import DataConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.mixture import Mixture
from matey.data.reader import open_reader
from matey.data.systems import open_systems
from matey.data.trajectories import open_source
from matey.data.windows import Choice, Windows
from matey.errors import DataError


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_in_a_target_only_is_named_and_not_trained_on(tmp_path, make_compressible, bad):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["pressure"][0, 5, 1, 2] = bad
    fields = open_source(SourceConfig("flow", (str(path),)))
    windows = Windows(fields, [0], WindowConfig(history=3, max_lead=3))
    windows.batch([Choice(0, lead=2)])
    message = r"a\.hdf5: pressure of .*#0000 is .* at time 0\.25, index \(0, 2, 1\)"
    with pytest.raises(DataError, match=message):
        windows.batch([Choice(0, lead=3)])


def test_grids_and_variables_mix_in_a_run_but_not_in_a_batch(
    tmp_path, make_compressible, make_shallow
):
    """Two grids of one system, and a second system of other variables."""
    make_compressible(tmp_path / "a.hdf5", nx=4, ny=3)
    make_compressible(tmp_path / "b.hdf5", nx=8, ny=6)
    flow = (str(tmp_path / "a.hdf5"), str(tmp_path / "b.hdf5"))
    water = (str(make_shallow(tmp_path / "c.h5")),)
    config = DataConfig((SourceConfig("flow", flow), SourceConfig("water", water)))
    windows = {
        name: Windows(system.fields, range(len(system.fields)), WindowConfig(history=2))
        for name, system in open_systems(config).items()
    }
    mixture = Mixture(windows, 4, seed=0)
    seen = {
        (batch.spec.name, *batch.values.shape[2:]) for batch in map(mixture.__getitem__, range(24))
    }
    assert seen == {("flow", 4, 1, 3, 4), ("flow", 4, 1, 6, 8), ("water", 1, 1, 3, 4)}


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path, make_compressible):
    path = str(make_compressible(tmp_path / "a.hdf5", samples=2))
    config = DataConfig((SourceConfig("flow", (path,)),), SplitConfig(valid=0.45, test=0.54))
    with pytest.raises(DataError, match=r"'flow' has no trajectory left to train on: 2 in all"):
        open_systems(config)


def test_more_trajectories_than_there_are_to_train_on_are_refused(tmp_path, make_compressible):
    path = str(make_compressible(tmp_path / "a.hdf5", samples=4))
    config = DataConfig((SourceConfig("flow", (path,)),), trajectories=2)
    assert len(open_systems(config)["flow"].split["train"]) == 2
    message = r"'flow' has 2 trajectories to train on, and data\.trajectories asks for 3"
    with pytest.raises(DataError, match=message):
        open_systems(replace(config, trajectories=3))


def test_an_empty_file_says_how_long_it_is(tmp_path):
    (tmp_path / "a.nc").touch()
    with pytest.raises(DataError, match=r"a\.nc is empty \(0 bytes\)"):
        open_reader(tmp_path / "a.nc")
