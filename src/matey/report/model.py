"""Sentences on what a model is and how it was trained."""

import math
from typing import Any

from matey.config import RefineConfig
from matey.errors import ConfigError
from matey.nn.card import around_tokens
from matey.report.load import Run
from matey.words import amount, duration, listed, patch_size

BASELINES = {"unet": "a U-Net", "fno": "an FNO", "stencil": "a least-squares stencil"}
SCHEMES = {"vit": "ViT", "svit": "SViT", "avit": "AViT"}
PACKING = {
    "adap_mix": "coarse and fine in one sequence (adap_mix)",
    "adap_mul": "fine ones in sequences of their own (adap_mul)",
}


def model_settings(run: Run) -> dict[str, Any]:
    """The model settings in a run's config."""
    model = run.config.get("model")
    settings = dict(model) if isinstance(model, dict) else {}
    baseline = settings.get("baseline")  # earlier versions had its settings beside the others
    if isinstance(baseline, dict) and baseline.get("kind", "none") != "none":
        settings |= baseline
    return settings


def model_sentence(model: dict[str, Any]) -> str:
    """What the model is."""
    if model.get("kind", "matey") != "matey":
        size = f", {amount(model['parameters'])} parameters" if "parameters" in model else ""
        called = BASELINES.get(model["kind"], f"a {model['kind']}")
        width = f" of width {model['width']}" if model.get("width") else ""
        return f"The model is a baseline: {called}{width}{size}."
    if "scheme" not in model:
        return ""
    size = f"{amount(model['parameters'])} parameters" if "parameters" in model else ""
    shape = f"{model['depth']} blocks of width {model['embed_dim']}" if "depth" in model else ""
    patches = [patch_size(patch) for patch in model.get("patches") or ()]
    cut = ""
    if len(patches) > 1:
        cut = f"patches of {listed(patches)} grid points"
        cut += f", {PACKING[model['mode']]}" if model.get("mode") in PACKING else ""
        cells = refinement(model.get("refine"))
        cut += f", finer {cells}" if cells else ""
    elif patches:
        cut = f"uniform patches of {patches[0]} grid points"
    facts = "; ".join(fact for fact in (size, shape, cut) if fact) + around_tokens(model)
    return f"The model is a {scheme_name(model['scheme'])} transformer" + (
        f": {facts}." if facts else "."
    )


def scheme_name(scheme: Any) -> str:
    """`SViT`; of a model whose blocks differ, `SViT, SViT and ViT`."""
    names = [str(name) for name in (scheme if isinstance(scheme, list | tuple) else [scheme])]
    return listed([SCHEMES.get(name, name) for name in names])


def refinement(settings: Any) -> str:
    """How cells are chosen, in words; empty where the record lacks it."""
    try:
        return RefineConfig(**settings).describe()
    except (TypeError, ConfigError):
        return ""


def training_sentence(run: Run) -> str:
    """Data, duration and starting point of a training."""
    names = trained_systems(run)
    text = f"It has trained for {run.step:,} steps"
    if run.seconds:
        text += f" in {duration(run.seconds)}"
    if names:
        text += f" on {listed(names)}"
    if run.provenance.get("parent"):
        text += f", starting from {run.provenance['parent']}"
    if run.ended:
        return text + "."
    left = run.train[-1].seconds_left if run.train else math.nan
    wait = f": about {duration(left)} were left" if math.isfinite(left) else ""
    return text + f", and had not finished when this page was made{wait}."


def trained_systems(run: Run) -> list[str]:
    """The names of the systems that a run learns from."""
    data = run.config.get("data")
    sources = data.get("systems") if isinstance(data, dict) else None
    names = [str(s["name"]) for s in sources or () if isinstance(s, dict) and s.get("name")]
    return names or sorted({name for point in run.valid for name in point.nrmse})
