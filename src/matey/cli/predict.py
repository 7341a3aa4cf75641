"""`matey predict`: continue a field in time."""

from typing import Any

from matey.cli import CHECKPOINT, Command


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

    from matey.cli.options import add_model_options
    from matey.config import DataConfig

    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("initial", help="a file whose last frames are the history")
    parser.add_argument("--steps", type=PositiveInt, default=10, help="frames to predict")
    parser.add_argument(
        "--lead-time",
        type=float | list[float],
        default=1.0,
        help="time between them in dt: a number, or one for each step as in [1,1,4]",
    )
    parser.add_argument(
        "--members",
        type=PositiveInt | None,
        help="predict an ensemble of so many, of a model that was trained for it (see "
        "docs/ensembles.md): the file has an axis `member`",
    )
    parser.add_class_arguments(DataConfig, "data")
    parser.add_argument("--trajectory", type=int, default=0, help="which one of the file")
    parser.add_argument(
        "--out", default="prediction.nc", help="the NetCDF file, or zarr store (.zarr), to write"
    )
    parser.add_argument(
        "--memory",
        type=str | None,
        default=None,
        help="what the process may take, as 8GB: large fields are predicted by regions",
    )
    add_model_options(parser)


def run(options: Any) -> None:
    from pathlib import Path

    import matey
    from matey.cli.console import say
    from matey.cli.options import load_model
    from matey.config import require
    from matey.cost.forecast import giga
    from matey.data.formats.find import find_files
    from matey.data.trajectories import open_as
    from matey.errors import ConfigError, MateyError
    from matey.fields import Ensemble
    from matey.nn.rollout import schedule
    from matey.words import plural

    schedule(options.steps, options.lead_time)
    members = options.members
    require(members != 1, "--members", members, "2 or more; leave it out for one prediction")
    out = Path(options.out)
    if out.resolve() in [path.resolve() for path in find_files([options.initial])]:
        raise ConfigError(f"--out {out} is the file to read. Choose another name.")
    model = load_model(options)
    described = options.data.systems
    fields = (
        open_as(options.initial, described)
        if described
        else matey.open(options.initial, like=options.checkpoint)
    )
    require(
        0 <= options.trajectory < len(fields),
        "--trajectory",
        options.trajectory,
        f"0 to {len(fields) - 1}: {options.initial} holds {len(fields)}",
    )
    field = fields.read(options.trajectory, slice(-model.history, None))
    try:
        if options.memory is not None:
            require(not members, "--memory", options.memory, "none with --members")
            need = matey.limit_memory(model, field, options.memory, options.steps)
            say(f"About {giga(need.total)} of memory, regions: {need.regions}")
        how = options.steps, options.lead_time, options.seed
        prediction = (
            model.rollout(field, *how, members=members) if members else model.rollout(field, *how)
        )
    except MateyError as error:
        raise type(error)(f"{options.initial}: {error}") from error
    matey.write_field(prediction, out)
    one = prediction[0] if isinstance(prediction, Ensemble) else prediction
    used, cells = (one.provenance[name] for name in ("tokens_per_frame", "cells"))
    say(
        f"{options.steps} frames of {one.spec.name}, t = {float(one.times[0]):g} to "
        f"{float(one.times[-1]):g}, in {out}: "
        + (f"{plural(members, 'member')}, " if members else "")
        + (f"{used} tokens per frame, {cells}" if used != "0" else cells)
    )


COMMANDS = {
    "": Command(
        "continue a field in time",
        "matey predict runs/a initial.nc --steps 50 --out prediction.nc",
        add_arguments,
        run,
    )
}
