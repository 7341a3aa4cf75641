"""Does pretraining help? Fine-tuning against training from scratch, with little data.

Claim of arXiv:2412.20601: a model that was pretrained on other systems needs less data, and gains
most where there is least.

One model per seed is pretrained on the four PDEBench systems. It goes on with thermals and with the
cavity, on 1, 2, 4, 8 trajectories, all weights or all but the blocks, beside the same model from
scratch and a U-Net and an FNO of as many weights. The cavity is trained on simulations with other
background fields, and tested on the files given. Systems unlike PDEBench's show where it stops
helping.
"""

from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

from matey.config import DataConfig, ModelConfig, RunConfig, SplitConfig
from matey.data.systems import open_systems
from matey.errors import ConfigError
from matey.studies.cells import Cell
from matey.studies.design import OPERATIONS, Design, Material, Scale, run_config, slug
from matey.studies.systems import Source
from matey.train.forecast import mean_operations

PRETRAINING = "pretraining"
SCRATCH, TUNED, FROZEN, UNET, FNO = "scratch", "pretrained", "frozen attention", "U-Net", "FNO"
METHODS = (SCRATCH, TUNED, FROZEN, UNET, FNO)
NO_FNO = ("Left out", "the FNO: it needs neuraloperator (pip install 'matey-pde[fno]')")
CAVITY, CAVITY_TRAINING = "mhd_cavity", "cavity_training"


def point(method: str, trajectories: int) -> str:
    """An operating point's name."""
    return f"{method}, {trajectories}"


def targets(scale: Scale) -> tuple[str, ...]:
    """The systems with every method and number of trajectories."""
    found: tuple[str, ...] = scale.extra["targets"]
    return found


def unlike(scale: Scale) -> tuple[str, ...]:
    """The systems unlike those of the pretraining, without baselines."""
    found: tuple[str, ...] = scale.extra["unlike"]
    return found


def counts(scale: Scale, system: str) -> tuple[int, ...]:
    """The numbers of trajectories that a system is trained on."""
    key = "trajectories" if system in targets(scale) else "unlike_trajectories"
    found: tuple[int, ...] = scale.extra[key]
    return found


def methods(scale: Scale, system: str) -> tuple[str, ...]:
    """What is tried on a system: an FNO only where the package that it needs is installed."""
    if system not in targets(scale):
        return METHODS[:3]
    return METHODS if find_spec("neuralop") else METHODS[:4]


def design(material: Material) -> Design:
    """A pretraining for each seed, and every method on every target."""
    scale = material.scale
    cells = [pretraining(material, seed) for seed in material.seeds]
    benches: dict[str, dict[str, RunConfig]] = {}
    for system in (*targets(scale), *unlike(scale)):
        check_enough(material, system)
        own = {method: model_of(scale.model, method) for method in methods(scale, system)}
        benches[system] = {
            method: tuning(material, system, method, model, 1, 0)
            for method, model in own.items()
            if method != TUNED  # whose steps are those from scratch
        }
        for method, model in own.items():
            step = step_operations(material, system, method, model)
            steps = max(1, round(scale.operations / step))
            for number in counts(scale, system):
                for seed in material.seeds:
                    config = tuning(material, system, method, model, steps, seed)
                    config = replace(config, data=replace(config.data, trajectories=number))
                    cells.append(cell_of(material, system, method, number, config, steps * step))
    before = (
        "Pretraining",
        f"{cells[0].operations:.3g} operations for each seed: on top of what a pretrained model "
        "spends on a target",
    )
    missing = () if find_spec("neuralop") else (NO_FNO,)
    return Design(tuple(cells), benches, (before, *missing))


def check_enough(material: Material, system: str) -> None:
    """Raise ConfigError for files of the user's with fewer trajectories to train on than the study
    asks for: a point of eight would be one of fewer. What is simulated has enough."""
    source, most = material.sources[system], max(counts(material.scale, system))
    if not source.real or system == CAVITY:  # which is trained on simulations
        return
    there = len(open_systems(source.data)[system].split["train"])
    if there < most:
        raise ConfigError(
            f"System {system!r} has {there} trajectories to train on, and the study takes up to "
            f"{most}. Lower data.split.test and data.split.valid, or leave it out of --data, and "
            "it is simulated."
        )


def model_of(model: ModelConfig, method: str) -> ModelConfig:
    """The network of a method: the baselines have as many weights as the transformer."""
    kinds: dict[str, Literal["unet", "fno"]] = {UNET: "unet", FNO: "fno"}
    return replace(model, kind=kinds[method]) if method in kinds else model


def tuning(
    material: Material, system: str, method: str, model: ModelConfig, steps: int, seed: int
) -> RunConfig:
    """The run of one method on one system."""
    source = material.sources[CAVITY_TRAINING if system == CAVITY else system]
    config = run_config(material.scale, source, model, steps, seed, material.device)
    return replace(config, mode="frozen-attention") if method == FROZEN else config


def step_operations(material: Material, system: str, method: str, model: ModelConfig) -> float:
    """Operations of a training step of one method on one system."""
    probe = material.probes[CAVITY_TRAINING if system == CAVITY else system]
    return mean_operations(tuning(material, system, method, model, 1, 0), probe.spec, probe.inputs)


def cell_of(
    material: Material, system: str, method: str, number: int, config: RunConfig, operations: float
) -> Cell:
    """One method on so many trajectories of a system."""
    parent = f"{PRETRAINING}/{config.seed}" if method in (TUNED, FROZEN) else ""
    return Cell(
        name=f"{system}/{slug(point(method, number))}-{config.seed}",
        point=point(method, number),
        system=system,
        budget=OPERATIONS,
        config=config,
        operations=operations,
        test=tested_on(material, system),
        ask=material.ask,
        parent=parent,
    )


def tested_on(material: Material, system: str) -> DataConfig:
    """The test data of a system: of the cavity, which is trained on simulations, all of it."""
    data = material.sources[system].data
    return replace(data, split=SplitConfig(valid=0, test=1)) if system == CAVITY else data


def pretraining(material: Material, seed: int) -> Cell:
    """The training on the systems of the pretraining set together; scored on the first of them."""
    scale = material.scale
    names: tuple[str, ...] = scale.extra["pretraining"]
    sources = [material.sources[name] for name in names]
    together = DataConfig(
        tuple(system for source in sources for system in source.data.systems),
        sources[0].data.split,
    )
    each = [step_operations(material, name, SCRATCH, scale.model) for name in names]
    step = sum(each) / len(each)  # systems are drawn alike
    steps = max(1, round(scale.extra["share"] * scale.operations / step))
    source = Source(PRETRAINING, together, real=False)
    return Cell(
        name=f"{PRETRAINING}/{seed}",
        point=PRETRAINING,
        system=PRETRAINING,
        budget=PRETRAINING,
        config=run_config(scale, source, scale.model, steps, seed, material.device),
        operations=steps * step,
        test=sources[0].data,
        ask=material.ask,
    )
