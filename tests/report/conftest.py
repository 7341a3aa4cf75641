"""Result folders as training and evaluation write them, with made-up but plausible physics."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml


def ring(points: int, radius: float) -> np.ndarray:
    """Height of shallow water after a dam of this radius broke, on [Y X]."""
    y, x = np.mgrid[0:points, 0:points] / points - 0.5
    distance = np.hypot(y + 0.08, x - 0.06)
    height = 1 + 0.6 / (1 + np.exp((distance - radius) * 60))
    return (height - 0.5 * np.exp(-(((distance - 0.5 * radius) / 0.08) ** 2))).astype(np.float32)


def leaves(plane: np.ndarray, coarse: int, fine: int, threshold: float) -> dict[str, np.ndarray]:
    """Cells of a plane [Y X]: coarse ones, cut finer where they vary most."""
    rows, columns = plane.shape
    step_y, fine_y = min(coarse, rows), min(fine, rows)
    corners = [(y, x) for y in range(0, rows, step_y) for x in range(0, columns, coarse)]
    variance = [plane[y : y + step_y, x : x + coarse].var() for y, x in corners]
    cells = []
    for (y, x), v in zip(corners, variance, strict=True):
        if v <= threshold * max(variance):
            cells.append((y, x, step_y, coarse, 0))
            continue
        cells += [
            (y + j, x + i, fine_y, fine, 1)
            for j in range(0, step_y, fine_y)
            for i in range(0, coarse, fine)
        ]
    array = np.array(cells)
    zeros, ones = np.zeros(len(cells), dtype=np.int64), np.ones(len(cells), dtype=np.int64)
    return {
        "corner": np.stack([zeros, array[:, 0], array[:, 1]], axis=1),
        "size": np.stack([ones, array[:, 2], array[:, 3]], axis=1),
        "level": array[:, 4],
    }


def following(planes: np.ndarray, coarse: int, fine: int, threshold: float) -> dict:
    """The cells of each of several planes [S Y X], as evaluation writes them."""
    found = [leaves(plane, coarse, fine, threshold) for plane in planes]
    joined = {f"step_{name}": np.concatenate([one[name] for one in found]) for name in found[0]}
    return {"step_cells": np.array([len(one["level"]) for one in found]), **joined}


def shallow_water() -> dict[str, np.ndarray]:
    """A ring that spreads, with the cells of each step."""
    generator = np.random.default_rng(0)
    steps = np.array([1, 5, 10])
    truth = np.stack([ring(128, 0.16 + 0.022 * s) for s in steps])[:, None, None]
    smooth = np.stack([ring(128, 0.16 + 0.0205 * s) for s in steps])[:, None, None]
    noise = generator.normal(0, 0.004, truth.shape).astype(np.float32)
    last = ring(128, 0.16)
    return {
        "truth": truth,
        "prediction": smooth + noise,
        "last": last[None, None],
        "steps": steps,
        "variables": np.array(["height"]),
        **leaves(last, 16, 8, 0.2),
        **following(smooth[:, 0, 0], 16, 8, 0.2),
    }


def thermals() -> dict[str, np.ndarray]:
    """A wide section with two variables, one of them of both signs, and the cells of the last
    frame given only, as older versions wrote."""
    steps = np.array([1, 5, 10])
    y, x = np.mgrid[0:50, 0:200] / 50.0

    def state(t: float) -> np.ndarray:
        blob = np.exp(-((x - 2) ** 2 + (y - 0.35 - 0.03 * t) ** 2) * (9 - 0.3 * t))
        wave = np.sin(2 * (x - 2) + 0.1 * t) * np.exp(-((y - 0.5) ** 2) * 5)
        return np.stack([300 + 5 * blob, 4 * wave])[:, None].astype(np.float32)

    truth = np.stack([state(s) for s in steps])
    return {
        "truth": truth,
        "prediction": np.stack([state(0.9 * s) for s in steps]),
        "last": state(0),
        "steps": steps,
        "variables": np.array(["potential_temperature", "velocity_x"]),
        **leaves(state(0)[0, 0], 10, 5, 0.2),
    }


def burgers() -> dict[str, np.ndarray]:
    steps = np.array([1, 5, 10])
    x = np.linspace(0, 2 * math.pi, 256, endpoint=False)

    def state(t: float) -> np.ndarray:
        wave = np.sin(x - 0.05 * t) + (0.3 + 0.02 * t) * np.sin(2 * x) / 2
        return np.tanh(1.6 * wave)[None, None, None].astype(np.float32)

    return {
        "truth": np.stack([state(s) for s in steps]),
        "prediction": np.stack([state(1.25 * s) for s in steps]),
        "last": state(0),
        "steps": steps,
        "variables": np.array(["velocity_x"]),
        **leaves(state(0)[0, 0], 32, 16, 0.2),
    }


def cube() -> dict[str, np.ndarray]:
    """Three dimensions: one value per octant."""
    values = np.zeros((1, 1, 8, 8, 8), dtype=np.float32)
    values[..., 4:, 4:, 4:] = 1.0
    corners = np.stack(np.meshgrid([0, 4], [0, 4], [0, 4], indexing="ij"), -1).reshape(-1, 3)
    return {
        "truth": values,
        "prediction": values * 0.9,
        "last": values[0],
        "steps": np.array([1]),
        "variables": np.array(["density"]),
        "corner": corners,
        "size": np.full((8, 3), 4),
        "level": np.zeros(8, dtype=np.int64),
    }


EXAMPLES = {"shallow_water": shallow_water, "thermals": thermals, "burgers": burgers}
GRIDS = {"shallow_water": [1, 128, 128], "thermals": [1, 50, 200], "burgers": [1, 1, 256]}


def scores_of(name: str, error: float, still: float) -> dict:
    """The scores of a system whose errors grow from these values over ten steps."""
    steps = list(range(1, 11))
    variables = [str(v) for v in EXAMPLES[name]()["variables"]]
    nrmse = [error * step**0.9 for step in steps]
    persistence = [still * step**0.75 for step in steps]
    curve = {"error": nrmse, "persistence": persistence}
    metric = {"mean": curve, "by_variable": {v: dict(curve) for v in variables}}
    correlation = {
        "correlation": [1 - 0.03 * step for step in steps],
        "persistence": [1 - 0.06 * step for step in steps],
        **{"time": 7.0, "fell": 1.0, "persistence_time": 4.0, "persistence_fell": 1.0},
    }
    drift = {"truth": [0.0] * 10, "prediction": [1e-3 * step for step in steps]}
    energy = [[10.0 * k**-3 for k in range(1, 9)] for _ in range(3)]
    cells = GRIDS[name]
    coarse = max(cells[1] // 16, 1) * (cells[2] // 16)
    return {
        "name": name,
        "variables": variables,
        "trajectories": 4,
        "windows": 28,
        "history": 4,
        "grid": cells,
        "dt": 0.04,
        "tokens": {"mean": 1.57 * coarse, "coarse": coarse, "fine": 4 * coarse},
        "lead": 1,
        "steps": steps,
        "primary": "nrmse",
        "metrics": {"nrmse": metric, "mae": metric},
        "correlation": dict.fromkeys(variables, correlation),
        "divergence": {"rollouts": 0, "unfinished": 0, "first": None},
        "drift": {q: dict.fromkeys(variables, drift) for q in ("mean", "mean_square")},
        "spectra": {
            "wavenumbers": list(range(8)),
            "leads": [1, 5, 10],
            **{side: dict.fromkeys(variables, energy) for side in ("truth", "prediction")},
        },
    }


def write_results(
    folder: Path, name: str = "runs/a", systems: dict[str, tuple[float, float]] | None = None
) -> Path:
    """A results folder; `systems` gives each one's error and persistence at step one."""
    systems = systems or {
        "shallow_water": (0.0121, 0.0713),
        "thermals": (0.0032, 0.0116),
        "burgers": (0.0442, 0.0967),
    }
    (folder / "examples").mkdir(parents=True)
    for system in systems:
        np.savez(folder / "examples" / f"{system}.npz", **EXAMPLES[system]())
    model = {
        "name": name,
        "parameters": 1_234_567,
        "scheme": "svit",
        "mode": "adap_mix",
        "patches": [16, 8],
        "refine": {"criterion": "variance", "threshold": 0.2, "token_budget": None, "buffer": 1},
        "embed_dim": 96,
        "depth": 6,
        "history": 4,
    }
    scores = [scores_of(system, *errors) for system, errors in systems.items()]
    text = json.dumps(
        {
            "format": 2,
            "model": model,
            "protocol": {"name": "default"},
            "seconds": 12.3,
            "systems": scores,
        }
    )
    (folder / "scores.json").write_text(text)
    return folder


def write_run(folder: Path, systems: tuple[str, ...] = ("shallow_water", "burgers")) -> Path:
    """The folder of a finished run of a thousand steps."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    config = {
        "model": {"embed_dim": 96, "depth": 6, "scheme": "svit", "patches": [16, 8]},
        "data": {"systems": [{"name": name, "paths": [f"data/{name}.h5"]} for name in systems]},
        "steps": 1000,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    provenance = {
        "command": "matey train --config examples/pretrain-ti.yaml --data mix.yaml --run runs/a",
        "started": "2026-05-04T10:11:12+0000",
        "versions": {"matey": "0.1.0", "python": "3.11.7", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "seed": 0,
        "parameters": 1_234_567,
        "data_fingerprint": dict.fromkeys(systems, "9f86d081884c7d65"),
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    records = []
    for step in range(10, 1001, 10):
        losses = {
            name: 0.6 * (i + 1) / (1 + step / 30) * float(generator.lognormal(0, 0.12)) + 0.004
            for i, name in enumerate(systems)
        }
        record = {"kind": "train", "step": step, "loss": float(np.mean(list(losses.values())))}
        record |= {"losses": losses, "lr": 1e-3, "gradient_norm": 0.5, "seconds": 0.23 * step}
        records.append({**record, "windows": 80, "tokens": 8000})
        if step % 200 == 0:
            nrmse = {name: 0.05 * (i + 1) / (step / 200) ** 0.5 for i, name in enumerate(systems)}
            still = {name: 0.08 * (i + 1) for i, name in enumerate(systems)}
            valid = {"kind": "valid", "step": step, "nrmse": nrmse, "persistence": still}
            records.append({**valid, "loss": nrmse, "seconds": 0.23 * step + 1})
    records.append({"kind": "end", "step": 1000, "seconds": 231.4})
    lines = [json.dumps(record) for record in records]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "a")


@pytest.fixture
def results_folder(tmp_path: Path) -> Path:
    return write_results(tmp_path / "results")
