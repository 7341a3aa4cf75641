"""A study is made cell by cell, and made again it is the same."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from matey.cli import main
from matey.config import DataConfig, RunConfig, SourceConfig
from matey.errors import ConfigError
from matey.evaluate.score import ScoreConfig
from matey.output import to_json, write_text
from matey.records.study import Outcome
from matey.studies.cells import Cell, run_cell
from matey.studies.design import Design, Material
from matey.studies.engine import studying, waves
from matey.studies.run import budget_kept, time_points
from matey.studies.scales import SMALLEST, TOKENS
from matey.studies.systems import find_sources, make_missing, probe_files
from tests.studies.helpers import outcome

SOURCE = Path(__file__).parents[2] / "src"
# What may differ between two runs of a study: times, and what follows from them.
TIMED = {"timing.json", "timing.csv", "study.json", "report.html"}


def smoke(name: str, out: Path, *more: str) -> list[str]:
    return ["study", name, "--scale", "smoke", "--out", str(out), "--device", "cpu", *more]


def records(out: Path) -> dict[str, bytes]:
    """Every file of a study that must not depend on time."""
    files = [out / "results.csv", *sorted(out.glob("cells/*/*/cell.json"))]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_a_study_killed_in_the_middle_finishes_with_the_errors_and_tokens_of_one_that_was_not(
    tmp_path, capsys
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(smoke("tokens", whole, "--jobs", "1")) == 0
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "matey", *smoke("tokens", killed, "--jobs", "2")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and len([*killed.glob("cells/*/*/cell.json")]) < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = len([*killed.glob("cells/*/*/cell.json")])
    wait_for_the_locks(killed)
    capsys.readouterr()
    assert main(smoke("tokens", killed, "--jobs", "1")) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "tokens: cell" in line]
    assert len(told) == 27 - made
    assert records(killed) == records(whole)
    assert main(smoke("tokens", killed, "--repeat", "3")) == 0
    assert "All of 3 came out the same" in capsys.readouterr().out
    assert not [*killed.glob("cells/again/**/cell.json")]
    first = killed / "cells/shallow_water/uniform_coarse-operations-0/cell.json"
    first.write_text(first.read_text().replace('"diverged": 0', '"diverged": 1'))
    assert main(smoke("tokens", killed, "--repeat", "1")) != 0
    assert "1 of 1 cells" in capsys.readouterr().err
    assert main(["report", str(whole), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "2 to 5 times cheaper at equal error" in page
    assert page == (whole / "report.html").read_text()


def wait_for_the_locks(out: Path) -> None:
    """Until the processes of a killed study have noticed; the lock of a dead one stays."""
    for lock in out.glob("cells/*/*/run/.lock"):
        pid = int(lock.read_text().split('"pid": ')[1].split(",")[0])
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < until, "a cell's process outlived the study's"
            time.sleep(0.05)


def test_the_study_of_attention_leaves_tidy_tables_and_a_page(tmp_path):
    out = tmp_path / "attention"
    assert main(smoke("attention", out, "--jobs", "1")) == 0
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    keys = [(row["cell"], row["lead"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row["seed"] for row in rows} == {"0", "1", "2"}
    assert {row["metric"] for row in rows} >= {"nrmse", "tokens", "operations", "parameters"}
    page = (out / "report.html").read_text()
    assert "AViT needs 2 to 3 times" in page
    assert "1.01 to 1.01 of those planned from a few windows" in page  # patches are uniform
    for cell in out.glob("cells/*/*"):
        assert (cell / "run/config.yaml").is_file()
        assert not (cell / "run/checkpoints").exists()


def test_the_study_of_transfer_goes_on_from_its_own_pretraining(tmp_path):
    out = tmp_path / "transfer"
    assert main(smoke("transfer", out, "--jobs", "1")) == 0
    tuned = out / "cells/mhd_cavity/frozen_attention__1-0"
    assert json.loads((tuned / "run/provenance.json").read_text())["parent"] == "run"
    before, after = (
        load_file(out / cell / "run/model/model.safetensors")
        for cell in ("cells/pretraining/0", "cells/mhd_cavity/frozen_attention__1-0")
    )
    blocks = [name for name in before if name.startswith("blocks.")]
    assert all(bool((before[name] == after[name]).all()) for name in blocks)
    assert any(not before[name].equal(after[name]) for name in before if name in after)
    assert "Pretraining helps where there is little data" in (out / "report.html").read_text()


def test_a_plan_says_what_a_study_costs_and_makes_nothing(tmp_path, capsys):
    assert main(smoke("tokens", tmp_path / "x", "--plan")) == 0
    told = capsys.readouterr().out
    assert "27 cells of" in told
    assert "1 system is simulated first" in told
    assert not (tmp_path / "x").exists()
    with studying(tmp_path / "y", {"study": "attention"}):
        pass
    assert main(smoke("tokens", tmp_path / "y", "--plan")) == 2
    assert "holds another study" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused_and_left_as_it_is(tmp_path):
    with studying(tmp_path / "s", {"study": "tokens", "seed": 0}):
        pass
    with studying(tmp_path / "s", {"study": "tokens", "seed": 0}):
        pass
    with (
        pytest.raises(ConfigError, match="holds another study"),
        studying(tmp_path / "s", {"study": "tokens", "seed": 1}),
    ):
        pass
    data = DataConfig((SourceConfig("water", ("swe",)),))
    record = tmp_path / "older/study.yaml"
    with studying(record.parent, {"study": "tokens", "data": data}):
        older = "".join(line for line in record.open() if "uneven:" not in line)
        assert older != record.read_text()
    record.write_text(older)  # as of a version that had no such setting
    with studying(record.parent, {"study": "tokens", "data": data}):
        pass
    with (
        pytest.raises(ConfigError, match="holds another study"),
        studying(record.parent, {"study": "tokens", "data": replace(data, trajectories=2)}),
    ):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with (
        pytest.raises(ConfigError, match="is not empty"),
        studying(tmp_path / "mine", {"study": "tokens"}),
    ):
        pass
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_cell_that_starts_from_one_that_diverged_is_a_result_too(tmp_path):
    lost = outcome("pretraining", "steps", 0, 1.0, failed="The loss is nan", leads=())
    write_text(tmp_path / "cells/before/cell.json", to_json({**vars(lost), "guides": []}))
    data = DataConfig((SourceConfig("water", ("none",)),))
    run, ask = RunConfig(data=data), ScoreConfig(steps=1)
    cell = Cell("after", "point", "water", "steps", run, 1.0, data, ask, "before")
    found = run_cell(cell, tmp_path)
    assert found.error() == math.inf
    assert found.failed == "before, where it starts from: The loss is nan"
    assert Outcome.load(tmp_path / "cells/after/cell.json") == found
    assert budget_kept([cell], [found], tmp_path) == []  # it was never trained


def test_cells_that_start_from_others_wait_for_them():
    def cell(name: str, parent: str = "") -> Cell:
        run, data, ask = RunConfig(), DataConfig(), ScoreConfig(steps=1)
        return Cell(name, "point", "system", "steps", run, 1.0, data, ask, parent)

    cells = [cell("c", "b"), cell("b", "a"), cell("a"), cell("d", "done already")]
    found = [[one.name for one in wave] for wave in waves(cells)]
    assert found == [["a", "d"], ["b"], ["c"]]


def test_an_operating_point_is_timed_once_and_again_when_it_has_become_another(tmp_path):
    recipe = TOKENS["smoke"].recipes[0]
    source = find_sources([recipe], DataConfig(), tmp_path)[recipe.name]
    make_missing([recipe], {recipe.name: source}, lambda text: None)
    probes = {recipe.name: probe_files(source, TOKENS["smoke"].window_config)}
    material = Material(TOKENS["smoke"], {recipe.name: source}, probes, 0, "cpu")
    told: list[str] = []
    for patch in (4, 4, 8):
        model = replace(SMALLEST, mode="uniform", patches=(patch,))
        benches = {recipe.name: {"uniform": material.config(recipe.name, model)}}
        time_points(Design((), benches), material, tmp_path, told.append)
    assert told == ["timing shallow_water"] * 2
