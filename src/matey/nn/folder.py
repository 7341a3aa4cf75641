"""The model folder: weights as safetensors, everything else as JSON. No pickle.

model.safetensors   every weight, by name
config.json         format version, model config, systems, history, what it was trained on
README.md           the same for a reader: the model card
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from matey.config import BaselineConfig, ModelConfig, RefineConfig, current
from matey.errors import CheckpointError, ConfigError, MateyError
from matey.fields import SystemSpec
from matey.fields.description import read_spec
from matey.nn.make import make_model, outline_model
from matey.nn.operations import count
from matey.nn.surrogate import Surrogate
from matey.nn.tensors import load_tensors, save_tensors
from matey.nn.transformer import Matey
from matey.output import replacing, to_json

FORMAT = 1
BY_SYSTEM = ("boundaries", "data_fingerprint")  # what fine-tuning keeps of earlier systems
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def save_pretrained(
    model: Surrogate,
    folder: Path,
    training: Mapping[str, Any],
    cost: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder, whole or not at all. `training` tells how it was trained.

    `cost`, what that took, stands in the model card only: all else is the same for the same run.

    Raises CheckpointError if it cannot be written; a folder that was there then stays.
    """
    description = {
        "format": FORMAT,
        "history": model.history,
        "model": asdict(model.config),
        "systems": [asdict(spec) for spec in model.specs.values()],
        "training": dict(training),
    }
    with replacing(folder, CheckpointError) as temporary:
        temporary.mkdir()
        save_tensors(model.state_dict(), temporary / WEIGHTS)
        (temporary / CONFIG).write_text(to_json(description, indent=2))
        card = write_card(description, count(model), cost or {})
        (temporary / CARD).write_text(card, encoding="utf-8")


def from_pretrained(path: str | Path) -> Surrogate:
    """The model of a run or a model folder, in evaluation mode, on the CPU.

    Raises CheckpointError if there is none, it is damaged, or of a newer format.
    """
    folder = find_model(Path(path))
    model, description = empty_model(folder)
    put_weights(model, load_tensors(folder / WEIGHTS), folder / WEIGHTS)
    put_origin(model, description)
    model.source = str(path)
    return model.eval()


def outline(path: Path) -> Surrogate:
    """The model of a run or a model folder as names and shapes: no weight is made or read.

    Raises CheckpointError as `from_pretrained` does, but for what the weights hold.
    """
    with torch.device("meta"):
        model, description = empty_model(find_model(path))
    put_origin(model, description)
    return model


def find_model(path: Path) -> Path:
    """The model folder at a path, or the one inside the run there."""
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return folder
    raise CheckpointError(
        f"No model at {path}: expected {WEIGHTS} and {CONFIG} there or in {path / 'model'}."
    )


def empty_model(folder: Path) -> tuple[Surrogate, dict[str, Any]]:
    """A model of the right shape with weights still to be loaded, and its description."""
    source = folder / CONFIG
    try:
        description = json.loads(source.read_text())
        version = description["format"]
        if version > FORMAT:
            raise CheckpointError(
                f"{source} has format {version}; this version of matey reads up to {FORMAT}. "
                "Install a newer one."
            )
        settings = current(description["model"])
        settings["patches"] = tuple(settings["patches"])
        if not isinstance(settings["scheme"], str):
            settings["scheme"] = tuple(settings["scheme"])
        settings["refine"] = RefineConfig(**settings["refine"])
        settings["baseline"] = BaselineConfig(**settings["baseline"])
        specs = [read_spec(entry) for entry in description["systems"]]
        config = ModelConfig(**settings)
        history = int(description["history"])
        check_claims(config, specs, history, folder / WEIGHTS)
        return make_model(config, specs, history), description
    except MateyError:
        raise
    except (
        *(ValueError, KeyError, TypeError, AttributeError, OSError),
        *(RecursionError, OverflowError),  # nested without end; numbers without end
    ) as error:
        raise CheckpointError(
            f"{source} is not a model description: {type(error).__name__} {error}."
        ) from error


def check_claims(
    config: ModelConfig, specs: Sequence[SystemSpec], history: int, weights: Path
) -> None:
    """Raise CheckpointError, before anything is allocated, for a model that is described larger
    than the file of its weights: a byte for each number is the least that it needs."""
    size = weights.stat().st_size
    # What the blocks have at least, then exactly: a count of all takes time in the depth.
    claimed = 0 if config.is_baseline else config.depth * config.embed_dim**2
    if claimed <= size:
        try:
            claimed = count(outline_model(config, specs, history))
        except RuntimeError as error:  # a shape that no computer could hold
            raise CheckpointError(
                f"{weights.with_name(CONFIG)} describes an impossible model: {error}."
            ) from error
    if claimed > size:
        raise CheckpointError(
            f"{weights.with_name(CONFIG)} describes a model of {claimed} numbers or more, but "
            f"{weights.name} has {size} bytes. One of them is damaged, or of another model."
        )


def put_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], source: Path) -> None:
    """Load all weights of a module. Raises CheckpointError unless names and shapes agree."""
    wrong = misfits(module, weights)
    if wrong:
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(wrong[:8])}.")
    module.load_state_dict(weights)


def misfits(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Which names and shapes of weights are not those of a module, a phrase each."""
    expected = module.state_dict()
    wrong = [f"{name} missing" for name in expected if name not in weights]
    wrong += [f"{name} unexpected" for name in weights if name not in expected]
    return wrong + [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]


def put_origin(model: Surrogate, description: Mapping[str, Any]) -> None:
    """Tell a model what its description says of the data that it learned from."""
    model.trained_leads = trained_leads(description)
    training = description.get("training")
    for key in BY_SYSTEM:
        known = training.get(key) if isinstance(training, dict) else None
        if isinstance(known, dict):
            model.learned_from[key] = known


def trained_leads(description: Mapping[str, Any]) -> tuple[float, float] | None:
    """The least and the most lead time of training, in dt; None if a model does not say."""
    try:
        windows = description["training"]["windows"]
        return float(windows.get("min_lead", 1)), float(windows["max_lead"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def set_token_budget(model: Surrogate, budget: int) -> None:
    """Spend no more than so many tokens per frame from now on: no weight changes.

    Raises ConfigError for a model with one patch size, or none, which has nothing to choose.
    """
    if not isinstance(model, Matey) or not model.config.is_adaptive:
        raise ConfigError(
            f"A token budget of {budget} was given, but the model has {model.cells()}: nothing to "
            "refine. Leave it out."
        )
    model.refine = replace(model.refine, token_budget=budget, bulk=None, fraction=None)


def write_card(description: Mapping[str, Any], parameters: int, spent: Mapping[str, Any]) -> str:
    """The card of a model of so many `parameters`, as Markdown.

    `description` is what stands in `config.json`; `spent` are windows, tokens, operations and
    seconds. Anything may be missing, in the part `training` too, and is then not mentioned.
    """
    training = description["training"]
    sections = [
        "# A matey model",
        summary(description, parameters),
        use(description),
        contract(description),
        scores(training.get("scores") or {}, training.get("windows") or {}),
        cost(training, spent),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def summary(description: Mapping[str, Any], parameters: int) -> str:
    """What kind of model it is."""
    model = description["model"]
    baseline = model["baseline"]
    if baseline["kind"] != "none":
        width = f" of width {baseline['width']}" if baseline["width"] else ""
        return (
            f"A baseline to compare transformers with: it continues fields in time. A "
            f"{baseline['kind']}{width}, {parameters / 1e6:.3g} million weights."
        )
    scheme = model["scheme"] if isinstance(model["scheme"], str) else ", ".join(model["scheme"])
    patches = ", ".join(str(patch) for patch in model["patches"])
    cells = f"uniform patches of {patches} grid points"
    if len(model["patches"]) > 1:
        refined = RefineConfig(**model["refine"]).describe()
        cells = f"patches of {patches} grid points ({model['mode']}), refined {refined}"
    return (
        f"A transformer surrogate of physical systems: it continues fields in time. "
        f"{parameters / 1e6:.3g} million weights; width {model['embed_dim']}, {model['heads']} "
        f"heads, depth {model['depth']}, attention {scheme}; {cells}. Method: arXiv:2412.20601."
    )


def use(description: Mapping[str, Any]) -> str:
    """How it is loaded."""
    return (
        "## Use\n\n```python\nimport matey\n\n"
        'model = matey.from_pretrained("FOLDER")  # where this file is\n'
        f'field = matey.open("FILE")[0]  # {description["history"]} frames or more\n'
        "prediction = model.rollout(field, steps=10)  # in physical units\n```"
    )


def contract(description: Mapping[str, Any]) -> str:
    """What it takes and gives: system by system."""
    training = description["training"]
    rows = []
    for spec in description["systems"]:
        name = spec["name"]
        sides = (training.get("boundaries") or {}).get(name) or {}
        rows.append(
            [
                name,
                f"{spec['ndim']}D",
                ", ".join(map(variable, spec["variables"])),
                ", ".join(spec["parameters"]) or "none",
                f"{spec['dt']:g}",
                "; ".join(f"{axis} {'-'.join(dict.fromkeys(s))}" for axis, s in sides.items())
                or "not recorded",
                str((training.get("trajectories") or {}).get(name, "earlier")),
                (training.get("data_fingerprint") or {}).get(name, ""),
            ]
        )
    heading = [
        *("System", "Dimensions", "Variables", "Parameters", "dt", "Boundaries"),
        *("Trained on", "Data fingerprint"),
    ]
    windows = training.get("windows") or {}
    lines = [f"- History: {description['history']} frames, one dt apart."]
    if windows:
        least, most = windows["min_lead"], windows["max_lead"]
        lines.append(f"- Lead time: {least if least == most else f'{least} to {most}'} dt.")
    if "normalisation" in training:
        lines.append(f"- Normalisation: {training['normalisation']}.")
    lines.append(
        '- "Trained on" counts trajectories; "earlier": the system was learned before the last '
        "fine-tuning, and may have been forgotten in part."
    )
    return "## Data contract\n\n" + table(heading, rows) + "\n\n" + "\n".join(lines)


def variable(entry: Mapping[str, Any]) -> str:
    """`height (m)`; what is only read says so."""
    notes = [*([entry["units"]] if entry["units"] else []), *(["input"] if entry["static"] else [])]
    return entry["name"] + (f" ({', '.join(notes)})" if notes else "")


def scores(found: Mapping[str, Any], windows: Mapping[str, Any]) -> str:
    """The last validation of the run."""
    if not found.get("nrmse"):
        return ""
    rows = []
    for name, error in found["nrmse"].items():
        still = found["persistence"].get(name)
        known = error is not None and still is not None and still > 0
        skill = 1 - error / still if known else math.nan
        rows.append([name, number(error), number(still), f"{skill:.0%}" if known else "-"])
    return (
        "## Scores\n\n"
        f"NRMSE {windows.get('min_lead', 1)} dt ahead on validation trajectories, after step "
        f"{found['step']}, beside persistence (nothing changes). No test scores: "
        "`matey evaluate` makes them.\n\n"
        + table(["System", "NRMSE", "Persistence", "Lower by"], rows)
    )


def cost(training: Mapping[str, Any], spent: Mapping[str, Any]) -> str:
    """What the training took."""
    if not spent.get("windows"):
        return ""
    blocks = " The blocks were frozen." if training.get("mode") == "frozen-attention" else ""
    versions = ", ".join(f"{k} {v}" for k, v in (training.get("versions") or {}).items())
    tokens = f"{spent['tokens']:,} tokens, " if spent["tokens"] else ""
    return (
        f"## Cost of the last training\n\n{training['steps']} steps, {spent['windows']:,} windows, "
        f"{tokens}{spent['operations']:.3g} floating-point operations, "
        f"{spent['seconds']:.0f} s of steps.{blocks} Made with {versions}."
    )


def number(value: float | None) -> str:
    """Four digits; `undefined` for what is not a number."""
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.4f}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Units come from files: nothing in them breaks a row."""
    lines = [heading, ["---"] * len(heading), *rows]
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
