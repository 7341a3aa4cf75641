"""Finding files, telling systems apart, and reading in other processes."""

import multiprocessing
import pickle

import h5py
import pytest
import torch

from matey import open as open_fields
from matey.config import SourceConfig
from matey.data.formats import files, hdf5
from matey.data.formats.find import find_files
from matey.data.reader import open_reader
from matey.data.trajectories import Fields, open_source
from matey.errors import DataError


def read_mean(fields, trajectory):
    return float(fields.read(trajectory, slice(1, 3)).values.mean())


def test_only_the_asked_frames_are_given(tmp_path, make_compressible):
    fields = open_fields(make_compressible(tmp_path / "a.hdf5"))
    part = fields.read(1, slice(2, 5))
    torch.testing.assert_close(part.values, fields[1].values[2:5], rtol=0, atol=0)
    assert part.times.tolist() == fields.trajectories[1].times[2:5].tolist()
    with pytest.raises(DataError, match="select nothing"):
        fields.read(0, slice(4, 4))


def test_the_last_trajectory_can_be_asked_for_from_the_end(tmp_path, make_compressible):
    fields = open_fields(make_compressible(tmp_path / "a.hdf5"))
    assert torch.equal(fields[-1].values, fields[1].values)
    with pytest.raises(IndexError):
        fields[2]


def test_files_of_one_system_are_one_sequence(tmp_path, make_compressible):
    for name in ("a.hdf5", "b.hdf5"):
        make_compressible(tmp_path / name)
    fields = open_fields(tmp_path)
    assert [t.name for t in fields.trajectories] == [
        "a.hdf5#0000",
        "a.hdf5#0001",
        "b.hdf5#0000",
        "b.hdf5#0001",
    ]


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, make_compressible):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        make_compressible(tmp_path / folder / "a.hdf5", samples=1)
    names = [t.name for t in open_fields(tmp_path).trajectories]
    assert names == ["one/a.hdf5#0000", "two/a.hdf5#0000"]


def test_two_systems_in_one_folder_are_listed(tmp_path, make_compressible, make_shallow):
    make_compressible(tmp_path / "a.hdf5")
    make_shallow(tmp_path / "b.h5")
    with pytest.raises(DataError, match=r"2 systems.*compressible.*shallow_water"):
        open_fields(tmp_path)


def test_a_file_that_lacks_a_parameter_is_named(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5")
    with h5py.File(make_compressible(tmp_path / "b.hdf5"), "a") as file:
        del file.attrs["eta"]
    with pytest.raises(DataError, match=r"b\.hdf5 has the parameters \['M', 'zeta'\]"):
        open_fields(tmp_path)


def test_a_source_gives_its_name_to_the_system(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    fields = open_source(SourceConfig("mine", (str(path),)))
    assert fields.spec.name == fields[0].spec.name == "mine"


def test_a_folder_may_hold_other_files_but_not_damaged_ones(tmp_path, make_compressible, caplog):
    make_compressible(tmp_path / "a.hdf5")
    (tmp_path / "notes.npy").write_bytes(b"to do")
    assert len(open_fields(tmp_path)) == 2
    assert "notes.npy" in caplog.text
    with pytest.raises(DataError, match=r"notes\.npy"):
        open_fields(tmp_path, tmp_path / "notes.npy")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(DataError, match=r"empty\.h5 is empty \(0 bytes\)"):
        open_fields(tmp_path)


def test_files_are_found_once_in_order_by_folder_pattern_or_name(tmp_path, make_compressible):
    (tmp_path / "deep").mkdir()
    b = make_compressible(tmp_path / "deep" / "b.hdf5")
    a = make_compressible(tmp_path / "a.hdf5")
    assert find_files([tmp_path]) == find_files([tmp_path / "**" / "*.hdf5"]) == [a, b]
    assert find_files([b, tmp_path]) == [b, a]


def test_a_missing_path_names_the_nearest(tmp_path):
    (tmp_path / "data.h5").touch()
    with pytest.raises(DataError, match=r"Did you mean 'data\.h5'"):
        find_files([tmp_path / "dta.h5"])
    with pytest.raises(DataError, match="No file fits the pattern"):
        find_files([tmp_path / "*.nc"])


@pytest.mark.parametrize("name", ["wörk 数据.hdf5", "a b.hdf5", "line\nbreak.hdf5", "b[1]#x.hdf5"])
def test_any_file_name_is_read_and_shown_on_one_line(tmp_path, make_compressible, name):
    path = make_compressible(tmp_path / name)
    assert len(open_fields(path)) == 2
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError) as error:
        open_fields(path)
    assert "\n" not in str(error.value)


def test_values_in_spawned_and_forked_processes_are_identical(tmp_path, make_compressible):
    fields = open_fields(make_compressible(tmp_path / "a.hdf5"))
    expected = [read_mean(fields, i) for i in range(2)]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.starmap(read_mean, [(fields, i) for i in range(2)]) == expected


def test_a_pickled_reader_holds_the_path_not_the_values(tmp_path, make_compressible):
    fields = open_fields(make_compressible(tmp_path / "a.hdf5"))
    fields[0]
    assert len(pickle.dumps(fields)) < 1000
    assert isinstance(pickle.loads(pickle.dumps(fields)), Fields)


def test_open_files_are_bounded(tmp_path, make_compressible, monkeypatch):
    monkeypatch.setattr(files, "MAX_HANDLES", 2)
    for i in range(4):
        make_compressible(tmp_path / f"{i}.hdf5")
    fields = open_fields(tmp_path)
    for i in range(len(fields)):
        fields.read(i, slice(0, 1))
    assert len(files._handles) <= 2


def test_a_file_that_changes_or_vanishes_is_named(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    reader = open_reader(path)
    reader.read(0)
    make_compressible(tmp_path / "new.hdf5", frames=5).replace(path)
    with pytest.raises(DataError, match="changed while it was in use"):
        reader.read(0)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.hdf5 cannot be opened"):
        reader.read(0)


def test_the_datasets_that_a_process_keeps_open_are_bounded(tmp_path, make_shallow, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_OPEN", 1)
    files.close_files()
    fields = open_fields(make_shallow(tmp_path / "a.h5"))
    expected = [fields[0].values, fields[1].values]
    assert all(torch.equal(fields[i].values, expected[i]) for i in (1, 0, 1))
    (file,) = files._handles.values()
    assert list(file._arrays) == ["0001/data"]
