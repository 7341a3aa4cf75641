"""Which learning rate is best at which width: the test error of short trainings around it.

    python benchmarks/rates.py                                           # widths 32, 96, 192
    python benchmarks/rates.py --key model.latent_channels --values 8 32 \
        --more "--model.local 0 --model.levels 0 --model.stencil false"

Diffusion-reaction and shallow water are simulated on small grids, and one model of both is trained
at each value of the key and each rate, for as many steps. The error is the geometric mean over
systems and seeds of the NRMSE on test trajectories, one step ahead. Where the best rate has
neighbours, the best of all is that of the parabola through the three, in logarithms. Rates are
worth comparing where the model learned: the error stands beside that of persistence.
"""

import argparse
import math
import os
import shutil
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from common import report

from matey.cli import main as matey
from matey.records.scores import Scores

SYSTEMS = {"diffusion_reaction": 24, "shallow_water": 24}  # trajectories of each
SETTINGS = """
model:
  embed_dim: 96
  heads: 3
  depth: 4
  scheme: svit
  mode: adap_mix
  patches: [8, 4]
  refine: {threshold: 0.3}
  local: 32
  levels: 2
  stencil: true
windows: {history: 2}
loss: {of: log}
optim: {warmup: 30}
batch: 4
log_every: 50
"""


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", default="model.embed_dim", help="what is varied")
    parser.add_argument("--values", nargs="+", type=int, default=[32, 96, 192])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 1.8e-3, 3.2e-3, 5.6e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--more", default="", help="further options of matey train")
    parser.add_argument("--out", default="benchmarks/results/rates.json", help="the file to write")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        for value in args.values:
            errors = {}
            for rate in args.rates:
                each = [error_of(folder, args, value, rate, seed) for seed in args.seeds]
                errors[rate] = math.exp(fmean(error for error, _ in each))
                still = math.exp(fmean(persistence for _, persistence in each))
                rows.append({args.key: value, "lr": rate, "NRMSE": errors[rate]})
                print(rows[-1], flush=True)
            rows.append({args.key: value, "lr": best_rate(errors), "NRMSE": min(errors.values())})
    settings = {"steps": args.steps, "seeds": args.seeds, "more": args.more, "persistence": still}
    report(rows, args.out, "cpu", **settings)


def make_data(folder: Path) -> None:
    """Simulate the systems, and describe them."""
    for system, trajectories in SYSTEMS.items():
        run(
            *("simulate", system, "--out", folder / "data" / system, "--resolution", 32),
            *("--trajectories", trajectories, "--steps", 12, "--seed", 0),
        )
    run("data", "inspect", folder / "data", "--write", folder / "mix.yaml")
    (folder / "config.yaml").write_text(SETTINGS)


def error_of(
    folder: Path, args: argparse.Namespace, value: int, rate: float, seed: int
) -> tuple[float, float]:
    """Mean logarithms over systems of the error of one training, and of persistence."""
    for old in ("run", "scores"):
        shutil.rmtree(folder / old, ignore_errors=True)
    heads = ["--model.heads", value // 32] if args.key == "model.embed_dim" else []
    run(
        *("train", "--config", folder / "config.yaml", "--data", folder / "mix.yaml"),
        *("--run", folder / "run", "--device", "cpu", "--seed", seed, f"--{args.key}", value),
        *("--steps", args.steps, "--optim.lr", rate, *heads, *args.more.split()),
    )
    words = ("--rollout", 1, "--device", "cpu", "--out", folder / "scores")
    run("evaluate", folder / "run", "--data", folder / "mix.yaml", *words)
    curves = [one.main for one in Scores.load(folder / "scores" / "scores.json").systems]
    error = fmean(math.log(curve.error[0]) for curve in curves)
    return error, fmean(math.log(curve.persistence[0]) for curve in curves)


def run(*words: Any) -> None:
    """One command of matey in this process. Raises RuntimeError where it fails."""
    code = matey([str(word) for word in words])
    if code:
        raise RuntimeError(f"matey {' '.join(map(str, words))} ended with {code}")


def best_rate(errors: dict[float, float]) -> float:
    """The rate of the least error: between rates, of the parabola through it and its neighbours."""
    rates = sorted(errors)
    place = min(range(len(rates)), key=lambda i: errors[rates[i]])
    if place in (0, len(rates) - 1):
        return rates[place]
    x = [math.log(rates[i]) for i in (place - 1, place, place + 1)]
    y = [math.log(errors[rates[i]]) for i in (place - 1, place, place + 1)]
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    return math.exp((x[0] + x[1]) / 2 - left / (2 * curvature))


if __name__ == "__main__":
    main()
