"""Does pretraining help? Fine-tuning against training from scratch, with little data.

Claim of arXiv:2412.20601: a model that was pretrained on other systems needs less data, and gains
most where there is least.

One model per seed is pretrained on the four PDEBench systems. It goes on with thermals and with the
cavity, on 1, 2, 4, 8 trajectories, all weights or all but the blocks, beside the same model from
scratch and a U-Net and an FNO of as many weights. The cavity is trained on simulations with other
background fields, and tested on the files given. Systems unlike PDEBench's show where it stops
helping.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from matey.config import BaselineConfig, DataConfig, ModelConfig, RunConfig, SplitConfig
from matey.cost.forecast import mean_operations
from matey.data.systems import open_systems
from matey.errors import ConfigError
from matey.studies.cells import Cell
from matey.studies.design import OPERATIONS, Design, Material, Scale, run_config, slug
from matey.studies.systems import Source

PRETRAINING = "pretraining"
SCRATCH, TUNED, FROZEN, UNET, FNO = "scratch", "pretrained", "frozen attention", "U-Net", "FNO"
METHODS = (SCRATCH, TUNED, FROZEN, UNET, FNO)
NO_FNO = ("Left out", "the FNO: it needs neuraloperator (pip install 'matey-pde[fno]')")
CAVITY, CAVITY_TRAINING = "mhd_cavity", "cavity_training"


@dataclass(frozen=True, kw_only=True)
class TransferScale(Scale):
    """How large the study of transfer is.

    A pretraining on the systems of `pretraining` takes `share` times the operations of a cell.
    `targets` are tried with every method, `unlike` are systems unlike the pretraining's, without
    baselines; on each number of trajectories.
    """

    pretraining: tuple[str, ...]
    share: float
    targets: tuple[str, ...]
    unlike: tuple[str, ...]
    trajectories: tuple[int, ...] = (1, 2, 4, 8)
    unlike_trajectories: tuple[int, ...] = (1, 8)

    def only(self, systems: Sequence[str]) -> "TransferScale":
        """Raises ConfigError: systems of the pretraining are all needed."""
        raise ConfigError(
            f"The study of transfer has one pretraining for all systems: leave out --systems "
            f"{' '.join(systems)}."
        )

    def counts(self, system: str) -> tuple[int, ...]:
        """The numbers of trajectories that a system is trained on."""
        return self.trajectories if system in self.targets else self.unlike_trajectories

    def methods(self, system: str) -> tuple[str, ...]:
        """The methods tried on a system; an FNO only if its package is installed."""
        if system not in self.targets:
            return METHODS[:3]
        return METHODS if find_spec("neuralop") else METHODS[:4]


def point(method: str, trajectories: int) -> str:
    """An operating point's name."""
    return f"{method}, {trajectories}"


def design(material: Material[TransferScale]) -> Design:
    """A pretraining for each seed, and every method on every target."""
    scale = material.scale
    cells = [pretraining(material, seed) for seed in material.seeds]
    benches: dict[str, dict[str, RunConfig]] = {}
    for system in (*scale.targets, *scale.unlike):
        check_enough(material, system)
        models = {method: model_of(scale.model, method) for method in scale.methods(system)}
        benches[system] = {
            method: tuning(material, system, method, model, 1, 0)
            for method, model in models.items()
            if method != TUNED  # whose steps are those from scratch
        }
        for method, model in models.items():
            step = step_operations(material, system, method, model)
            steps = max(1, round(scale.operations / step))
            for number in scale.counts(system):
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


def check_enough(material: Material[TransferScale], system: str) -> None:
    """Raise ConfigError for files of the user's with fewer trajectories to train on than the study
    asks for: a point of eight would be one of fewer. What is simulated has enough."""
    source, most = material.sources[system], max(material.scale.counts(system))
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
    return replace(model, baseline=BaselineConfig(kinds[method])) if method in kinds else model


def tuning(
    material: Material[TransferScale],
    system: str,
    method: str,
    model: ModelConfig,
    steps: int,
    seed: int,
) -> RunConfig:
    """The run of one method on one system."""
    source = material.sources[CAVITY_TRAINING if system == CAVITY else system]
    config = run_config(material.scale, source, model, steps, seed, material.device)
    return replace(config, mode="frozen-attention") if method == FROZEN else config


def step_operations(
    material: Material[TransferScale], system: str, method: str, model: ModelConfig
) -> float:
    """Operations of a training step of one method on one system."""
    probe = material.probes[CAVITY_TRAINING if system == CAVITY else system]
    return mean_operations(tuning(material, system, method, model, 1, 0), probe.spec, probe.inputs)


def cell_of(
    material: Material[TransferScale],
    system: str,
    method: str,
    number: int,
    config: RunConfig,
    operations: float,
) -> Cell:
    """One method on so many trajectories of a system."""
    data = material.sources[system].data
    if system == CAVITY:  # trained on simulations, and tested on all of its files
        data = replace(data, split=SplitConfig(valid=0, test=1))
    return Cell(
        name=f"{system}/{slug(point(method, number))}-{config.seed}",
        point=point(method, number),
        system=system,
        budget=OPERATIONS,
        config=config,
        operations=operations,
        test=data,
        ask=material.ask,
        parent=f"{PRETRAINING}/{config.seed}" if method in (TUNED, FROZEN) else "",
    )


def pretraining(material: Material[TransferScale], seed: int) -> Cell:
    """The training on the systems of the pretraining set together; scored on the first of them."""
    scale = material.scale
    sources = [material.sources[name] for name in scale.pretraining]
    together = DataConfig(
        tuple(system for source in sources for system in source.data.systems),
        sources[0].data.split,
    )
    each = [step_operations(material, name, SCRATCH, scale.model) for name in scale.pretraining]
    step = sum(each) / len(each)  # systems are drawn alike
    steps = max(1, round(scale.share * scale.operations / step))
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
