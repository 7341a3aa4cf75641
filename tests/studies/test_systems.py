"""What a study takes from files, what it simulates, and what it says of that beforehand."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from matey.cli import main
from matey.config import DataConfig, RunConfig, SourceConfig, SplitConfig
from matey.errors import ConfigError
from matey.evaluate.score import ScoreConfig
from matey.studies.cells import Cell
from matey.studies.run import Request, plan, prepare, run, trajectories
from matey.studies.scales import ATTENTION, TOKENS, TRANSFER
from matey.studies.systems import Source, check_patch, probe_recipe, tell_unused
from tests.files import write_shallow_water


def source(real: bool) -> Source:
    return Source("thermals", DataConfig((SourceConfig("thermals", ("a.nc",)),)), real)


@pytest.mark.parametrize("grid", [(1, 50, 50), (1, 101, 101), (1, 64, 50)])
def test_a_grid_without_a_medium_patch_is_refused_with_its_system_and_the_way_out(grid):
    message = rf"System 'thermals'.*{grid[1]} × {grid[2]}.*4 divides.*leave the system out of"
    with pytest.raises(ConfigError, match=message):
        check_patch(source(real=True), grid, 256)
    with pytest.raises(ConfigError, match=r"every axis\.$"):  # nothing to leave out
        check_patch(source(real=False), grid, 256)


def test_files_whose_grid_has_no_medium_patch_are_refused_before_anything_is_simulated(tmp_path):
    path = write_shallow_water(tmp_path / "water.h5", points=50)
    given = DataConfig((SourceConfig("shallow_water", (str(path),)),))
    with pytest.raises(ConfigError, match=r"System 'shallow_water'.*50 × 50"):
        prepare(Request("attention", "smoke", tmp_path / "out", given), lambda text: None)


def test_files_that_the_one_patch_of_a_study_does_not_cut_are_refused_by_name(tmp_path):
    path = write_shallow_water(tmp_path / "water.h5", points=50)
    given = DataConfig((SourceConfig("shallow_water", (str(path),)),))
    with pytest.raises(ConfigError, match=r"'shallow_water'.*50 × 50.*so that 4 divides.*or leave"):
        prepare(Request("transfer", "smoke", tmp_path / "out", given), lambda text: None)


def test_a_medium_patch_far_from_the_tokens_asked_for_is_said(caplog):
    """100 is 4 times 25: patches of 2 it is, 2500 of them in place of 256."""
    caplog.set_level(logging.WARNING, "matey")
    check_patch(source(real=True), (1, 100, 100), 256)
    (said,) = caplog.messages
    assert "'thermals': medium patches of 2" in said
    assert "2,500 tokens" in said
    assert "about 256" in said


def test_no_scale_warns_of_what_it_simulates_itself(caplog):
    caplog.set_level(logging.WARNING, "matey")
    for scale in (TOKENS["smoke"], TOKENS["cpu"], ATTENTION["smoke"], ATTENTION["cpu"]):
        for recipe in scale.recipes:
            check_patch(source(real=False), probe_recipe(recipe, 1).grid, scale.tokens)
    assert not caplog.messages


def test_the_price_comes_before_anything_is_made_and_from_one_history_of_each_system(tmp_path):
    """Of two systems at 16 and 32 points two frames each, while `data` is not there."""
    heard = []
    request = Request("attention", "smoke", tmp_path / "out", DataConfig(), device="cpu")

    class EnoughError(Exception):
        """Ends the study where it would begin."""

    def priced(price) -> None:
        heard.append("price")
        assert not (tmp_path / "out/data").exists()
        assert price.whole.cells > 0

    def told(text: str) -> None:
        heard.append(text)
        if text == "simulating shallow_water_32":
            raise EnoughError

    with pytest.raises(EnoughError):
        run(request, told, priced, lambda done: None)
    assert heard == [
        "simulating 2 frames of shallow_water to plan with",
        "simulating 2 frames of shallow_water_32 to plan with",
        "price",
        "simulating shallow_water",
        "simulating shallow_water_32",
    ]
    probe = probe_recipe(TRANSFER["smoke"].recipes[0], 2)
    assert [one.values.shape[1] for one in probe.inputs] == [2]


def test_a_plan_simulates_no_more_frames_than_a_window_has(tmp_path, monkeypatch):
    from matey.studies import systems

    asked = []

    def watched(*args, frames=None, **more):
        asked.append(frames)
        return simulate(*args, frames=frames, **more)

    simulate = systems.simulate
    monkeypatch.setattr(systems, "simulate", watched)
    request = Request("tokens", "smoke", Path("none"), DataConfig(), device="cpu")
    plan(request, lambda text: None)
    assert asked == [TOKENS["smoke"].history]


def unused(*names: str) -> list[str]:
    """What is told of systems of these names, given to the study of attention."""
    told: list[str] = []
    given = DataConfig(tuple(SourceConfig(name, (f"{name}.h5",)) for name in names))
    tell_unused(ATTENTION["cpu"].recipes, given, told.append)
    return told


def test_a_misspelt_system_is_a_warning_that_names_the_one_that_is_simulated(caplog):
    caplog.set_level(logging.WARNING, "matey")
    assert unused("thermal", "compressible") == []
    (said,) = caplog.messages
    assert said.startswith("System 'thermal' of --data is not used")
    assert "Did you mean 'thermals'?" in said


def test_a_system_of_another_study_is_told_and_no_warning(caplog):
    """`incompressible` is close to `compressible`, and no misspelling of it; `shallow_water_64` is
    always simulated, and `shallow_water` is given."""
    caplog.set_level(logging.WARNING, "matey")
    told = unused("incompressible", "shallow_water_64", "shallow_water", "own")
    names = ("incompressible", "own", "shallow_water_64")
    assert told == [
        f"system {name!r} of --data is not used: this study reads none of that name"
        for name in names
    ]
    assert not caplog.messages


def test_what_is_not_used_is_told_before_the_price(tmp_path):
    told: list[str] = []
    given = DataConfig((SourceConfig("gray_scott", ("none.h5",)),))
    plan(Request("tokens", "smoke", tmp_path / "out", given, device="cpu"), told.append)
    assert told[0].startswith("system 'gray_scott' of --data is not used")


def cell(name: str, data: DataConfig, **more) -> Cell:
    run = RunConfig(data=data)
    return Cell(name, "point", **{"system": "water", "test": data, **more}, **REST, config=run)


REST = {"budget": "steps", "operations": 1.0, "ask": ScoreConfig(steps=1)}


def test_the_page_says_how_many_trajectories_there_are_for_what(tmp_path):
    """Ten trajectories: two for the test, one for validation, seven to train on, of which some
    cells have fewer. All ten are a test where the training is on others."""
    water = (SourceConfig("water", (str(write_shallow_water(tmp_path / "w.h5", 10)),)),)
    data = DataConfig(water, SplitConfig(valid=0.1, test=0.2))
    few, other = replace(data, trajectories=2), replace(data, split=SplitConfig(valid=0, test=1))
    cells = [cell("a", data), cell("b", few), cell("c", few, system="other", test=other)]
    assert trajectories(cells) == (
        "water 2 or 7 to train on, 1 to choose by, 2 to test on; "
        "other 2 to train on, 1 to choose by, 10 to test on"
    )


def test_a_study_of_files_says_that_they_are_and_reads_them_by_the_data_config(
    tmp_path, capsys, monkeypatch
):
    """With one seed and short trainings, to be quick."""
    small = replace(TOKENS["smoke"], seeds=1, operations=1e6)
    monkeypatch.setitem(TOKENS, "smoke", small)
    path = write_shallow_water(tmp_path / "water.h5")
    (tmp_path / "mix.yaml").write_text(
        f"systems:\n  - name: shallow_water\n    paths: [{path}]\nsplit:\n  test: 0.4\n"
    )
    words = "study tokens --scale smoke --jobs 1 --device cpu --data"
    out = tmp_path / "out"
    assert main([*words.split(), str(tmp_path / "mix.yaml"), "--out", str(out)]) == 0
    assert not (out / "data").exists()
    page = (out / "report.html").read_text()
    assert "from the files given: shallow_water" in page
    assert "simulated:" not in page
    # Of six trajectories 0.4 are two, and one is for validation.
    assert "shallow_water 3 to train on, 1 to choose by, 2 to test on" in page
    assert "simulating" not in capsys.readouterr().err
