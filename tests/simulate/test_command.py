"""`matey simulate` from the command line."""

import h5py
import pytest

from matey.cli import main
from matey.simulate import SYSTEMS

SMALL = ["--trajectories", "2", "--resolution", "8", "--steps", "3", "--device", "cpu"]
COARSEST = {  # points that these systems need
    "kuramoto_sivashinsky": ["--resolution", "32"],
    "fracture": ["--resolution", "40"],
}


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_one_command_writes_a_file_in_the_wells_layout(name, tmp_path, capsys):
    options = [*SMALL, *COARSEST.get(name, [])]
    assert main(["simulate", name, "--out", str(tmp_path / "new"), *options]) == 0
    (path,) = tmp_path.glob("new/data/**/*.hdf5")
    with h5py.File(path) as file:
        assert file.attrs["dataset_name"] == name
        assert file.attrs["n_trajectories"] == 2
    assert str(path) in capsys.readouterr().out.replace("\n", "")


def test_dimensions_are_chosen_where_there_are_several(tmp_path):
    for ndim in ("1", "3"):
        out = tmp_path / ndim
        assert main(["simulate", "gray_scott", "--out", str(out), "--ndim", ndim, *SMALL]) == 0
        (path,) = out.glob("data/**/*.hdf5")
        with h5py.File(path) as file:
            assert file.attrs["n_spatial_dims"] == int(ndim)


def test_a_dimension_that_is_not_there_is_refused_in_one_line(tmp_path, capsys):
    out = str(tmp_path / "new")
    assert main(["simulate", "thermals", "--out", out, "--ndim", "3", *SMALL]) == 2
    assert "ndim is 3, expected 2" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["simulate", "thermals", "--out", str(tmp_path), *SMALL]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_system_is_one_line_with_a_suggestion(tmp_path, capsys):
    assert main(["simulate", "thermal", "--out", str(tmp_path / "new"), *SMALL]) == 2
    assert "Did you mean 'thermals'?" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_help_lists_every_system(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["simulate", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in SYSTEMS)
