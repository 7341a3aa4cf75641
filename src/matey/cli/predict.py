"""`matey predict`: continue a field in time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from matey.cli import CHECKPOINT, Command

if TYPE_CHECKING:
    from matey.fields import Ensemble, Field


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
    from matey.data.write import write_steps
    from matey.errors import ConfigError, MateyError
    from matey.nn.rollout import schedule
    from matey.nn.surrogate import said
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
    field = fields.read(options.trajectory, slice(-model.needed(fields.spec), None))
    try:
        if options.memory is not None:
            require(not members, "--memory", options.memory, "none with --members")
            need = matey.limit_memory(model, field, options.memory)
            say(f"About {giga(need.total)} of memory, regions: {need.regions}")
    except MateyError as error:
        raise type(error)(f"{options.initial}: {error}") from error
    tokens: list[int] = []
    times: list[float] = []
    frames = frames_of(model, field, options, tokens, times)
    write_steps(frames, out, told=lambda: {"tokens_per_frame": said(tokens)})
    used, cells = said(tokens), model.cells()
    say(
        f"{options.steps} frames of {field.spec.name}, t = {times[0]:g} to "
        f"{times[-1]:g}, in {out}: "
        + (f"{plural(members, 'member')}, " if members else "")
        + (f"{used} tokens per frame, {cells}" if used != "0" else cells)
    )


def frames_of(
    model: Any, field: Any, options: Any, tokens: list[int], times: list[float]
) -> "Iterator[Field | Ensemble]":
    """The frames after a field, one by one, of all members; their `tokens` and `times` are noted.
    Raises MateyError that names the initial file."""
    from matey.errors import MateyError
    from matey.fields import Ensemble

    how = options.steps, options.lead_time, options.seed, lambda made: tokens.append(made.tokens)
    members = range(options.members) if options.members else [None]
    try:
        each = [model.rollout_steps(field, *how, member=member) for member in members]
        for frames in zip(*each, strict=True):
            times.append(float(frames[0].times[-1]))
            yield Ensemble(frames) if options.members else frames[0]
    except MateyError as error:
        raise type(error)(f"{options.initial}: {error}") from error


COMMANDS = {
    "": Command(
        "continue a field in time",
        "matey predict runs/a initial.nc --steps 50 --out prediction.nc",
        add_arguments,
        run,
    )
}
