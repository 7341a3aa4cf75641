"""The resident memory of training steps, measured in a process of its own.

python -m tests.cost.resident SETTINGS        # JSON; prints bytes
"""

import gc
import json
import sys
from pathlib import Path

import torch

from matey.config import ModelConfig, OptimConfig, RefineConfig
from matey.cost.machine import return_large_blocks
from matey.nn.make import outline_model
from matey.nn.transformer import Matey
from matey.tokens.refine import RefinementPlan
from matey.train.loss import squared_nrmse
from matey.train.optim import make_optimizer
from tests.nn.helpers import rough_inputs, system


def config_of(settings: dict) -> ModelConfig:
    """A model of some depth and width; mixed modes refine a quarter of the cells."""
    mixed = settings["mode"] != "uniform"
    return ModelConfig(
        embed_dim=settings["width"],
        heads=settings["width"] // 64,
        depth=settings["depth"],
        scheme=settings["scheme"],
        mode=settings["mode"],
        patches=(16, 8) if mixed else (8,),
        refine=RefineConfig(fraction=0.25),
    )


def inputs_of(settings: dict):
    return rough_inputs(
        system(), points=settings["points"], samples=settings["samples"], times=settings["times"]
    )


def plan_of(settings: dict) -> RefinementPlan:
    """The cells of the inputs."""
    outline = outline_model(config_of(settings), [system()], settings["times"])
    return outline.plan_inputs(inputs_of(settings))


def take_steps(settings: dict) -> None:
    """Two optimizer steps of a fresh model: the moments are there from the second on."""
    inputs = inputs_of(settings)
    model = Matey(config_of(settings), [system()], settings["times"]).train()
    model.activation_checkpointing = settings["checkpointing"]
    if settings["checkpointing"]:  # as the training loop does
        return_large_blocks()
    optimizer = make_optimizer(model, OptimConfig())
    target = torch.randn_like(inputs.values[:, 0])
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, settings["precision"] == "bfloat16"):
            prediction = model(inputs)
        squared_nrmse(prediction.normalised, target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def resident(what: str) -> int:
    """Bytes of this process now (VmRSS) or at the highest (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    torch.manual_seed(0)
    take_steps(wanted | {"depth": 2, "width": 64, "points": 32, "samples": 2})  # loads libraries
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    take_steps(wanted)
    print(resident("VmHWM") - before)
