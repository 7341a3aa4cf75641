"""`matey simulate` from the command line."""

import h5py
import pytest

from matey.cli import main
from matey.cli.simulate import LEVELS, picture, read_stills
from matey.simulate import SYSTEMS

SMALL = ["--trajectories", "2", "--resolution", "8", "--steps", "3", "--device", "cpu"]
SMALL += ["--jobs", "1"]
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


def test_the_list_shows_every_system_with_its_equation(capsys):
    assert main(["simulate", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in SYSTEMS)
    assert "u_t + (u·∇)u = ν ∇²u" in shown
    assert "▓" in shown


def test_stills_are_pictures_of_systems():
    for name, (columns, letters) in read_stills().items():
        assert name in SYSTEMS
        assert set(letters) <= set(LEVELS)
        assert len(letters) % (2 * columns) == 0  # rows in pairs
        assert len(set(letters)) > 5


def test_a_still_is_drawn_in_colours_or_in_shades():
    """Two rows of two points: below dark and bright, above the other way round."""
    shades, colours = picture(2, "/AA/", False), picture(2, "/AA/", True)
    assert shades.plain == "▒▒\n"
    assert colours.plain == "▀▀\n"
    assert [str(span.style) for span in colours.spans] == [
        "#fde725 on #440154",
        "#440154 on #fde725",
    ]


@pytest.mark.parametrize("words", [["--out", "new"], ["burgers"]])
def test_what_is_missing_is_asked_for(words, capsys):
    assert main(["simulate", *words]) == 2
    assert "What is to be simulated, and where to? Give " in capsys.readouterr().err
