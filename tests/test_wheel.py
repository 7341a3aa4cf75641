"""The wheel, built of the sources and installed where nothing else of them is: it takes along the
models that ship."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.shipping import ship, train_and_score

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, folder: Path) -> str:
    """What a program prints; it finds no package through the environment, and no network."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "PIP_INDEX_URL"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_takes_the_models_along_and_they_are_fine_tuned_elsewhere(tmp_path):
    """An environment of its own has the wheel; the packages that it needs are those of the tests,
    lent by their folders, whose links to the sources are not followed there."""
    pytest.importorskip("hatchling", reason="needs the extra matey-pde[test]")
    train_and_score(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    assert ship(tmp_path, copy / "src/matey/pretrained", "stand-in") == 0
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, folder=copy)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if "/stand-in/" in name}
    one = ["model.safetensors", "config.json", "README.md"]
    files = [*one, "shipped.json", "scores.json", *(f"stencil/{name}" for name in one)]
    assert held == {f"matey/pretrained/stand-in/{name}" for name in files}

    place, here = tmp_path / "environment", tmp_path / "user"
    here.mkdir()
    venv.create(place, with_pip=False)
    python = place / "bin/python"
    pip = ("-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel)
    run(sys.executable, *pip, folder=here)
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=here)
    lent = [path for path in sys.path if Path(path).name == "site-packages"]
    Path(where.strip(), "lent.pth").write_text("\n".join(lent))

    told = run(place / "bin/matey", "models", folder=here)
    assert re.search(r"^stand-in 1   0\.\d MB, BSD-3-Clause$", told, re.MULTILINE), told
    code = "import matey; print(matey.__file__, matey.from_pretrained('stand-in').history)"
    assert run(python, "-c", code, folder=here).startswith(str(place))
    tune = ("finetune", "stand-in", "--data", tmp_path / "mix.yaml", "--trajectories", "1")
    run(place / "bin/matey", *tune, "--steps", "1", "--device", "cpu", folder=here)
    assert (here / "runs/stand-in-finetuned/model/model.safetensors").is_file()
