"""Fine-tuning: a trained model goes on with new systems, variables and grids."""

from dataclasses import replace
from pathlib import Path

from matey.config import RunConfig
from matey.errors import ConfigError
from matey.nn.model import Matey
from matey.nn.pretrained import find_model, from_pretrained
from matey.train.log import plain
from matey.train.loop import train
from matey.train.resume import flat
from matey.train.sinks import Sink


def finetune(
    pretrained: Path,
    config: RunConfig,
    run: Path,
    watch: Sink = lambda record: None,
    *,
    resume: bool = False,
) -> Matey:
    """Train all weights of a pretrained model further, on the systems of `config.data`.

    New variables, parameters and dimensions get weights of their own; those that were there
    start from what they learned. The model's shape is the pretrained one's: of `config.model`
    only `refine` may differ. Raises ConfigError that names what else does.
    """
    model = from_pretrained(pretrained)
    given = replace(config.model, refine=model.config.refine)
    if given != model.config:
        old, new = flat(plain(model.config), "model."), flat(plain(given), "model.")
        wrong = [f"{key} is {new[key]!r}, not {old[key]!r}" for key in old if old[key] != new[key]]
        raise ConfigError(
            f"Fine-tuning keeps the shape of {pretrained}, but {'; '.join(wrong)}. Leave that out: "
            "only model.refine may change."
        )
    model.refine = config.model.refine
    model.history = config.windows.history
    config = replace(config, model=model.config)
    return train(config, run, watch, model=model, resume=resume, parent=parent_name(pretrained))


def parent_name(pretrained: Path) -> str:
    """What a checkpoint is called: the name of its run, or of a model folder on its own."""
    folder = find_model(pretrained).resolve()
    return folder.parent.name if folder.name in ("model", "best") else folder.name
