"""Every script of benchmarks/ and docs/ starts, and has the options that its text adds."""

import json
import re
import runpy
import subprocess
import sys
from argparse import Namespace
from importlib import import_module

import pytest

from tests.pages import ROOT, options_of_script

SCRIPTS = [
    path
    for folder in ("benchmarks", "docs")
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.name != "common.py"  # what the others share
]


@pytest.fixture
def modules():
    """Modules of a script's own folder are forgotten again: others have some of that name."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(
            (str(ROOT / "benchmarks"), str(ROOT / "docs"))
        ):
            del sys.modules[name]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_imported_and_tells_its_options(script, capsys, monkeypatch):
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    told = re.findall(r"^  (?:-h, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert set(told) == options_of_script(script)


@pytest.fixture
def gpu(modules, monkeypatch):
    """The benchmark of a GPU, as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("gpu")


@pytest.mark.parametrize("part", ["kernels", "steps", "training", "inference"])
def test_each_part_of_the_benchmark_of_a_gpu_runs_on_a_cpu(gpu, part):
    tiny = Namespace(device="cpu", tiny=True, scheme="svit", repeats=1, threads=1)
    rows = list(gpu.PARTS[part][0](tiny))
    assert len({tuple(row) for row in rows}) == 1
    assert all(row.get("right", True) and row.get("same", True) for row in rows), rows
    if part == "training":  # on one device the same bits
        assert [row["first losses apart"] for row in rows[:2]] == [0, 0]


def test_all_parts_of_the_benchmark_of_a_gpu_take_less_than_ten_minutes(gpu):
    assert sum(limit for _, limit in gpu.PARTS.values()) < 590
    assert set(gpu.PARTS) == {"kernels", "steps", "training", "inference", "compiled"}


@pytest.mark.slow
def test_the_compiled_part_of_the_benchmark_of_a_gpu_runs_on_a_cpu(tmp_path):
    """In a process of its own: compiled code does not pass the checks of annotations in tests."""
    script, out = ROOT / "benchmarks/gpu.py", tmp_path / "gpu.json"
    words = ["--device", "cpu", "--tiny", "--repeats", "1", "--parts", "compiled"]
    subprocess.run([sys.executable, str(script), *words, "--out", str(out)], check=True)
    found = json.loads(out.read_text())["parts"]["compiled"]
    assert found["ended"] == "whole"
    assert found["rows"]


@pytest.mark.slow
def test_a_part_that_is_cut_leaves_its_rows_and_those_of_others(tmp_path):
    """The time that Python takes to import torch is enough for no row."""
    script, out = ROOT / "benchmarks/gpu.py", tmp_path / "gpu.json"
    words = [sys.executable, str(script), "--device", "cpu", "--tiny", "--out", str(out)]
    for limit, ended in (("0.1", "cut after 0.1 s"), ("300", "whole")):
        parts = ["--repeats", "1", "--limit", limit, "--parts", "inference", "kernels"]
        subprocess.run([*words, *parts], check=True, timeout=600)
        found = json.loads(out.read_text())["parts"]
        assert [part["ended"] for part in found.values()] == [ended] * 2
        assert all(bool(part["rows"]) == (ended == "whole") for part in found.values())


@pytest.mark.parametrize("page", ["docs/scaling.md", "docs/performance.md"])
def test_tables_of_a_page_are_those_of_the_result_files(page):
    """`python docs/tables.py` writes them anew."""
    text = (ROOT / page).read_text(encoding="utf-8")
    tables = runpy.run_path(str(ROOT / "docs/tables.py"))
    assert tables["filled"](text) == text
    assert text.count("<!-- table: ") == text.count("<!-- end -->") > 0
