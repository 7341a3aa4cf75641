"""A model that ships, made in seconds: what stands in for those of the package."""

import runpy
from pathlib import Path

import yaml

from matey.cli import main
from tests.files import write_shallow_water

ROOT = Path(__file__).parents[1]
SHIP = ROOT / "examples/pretrain-mini/ship.py"
SMALL = "--model.embed_dim 8 --model.heads 1 --model.depth 1 --model.patches [8,4] --device cpu"


def train_and_score(folder: Path, name: str = "shallow_water") -> None:
    """A run of one step, `run`, and its scores, `results`, on a small file, `water.h5`."""
    write_shallow_water(folder / "water.h5")
    mix = {"systems": [{"name": name, "paths": [str(folder / "water.h5")]}]}
    (folder / "mix.yaml").write_text(yaml.safe_dump(mix))
    run = f"--data {folder}/mix.yaml --run {folder}/run --windows.history 2 --steps 1 --batch 2"
    assert main(["train", *run.split(), *SMALL.split()]) == 0
    score = f"evaluate {folder}/run --data {folder}/mix.yaml --rollout 2 --out {folder}/results"
    assert main(score.split()) == 0


def ship(folder: Path, out: Path, name: str = "mini") -> int:
    """Make a model that ships, below `out`, of the run and the results in a folder."""
    words = f"{folder}/run {folder}/results --name {name} --version 1 --out {out}"
    code: int = runpy.run_path(str(SHIP))["main"](words.split())
    return code
