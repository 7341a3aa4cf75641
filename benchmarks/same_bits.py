"""Whether two versions of the package compute the same: three tiny runs, told as digests.

    python benchmarks/same_bits.py --out before.json      # on one commit
    python benchmarks/same_bits.py --out after.json       # on the other
    diff before.json after.json

A change that should change no number gives the same file. Each run simulates its data, trains
a few steps, and scores a rollout, by the command line and the public names alone, so that the
script runs on any commit: uniform SViT and Adap_Mix AViT in 2D, Adap_Mul ViT in 3D. Told are the
losses and scores as they are, and the SHA-256 of each weight, of the plan and of a prediction.
With one thread, since sums depend on the number of threads.
"""

import argparse
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from safetensors.torch import load_file

import matey
from matey.cli import main

SETTINGS = """
model:
  embed_dim: 48
  heads: 3
  depth: 2
  latent_channels: 8
  layer_scale: 0.3
  drop_path: 0.1
  scheme: {scheme}
  mode: {mode}
  patches: {patches}
  refine: {{threshold: 0.7}}
windows: {{history: 3, max_lead: 2}}
optim: {{lr: 3.0e-3, warmup: 4}}
steps: 12
batch: 3
accumulate: 2
validate_every: 6
validate_windows: 4
checkpoint_every: 6
log_every: 1
"""
# System, further options of `matey simulate`, scheme, mode, patches.
RUNS = {
    "uniform svit": ("shallow_water", ["--resolution", "32"], "svit", "uniform", "[8]"),
    "adap_mix avit": ("diffusion_reaction", ["--resolution", "32"], "avit", "adap_mix", "[8, 4]"),
    "adap_mul vit 3D": (
        "gray_scott",
        ["--ndim", "3", "--resolution", "16"],
        "vit",
        "adap_mul",
        "[4, 2]",
    ),
}


def command(*words: str | Path) -> None:
    """Run one command of matey in this process. Raises RuntimeError where it fails."""
    code = main([str(word) for word in words])
    if code:
        raise RuntimeError(f"matey {' '.join(map(str, words))} ended with {code}")


def digest(values: torch.Tensor) -> str:
    """The first half of the SHA-256 of a tensor's shape and bytes."""
    raw = f"{values.dtype} {tuple(values.shape)}".encode() + values.contiguous().numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:32]


def losses(run: Path) -> list[float]:
    """The loss of each logged step."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if record["kind"] == "train"]


def tell(name: str, folder: Path) -> dict[str, Any]:
    """Train and score one tiny model in `folder`."""
    system, more, scheme, mode, patches = RUNS[name]
    folder.mkdir()
    data, mix, run, out = (folder / part for part in ("data", "mix.yaml", "run", "scores"))
    config = folder / "config.yaml"
    config.write_text(SETTINGS.format(scheme=scheme, mode=mode, patches=patches))
    command("simulate", system, "--out", data, "--trajectories", "10", "--steps", "8", *more)
    command("data", "inspect", data, "--write", mix)
    command("train", "--config", config, "--data", mix, "--run", run, "--device", "cpu")
    command("evaluate", run, "--data", mix, "--rollout", "3", "--out", out, "--device", "cpu")
    model = matey.from_pretrained(run)
    field = matey.open(data)[0]
    weights = load_file(next((run / "model").glob("*.safetensors")))
    plan = model.plan(field)
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return {
        "losses": losses(run),
        "scores": scores["systems"],
        "plan": digest(torch.cat([plan.corner[plan.leaves], plan.size[plan.leaves]], dim=1)),
        "prediction": digest(model.rollout(field, steps=2).values),
        "weights": {key: digest(weights[key]) for key in sorted(weights)},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="same_bits.json", help="the JSON file to write")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = {name: tell(name, Path(folder) / name.replace(" ", "-")) for name in RUNS}
    Path(chosen.out).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
