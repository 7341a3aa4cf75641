"""The model card: what a model folder holds, for a reader, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matey.config import RefineConfig
from matey.records.scores import Scores
from matey.records.shipped import Shipped
from matey.words import patch_size, plural


def write_card(
    description: Mapping[str, Any],
    parameters: int,
    spent: Mapping[str, Any],
    name: str = "",
    facts: Shipped | None = None,
    tests: Scores | None = None,
) -> str:
    """The card of a model of so many `parameters`, as Markdown.

    `description` is what stands in `config.json`; `spent` are windows, tokens, operations and
    seconds. Anything may be missing, in the part `training` too, and is then not mentioned. A model
    that ships has a `name`, by which it is loaded, `facts`, and scores of `tests`.
    """
    training = description["training"]
    sections = [
        f"# {name or 'A matey model'}",
        summary(description, parameters),
        origin(facts) if facts else "",
        adapter(description.get("adapter") or {}),
        use(description, name),
        contract(description),
        within(description["systems"], training.get("ranges") or {}),
        limits(description),
        tested(tests)
        if tests
        else scores(training.get("scores") or {}, training.get("windows") or {}),
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
    patches = ", ".join(patch_size(patch) for patch in model["patches"])
    cells = f"uniform patches of {patches} grid points"
    if len(model["patches"]) > 1:
        refined = RefineConfig(**model["refine"]).describe()
        cells = f"patches of {patches} grid points ({model['mode']}), refined {refined}"
    return (
        f"A transformer surrogate of physical systems: it continues fields in time. "
        f"{parameters / 1e6:.3g} million weights; width {model['embed_dim']}, {model['heads']} "
        f"heads, depth {model['depth']}, attention {scheme}; {cells}{around_tokens(model)}. "
        "Method: arXiv:2412.20601."
    )


def around_tokens(model: Mapping[str, Any]) -> str:
    """What a transformer has beside its tokens, by its settings, a phrase each after a semicolon:
    `; a local path of 32 channels with 3 coarser levels, on pieces of 4 points`."""
    parts = []
    if model.get("local"):
        parts.append(f"a local path of {plural(model['local'], 'channel')}")
        if levels := model.get("levels"):
            parts[-1] += f" with {plural(levels, 'coarser level')}"
        if piece := model.get("local_piece"):
            parts[-1] += f", on pieces of {plural(piece, 'point')}"
        if bound := model.get("bound"):
            parts[-1] += f", features held below {bound:g}"
        if waves := model.get("waves"):
            parts.append(f"{plural(waves, 'Fourier mode')} along each axis")
    if model.get("stencil"):
        parts.append("increments beyond those of a least-squares stencil where it helps")
    return "".join(f"; {part}" for part in parts)


def origin(facts: Shipped) -> str:
    """Version, licence and effort of a model that ships."""
    return (
        f"Version {facts.version}; licence of the weights: {facts.licence}. Its training took "
        f"{facts.operations:.2g} floating-point operations."
    )


def adapter(told: Mapping[str, Any]) -> str:
    """Of an adapter, which model it needs."""
    if not told:
        return ""
    return (
        f"This folder is an adapter of rank {told['rank']} for the model {told['base']}: it holds "
        "what differs from that model, and is of no use without it. Fingerprint of its weights: "
        f"{told['fingerprint']}."
    )


def use(description: Mapping[str, Any], name: str = "") -> str:
    """How it is loaded."""
    source = f'"{name}")  # or "FOLDER",' if name else '"FOLDER")  #'
    return (
        "## Use\n\n```python\nimport matey\n\n"
        f"model = matey.from_pretrained({source} where this file is\n"
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
                grids_of(training, name) or "not recorded",
                f"{spec['dt']:g}",
                "; ".join(f"{axis} {'-'.join(dict.fromkeys(s))}" for axis, s in sides.items())
                or "not recorded",
                str((training.get("trajectories") or {}).get(name, "earlier")),
                (training.get("data_fingerprint") or {}).get(name, ""),
            ]
        )
    heading = [
        *("System", "Dimensions", "Variables", "Parameters", "Grids", "dt", "Boundaries"),
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


def within(specs: Sequence[Mapping[str, Any]], ranges: Mapping[str, Any]) -> str:
    """The ranges of what each system's training trajectories held."""
    rows = []
    for spec in specs:
        units = {entry["name"]: entry["units"] for entry in spec["variables"]}
        for quantity, named in (ranges.get(spec["name"]) or {}).items():
            for name, (low, high) in named.items():
                unit = units.get(name, "") if quantity in ("value", "extreme") else ""
                ends = [f"{low:.4g}", f"{high:.4g}"]
                rows.append([spec["name"], quantity, name, *ends, unit])
    if not rows:
        return ""
    return (
        "## Ranges of training\n\n"
        "Of fields outside of these the model has seen nothing like: `matey predict` and "
        "`model.outside(field)` say which are. A value leaves out the lowest and the highest 0.1 % "
        "of a frame's points, an extreme none; a gradient is how steep the steepest 0.1 % of a "
        "frame are, from the smoothest frame to the steepest.\n\n"
        + table(["System", "Quantity", "Of", "From", "To", "Units"], rows)
    )


def limits(description: Mapping[str, Any]) -> str:
    """What it must not be used for, as far as its description tells."""
    training, systems = description["training"], description["systems"]
    names = ", ".join(spec["name"] for spec in systems) or "none"
    trained = sorted({spec["ndim"] for spec in systems})
    others = [f"{ndim}D" for ndim in (1, 2, 3) if ndim not in trained]
    windows = training.get("windows") or {}
    lines = [
        f"- Systems other than those above ({names}), other variables, sides or units: fine-tune "
        "it on them first, and score that.",
        "- Parameters, values and spacing outside the ranges above, and initial states of another "
        "kind than in its training: no score tells how wrong it is there.",
        "- Other grids than those above without a score on them: it takes any, and saw these.",
    ]
    lacks = [] if description["model"].get("noise") else ["gives no error bars"]
    kept = " and ".join(description["model"].get("keep") or ())
    what = f"nothing but what was stated of {kept}" if kept else "no quantity"
    lacks.append(f"conserves {what} by construction, and")
    if others and trained:
        lines.append(
            f"- Fields in {' or '.join(others)}: it was trained in "
            f"{' and '.join(f'{ndim}D' for ndim in trained)} alone."
        )
    if windows:
        least, most = windows["min_lead"], windows["max_lead"]
        trained_steps = f"{least} dt" if least == most else f"{least} to {most} dt"
        lines.append(
            f"- Steps other than the {trained_steps} that it was trained on. Longer forecasts are "
            "rollouts, whose errors grow from step to step: go no further than the scores do."
        )
    lines.append(
        f"- Decisions on which safety, operation or money depends. It {', '.join(lacks)} learned "
        "from data, not from the equations. Its scores are means over trajectories of the same "
        "kind as in training: single ones can be far worse."
    )
    return "## Not for\n\n" + "\n".join(lines)


def grids_of(training: Mapping[str, Any], system: str) -> str:
    """`64 × 64, 128 × 128`: the grids that a system was trained on, and boxes of them if any; empty
    where it is not known."""
    grids = (training.get("grids") or {}).get(system) or []
    listed = ", ".join(" × ".join(map(str, shape)) for shape in grids)
    crop = (training.get("windows") or {}).get("crop")
    now = system in (training.get("trajectories") or {})  # and not in an earlier training
    return f"{listed} (boxes of {patch_size(crop)} points)" if listed and crop and now else listed


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
        rows.append([name, number(error), number(still), f"{skill:z.0%}" if known else "-"])
    return (
        "## Scores\n\n"
        f"NRMSE {windows.get('min_lead', 1)} dt ahead on validation trajectories, after step "
        f"{found['step']}, beside persistence (nothing changes). No test scores: "
        "`matey evaluate` makes them.\n\n"
        + table(["System", "NRMSE", "Persistence", "Lower by"], rows)
    )


def tested(found: Scores) -> str:
    """Scores on test trajectories, at the first and the last step of the rollouts."""
    rows = []
    for score in found.systems:
        curve = score.main
        for at in sorted({0, len(score.steps) - 1}):
            fitted = "-" if curve.stencil is None else number(curve.stencil[at])
            errors = (curve.error[at], curve.persistence[at])
            rows.append(
                [score.name, str(score.steps[at]), *map(number, errors), fitted, score.tested_on]
            )
    heading = ["System", "dt ahead", "Error", "Persistence", "Stencil", "Mean over"]
    return (
        f"## Scores\n\n{found.systems[0].metric} of rollouts, beside persistence (nothing changes) "
        "and the least-squares stencil of each system, by `matey evaluate`.\n\n"
        + table(heading, rows)
    )


def cost(training: Mapping[str, Any], spent: Mapping[str, Any]) -> str:
    """What the training took."""
    if not spent.get("windows"):
        return ""
    notes = " The blocks were frozen." if training.get("mode") == "frozen-attention" else ""
    if training.get("ema"):
        notes += f" The weights are averages over steps, of decay {training['ema']}."
    versions = ", ".join(f"{k} {v}" for k, v in (training.get("versions") or {}).items())
    tokens = f"{spent['tokens']:,} tokens, " if spent["tokens"] else ""
    taken = training.get("best_of", training["steps"])
    if taken != training["steps"]:
        notes += f" The weights are those after step {training['steps']}, the best by validation."
    return (
        f"## Cost of the last training\n\n{taken} steps, {spent['windows']:,} windows, "
        f"{tokens}{spent['operations']:.3g} floating-point operations, "
        f"{spent['seconds']:.0f} s of steps.{notes} Made with {versions}."
    )


def number(value: float | None) -> str:
    """Four digits; `undefined` for what is not a number."""
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.4f}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Units come from files: nothing in them breaks a row."""
    lines = [heading, ["---"] * len(heading), *rows]
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
