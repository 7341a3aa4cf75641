"""What inspection says of good and bad data, and the config it drafts."""

import shutil

import h5py
import numpy as np
import pytest

from matey.cli import main
from matey.cli.options import load_yaml
from matey.config import DataConfig, SourceConfig, SplitConfig
from matey.data.data_config import config_text
from matey.data.inspect import inspect
from matey.data.reader import open_source
from matey.errors import DataError


def as_config(text, folder):
    """The data config that the YAML text is, with its paths made whole."""
    plain = load_yaml(text)
    sources = [
        SourceConfig(s["name"], tuple(str(folder / p) for p in s["paths"]))
        for s in plain.pop("systems")
    ]
    config = DataConfig(tuple(sources), SplitConfig(**plain.pop("split")))
    assert not plain
    return config


def test_statistics_are_those_of_all_values(tmp_path, make_compressible, monkeypatch):
    """Streamed a frame at a time, to rounding of float64."""
    monkeypatch.setattr("matey.data.inspect.BLOCK", 1)
    path = make_compressible(tmp_path / "a.hdf5")
    system = inspect([path]).systems[0]
    with h5py.File(path) as file:
        for found, name in zip(system.statistics, ("density", "pressure", "Vx", "Vy"), strict=True):
            values = file[name][()].astype(np.float64)
            assert (found.minimum, found.maximum) == (values.min(), values.max())
            assert found.mean == pytest.approx(values.mean(), rel=1e-12)
            assert found.std == pytest.approx(values.std(), rel=1e-12)
    assert system.parameters == {"eta": (0.01, 0.01), "zeta": (0.02, 0.02), "M": (0.1, 0.1)}
    assert system.window_bytes == 4 * 5 * 4 * 12


def test_bad_values_are_problems_and_odd_ones_notices(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5", samples=3)
    with h5py.File(path, "a") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name][1] = file[name][0]
        file["density"][:] = 1.0
        file["Vx"][2, 0, 0, 0] = np.nan
    found = inspect([path])
    assert len(found.refused) == 1
    assert "Vx of trajectory a.hdf5#0002 is nan" in found.refused[0]
    notices = " ".join(found.systems[0].notices)
    assert "density is constant, 1 everywhere" in notices
    assert "a.hdf5#0001 is a duplicate of a.hdf5#0000" in notices
    with pytest.raises(DataError, match="No data config is written"):
        config_text(found, tmp_path)


def test_trajectories_shorter_than_a_window_are_refused(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5", frames=4)
    assert "too few frames for windows.history = 4" in inspect([tmp_path]).refused[0]
    make_compressible(tmp_path / "b.hdf5", frames=5)
    found = inspect([tmp_path])
    assert not found.refused
    assert "2 of 4 trajectories" in " ".join(found.systems[0].notices)


def test_damaged_files_are_problems_beside_good_ones(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5")
    (tmp_path / "b.hdf5").write_bytes((tmp_path / "a.hdf5").read_bytes()[:3000])
    found = inspect([tmp_path])
    assert len(found.systems) == 1
    assert "b.hdf5 is cut short: 3000 bytes" in found.refused[0]


def test_the_drafted_config_opens_the_same_systems(tmp_path, make_compressible, make_shallow):
    """Two systems of one name in one folder, a third in another; one path needs quotes."""
    folder = tmp_path / "a: 'b' #c\nd"
    folder.mkdir()
    make_compressible(folder / "a.hdf5")
    with h5py.File(make_compressible(folder / "b.hdf5"), "a") as file:
        file["t-coordinate"][:] *= 2
    (tmp_path / "swe").mkdir()
    make_shallow(tmp_path / "swe" / "c.h5")
    found = inspect([folder, tmp_path / "swe"])
    config = as_config(config_text(found, tmp_path), tmp_path)
    names = [source.name for source in config.systems]
    assert names == ["compressible", "compressible_2", "shallow_water"]
    assert load_yaml(config_text(found, tmp_path))["systems"][2]["paths"] == ["swe"]
    assert load_yaml(config_text(found, folder))["systems"][2]["paths"] == [str(tmp_path / "swe")]
    for source, system in zip(config.systems, found.systems, strict=True):
        assert open_source(source).spec == system.spec


def test_the_command_prints_writes_and_does_not_overwrite(tmp_path, make_compressible, capsys):
    make_compressible(tmp_path / "a[red].hdf5")
    target = tmp_path / "mix.yaml"
    words = ["data", "inspect", str(tmp_path), "--write", str(target)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 trajectories of 6 frames on 3x4 (y, x), dt 0.05" in printed
    assert as_config(target.read_text(), tmp_path).systems[0].name == "compressible"
    assert main(words) == 2
    assert "exists. Give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_the_command_fails_where_training_would(tmp_path, make_compressible, capsys):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["Vy"][0, 0, 0, 0] = np.inf
    target = tmp_path / "mix.yaml"
    assert main(["data", "inspect", str(path), "--write", str(target)]) == 1
    assert "refused: " in capsys.readouterr().out
    assert not target.exists()
    assert main(["data", "inspect", str(tmp_path / "none.h5")]) == 2
    assert "none.h5 does not exist" in capsys.readouterr().err


def test_real_folders_are_told_apart_and_duplicates_found(shared, tmp_path, caplog):
    """Dam radii that differ by less than the grid can show give identical trajectories."""
    shutil.copy(shared / "pdebench" / "swe" / "2D_rdb_NA_NA.h5", tmp_path / "a.h5")
    found = inspect([tmp_path, shared / "miniweather"])
    names = [system.name for system in found.systems]
    assert names == ["shallow_water", "thermals", "thermals_2"]
    assert len([n for n in found.systems[0].notices if "duplicate" in n]) == 6
    assert not found.refused
