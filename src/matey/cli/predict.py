"""`matey predict`: continue a field in time."""

from typing import Any, Literal

from matey.cli import Command


def add_arguments(parser: Any) -> None:
    parser.add_argument("checkpoint", help="a run or a model folder")
    parser.add_argument("initial", help="a file whose last frames are the history")
    parser.add_argument("--steps", type=int, default=10, help="frames to predict")
    parser.add_argument("--lead-time", type=float, default=1.0, help="time between them, in dt")
    parser.add_argument("--trajectory", type=int, default=0, help="which one of the file")
    parser.add_argument("--out", default="prediction.nc", help="the NetCDF file to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="of anything random; a rollout has nothing"
    )
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute"
    )


def run(options: Any) -> None:
    from pathlib import Path

    import matey
    from matey.cli.console import console
    from matey.config import require
    from matey.data.write import write_netcdf
    from matey.nn.pretrained import choose_device

    require(options.steps > 0, "--steps", options.steps, "a number above 0")
    require(options.lead_time > 0, "--lead-time", options.lead_time, "a number above 0")
    model = matey.from_pretrained(options.checkpoint).to(choose_device(options.device))
    fields = matey.open(options.initial)
    require(
        0 <= options.trajectory < len(fields),
        "--trajectory",
        options.trajectory,
        f"0 to {len(fields) - 1}: {options.initial} holds {len(fields)}",
    )
    prediction = model.rollout(fields[options.trajectory], options.steps, options.lead_time)
    provenance = {
        "model": options.checkpoint,
        "initial": f"{options.initial} trajectory {options.trajectory}",
        "matey_version": matey.__version__,
    }
    write_netcdf(prediction, Path(options.out), provenance=provenance)
    console.print(
        f"{options.steps} frames of {prediction.spec.name}, t = {float(prediction.times[0]):g} to "
        f"{float(prediction.times[-1]):g}, in {options.out}"
    )


COMMANDS = {
    "": Command(
        "continue a field in time",
        "matey predict runs/a initial.nc --steps 50 --out prediction.nc",
        add_arguments,
        run,
    )
}
