"""Every script of benchmarks/ and docs/ starts, and has the options that its text adds."""

import re
import runpy
import sys

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
