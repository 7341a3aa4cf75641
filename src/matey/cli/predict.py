"""`matey predict`: continue a field in time."""

from typing import Any, Literal

from matey.cli import Command


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("checkpoint", help="a run or a model folder")
    parser.add_argument("initial", help="a file whose last frames are the history")
    parser.add_argument("--steps", type=PositiveInt, default=10, help="frames to predict")
    parser.add_argument(
        "--lead-time",
        type=float | list[float],
        default=1.0,
        help="time between them in dt: a number, or one for each step as in [1,1,4]",
    )
    parser.add_argument("--trajectory", type=int, default=0, help="which one of the file")
    parser.add_argument(
        "--out", default="prediction.nc", help="the NetCDF file, or zarr store (.zarr), to write"
    )
    parser.add_argument(
        "--token-budget",
        type=PositiveInt | None,
        help="refine as many cells as leave no more than so many tokens per frame",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the shifts of a model made with jitter"
    )
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute"
    )


def run(options: Any) -> None:
    from pathlib import Path

    import matey
    from matey.cli.console import console
    from matey.config import require
    from matey.data.formats.files import find_files
    from matey.device import choose_device
    from matey.errors import ConfigError, MateyError
    from matey.nn.folder import set_token_budget
    from matey.nn.rollout import schedule
    from matey.train.threads import stay_within_cores

    schedule(options.steps, options.lead_time)
    stay_within_cores()
    out = Path(options.out)
    if out.resolve() in [path.resolve() for path in find_files([options.initial])]:
        raise ConfigError(f"--out {out} is the file to read. Choose another name.")
    model = matey.from_pretrained(options.checkpoint).to(choose_device(options.device))
    if options.token_budget is not None:
        set_token_budget(model, options.token_budget)
    fields = matey.open(options.initial)
    require(
        0 <= options.trajectory < len(fields),
        "--trajectory",
        options.trajectory,
        f"0 to {len(fields) - 1}: {options.initial} holds {len(fields)}",
    )
    try:
        prediction = model.rollout(
            fields[options.trajectory], options.steps, options.lead_time, options.seed
        )
    except MateyError as error:
        raise type(error)(f"{options.initial}: {error}") from error
    matey.write_field(prediction, out)
    used, cells = (prediction.provenance[name] for name in ("tokens_per_frame", "cells"))
    console.print(
        f"{options.steps} frames of {prediction.spec.name}, t = {float(prediction.times[0]):g} to "
        f"{float(prediction.times[-1]):g}, in {out}: "
        + (f"{used} tokens per frame, {cells}" if used != "0" else cells),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


COMMANDS = {
    "": Command(
        "continue a field in time",
        "matey predict runs/a initial.nc --steps 50 --out prediction.nc",
        add_arguments,
        run,
    )
}
