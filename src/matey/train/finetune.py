"""Fine-tuning: a trained model goes on with new systems, variables, grids and patches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from matey.config import ModelConfig, RunConfig
from matey.config.training import Mode
from matey.errors import ConfigError
from matey.nn.adapters.low_rank import choose_weights
from matey.nn.adapters.stored import base_of
from matey.nn.folder import find_model, from_pretrained
from matey.nn.local.spectral import Spectral
from matey.nn.make import make_model
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey
from matey.train.loop import train
from matey.train.resume import flat
from matey.train.run_folder import Sink, plain

# Of a model: no weight has their shape.
FREE = ("patches", "mode", "band", "refine", "keep", "bound")
ADDED = ("waves", "noise")  # may be added where there are none
WAVES, NOISE = 8, 16  # how many of them usually are


def finetune(
    pretrained: str | Path,
    config: RunConfig,
    run: str | Path,
    watch: Sink = lambda record: None,
    *,
    resume: bool = False,
    stencils: Path | None = None,
) -> Surrogate:
    """Train a pretrained model further, on the systems of `config.data`.

    `config.mode` says which weights train. New variables, parameters, dimensions and patch sizes
    get new weights; all others start from what they learned. Raises ConfigError, naming them, for
    settings that would change the model's shape otherwise.
    """
    old = from_pretrained(pretrained)
    torch.manual_seed(config.seed)  # of the weights of new patch sizes, and of adapters
    model = adapt(old, config)
    choose_weights(model, config.mode, config.rank, old.state_dict())
    parent = parent_name(Path(pretrained))
    if config.mode == "lora" and not config.merge:
        ships = not Path(pretrained).exists()
        model.base = base_of(parent, find_model(Path(pretrained)), old, ships)
    return train(config, run, watch, model=model, resume=resume, parent=parent, stencils=stencils)


def usual_settings(old: Surrogate, mode: Mode, loss: str = "square") -> dict[str, Any]:
    """The settings of fine-tuning where none are given, by dotted key, with a loss (`loss.of`). An
    ensemble stays one.

    What makes tokens of fields, and fields of tokens, learns ten times as fast as blocks that have
    learned from many systems; so do adapters, which begin at zero. A local path without waves gets
    some. The loss is a logarithm: its gradient does not shrink with the error, which is small when
    a pretrained model begins.
    """
    usual: dict[str, Any] = {
        "loss.of": "log",
        "optim.warmup": 20,
        "optim.ema": 0.995,
        "validate_every": 50,
        "patience": 10,
    }
    if isinstance(old, Matey):
        usual["optim.rates.ends"] = 10.0
        usual["model.waves"] = old.config.waves or (WAVES if old.config.local else 0)
    if mode == "lora":
        usual["optim.rates.blocks"] = 10.0
    if loss == "crps" or old.config.noise:
        usual |= {"loss.of": "crps", "model.noise": old.config.noise or NOISE}
    return usual


def adapt(old: Surrogate, config: RunConfig) -> Surrogate:
    """A model with other patches or another history, and all old weights that it has a place for.

    Where it cuts fields into old patches alone, its predictions are those of the old model to the
    bit; waves that are added say nothing yet. Weights of patch sizes that are no longer among
    `patches` are left out. Raises ConfigError for a `config.model` of another shape.
    """
    if old.config.baseline.kind == "stencil":
        raise ConfigError(
            "A stencil is not fine-tuned: it is fitted anew in seconds, matey train --baseline "
            "stencil."
        )
    check_shape(old.config, config.model)
    history, kind = config.windows.history, old.config.baseline.kind
    if old.config.is_baseline and history != old.history:
        raise ConfigError(
            f"windows.history is {history}, but the {kind} has the {old.history} frames that it "
            "was trained on as channels. Leave it out, or train one anew: matey train --baseline "
            f"{kind}."
        )
    folds = old.config.local or old.config.stencil
    if folds and (history, config.model.piece) != (old.history, old.config.piece):
        raise ConfigError(
            f"windows.history is {history} and model.patches {config.model.patches}, but a local "
            f"path or a stencil keeps its {old.history} frames and its pieces of "
            f"{old.config.piece} points. Leave them out, or change even patches for even ones."
        )
    # Systems of `config` may conserve other things; what it does not name is as it was.
    keep = {**old.config.keep, **config.model.keep}
    model = make_model(replace(config.model, keep=keep), list(old.specs.values()), history)
    learned, fresh = old.state_dict(), model.state_dict()
    model.load_state_dict({name: learned.get(name, fresh[name]) for name in fresh})
    for part in model.modules():
        if isinstance(part, Spectral) and not old.config.waves:
            nn.init.zeros_(part.outputs)
    model.trained_leads = old.trained_leads
    model.learned_from = old.learned_from
    model.yardstick = old.yardstick
    return model


def check_shape(old: ModelConfig, new: ModelConfig) -> None:
    """Raise ConfigError, naming them, for settings that fine-tuning cannot change."""
    added = [name for name in ADDED if not getattr(old, name)]
    free = {name: getattr(new, name) for name in (*FREE, *added)}
    was, now = flat(plain(replace(old, **free)), "model."), flat(plain(new), "model.")
    wrong = [f"{key} is {now[key]!r}, not {was[key]!r}" for key in was if was[key] != now[key]]
    if wrong:
        raise ConfigError(
            f"Fine-tuning keeps the shape of the model, but {'; '.join(wrong)}. Leave that out: "
            f"only {', '.join(f'model.{name}' for name in FREE)} may change, and model.waves be "
            "added to a local path that has none, or model.noise to make an ensemble, which stays "
            "one: by loss.of = crps alone."
        )


def parent_name(pretrained: Path) -> str:
    """The name of a model: that of its run, or of a model folder on its own."""
    folder = find_model(pretrained).resolve()
    return folder.parent.name if folder.name in ("model", "best") else folder.name
