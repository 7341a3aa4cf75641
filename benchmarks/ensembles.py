"""What ensembles are worth: spread over error and CRPS on three systems, beside the model that they
were fine-tuned from, and beside perturbed inputs.

    python benchmarks/ensembles.py --out ensembles                 # all of it, piece by piece
    python benchmarks/ensembles.py --out ensembles --systems burgers --seeds 0
    python benchmarks/ensembles.py --out ensembles --table         # what is there, as Markdown

A piece is a seed of a system: a small model is trained, goes on as many steps by the same loss and,
from the same start, by the CRPS; both are scored on test trajectories, the first alone and with
perturbed inputs of several sizes, of which the best by CRPS counts. Pieces that are there are not
done again, and one that was interrupted goes on where it was.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from matey.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SourceConfig,
    WindowConfig,
)
from matey.data.systems import open_systems
from matey.data.windows import Rollouts
from matey.data.write import write_well
from matey.evaluate.ensembles import EnsembleConfig, score_ensembles
from matey.nn.folder import from_pretrained
from matey.simulate.trajectories import simulate
from matey.train.finetune import finetune
from matey.train.loop import train

SYSTEMS: dict[str, dict[str, Any]] = {
    "kuramoto_sivashinsky": {"ndim": 1, "resolution": 64, "steps": 61, "change": {"span": 120.0}},
    "burgers": {"ndim": 1, "resolution": 64, "steps": 41},
    "shallow_water": {"resolution": 32, "steps": 21},
}
BATCH = {"shallow_water": 4}  # else 16
SEEDS = (0, 1, 2, 3, 4)
TRAJECTORIES, MEMBERS, STEPS = 40, 8, 16
TRAINING, TUNING = 300, 150  # steps
PERTURBED = (0.003, 0.01, 0.03, 0.1)
MODEL = ModelConfig(
    embed_dim=32, heads=2, depth=2, mode="uniform", patches=(8,), local=16, levels=2
)


def main() -> None:
    """Do the pieces that are asked for, or print a table of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="ensembles", help="the folder of all pieces")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--table", action="store_true", help="print what is there, and stop")
    parser.add_argument("--training", type=int, default=TRAINING, help="steps of the first model")
    parser.add_argument("--tuning", type=int, default=TUNING, help="steps after that")
    parser.add_argument("--windows", type=int, default=48, help="rollouts that are scored")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(args.out)
    if not args.table:
        for seed in args.seeds:
            for system in args.systems:
                piece(system, seed, out, args.training, args.tuning, args.windows)
    table(out)


def piece(system: str, seed: int, out: Path, training: int, tuning: int, windows: int) -> None:
    """Train, go on both ways, and score, unless that is done."""
    folder = out / f"{system}-{seed}"
    if (folder / "row.json").is_file():
        return
    data = DataConfig((SourceConfig(system, (str(simulated(system, out)),)),))
    config = RunConfig(
        model=MODEL,
        windows=WindowConfig(history=2, roll=True),
        optim=OptimConfig(lr=3e-3, warmup=20),
        data=data,
        batch=BATCH.get(system, 16),
        steps=training,
        validate_every=0,
        checkpoint_every=50,
        log_every=50,
        threads=1,
        seed=seed,
        device="cpu",
    )
    more = replace(config, steps=tuning, optim=OptimConfig(lr=1e-3, warmup=20))
    crps = replace(more, loss=LossConfig(of="crps"), model=replace(MODEL, noise=16))
    first = folder / "first"
    if not done(first):
        train(config, first, resume=True)
    for name, settings in (("alone", more), ("crps", crps)):
        if not done(folder / name):
            finetune(first, settings, folder / name, resume=True)
    alone, ours = from_pretrained(folder / "alone"), from_pretrained(folder / "crps")
    (opened,) = open_systems(data, training=False).values()
    tests = Rollouts(opened.fields, opened.split["test"], ours.history, STEPS, limit=windows)
    leads, rows = list(range(1, tests.steps + 1)), {}
    for size in PERTURBED:
        model = ours if size == PERTURBED[0] else alone  # whose own members are scored once
        ask = EnsembleConfig(MEMBERS, size, alone, "alone")
        made = score_ensembles(model, tests, ask, leads, windows, 0, folder / "members.npz")
        for name, one in (("crps", made.model), (f"inputs ± {size:g} σ", made.perturbed)):
            if one is not None:
                rows[name] = {
                    "crps over mae": made.crps_over_mae(one),
                    "energy over rmse": made.energy_over_rmse(one),
                    "calibration": one.mean("calibration"),
                    "coverage": one.mean("coverage"),
                    "nominal": one.nominal,
                }
    text = {"system": system, "seed": seed, "training": training, "tuning": tuning, "rows": rows}
    (folder / "row.json").write_text(json.dumps(text, indent=2) + "\n")


def done(run: Path) -> bool:
    """Whether a run has its last model."""
    return (run / "model").is_dir()


def simulated(system: str, out: Path) -> Path:
    """The trajectories of a system, made once."""
    path = out / "data" / system
    if not path.is_dir():
        made = simulate(system, trajectories=TRAJECTORIES, seed=0, **SYSTEMS[system])
        write_well(made, path, name=system)
    return path


def table(out: Path) -> None:
    """Medians over seeds at the first lead, after a quarter of the steps, and at the last; of
    perturbed inputs those of the size that has the least CRPS over all leads."""
    pieces = [json.loads(path.read_text()) for path in sorted(out.glob("*-*/row.json"))]
    leads = (1, STEPS // 4, STEPS)
    print("| system | seeds | ensemble | CRPS / MAE | spread / error | coverage (nominal) |")
    print("|---|---|---|---|---|---|")
    for system in dict.fromkeys(one["system"] for one in pieces):
        alike = [one for one in pieces if one["system"] == system]
        names = [name for name in alike[0]["rows"] if name != "crps"]
        best = min(names, key=lambda name: sum(mean_of(one, name) for one in alike))
        for name in ("crps", best):
            cells = []
            for score in ("crps over mae", "calibration", "coverage"):
                values = [
                    statistics.median(one["rows"][name][score][lead - 1] for one in alike)
                    for lead in leads
                ]
                cells.append(", ".join(f"{value:.2f}" for value in values))
            cells[-1] += f" ({alike[0]['rows'][name]['nominal']:.2f})"
            print(f"| {system} | {len(alike)} | {name} | " + " | ".join(cells) + " |")


def mean_of(one: dict[str, Any], name: str) -> float:
    """The mean over leads of CRPS over absolute error."""
    return statistics.mean(one["rows"][name]["crps over mae"])


if __name__ == "__main__":
    main()
