"""Fine-tuning: a trained model goes on with new systems, variables and grids."""

from dataclasses import replace
from pathlib import Path

from matey.config import RunConfig
from matey.nn.model import Matey
from matey.nn.pretrained import find_model, from_pretrained
from matey.train.log import Watch
from matey.train.loop import train


def finetune(
    pretrained: Path,
    config: RunConfig,
    run: Path,
    watch: Watch = lambda record: None,
    *,
    resume: bool = False,
) -> Matey:
    """Train all weights of a pretrained model further, on the systems of `config.data`.

    New variables, parameters and dimensions get weights of their own; those that were there
    start from what they learned. The model's shape is the pretrained one's; `config.model`
    may change how it refines.
    """
    model = from_pretrained(pretrained)
    model.refine = config.model.refine
    model.history = config.windows.history
    config = replace(config, model=model.config)
    parent = find_model(pretrained).resolve()
    name = parent.parent.name if parent.name == "model" else parent.name
    return train(config, run, watch, model=model, resume=resume, parent=name)
