"""Your own NetCDF to a fine-tuned model in 15 lines.

    python examples/own_data.py                             # in an empty folder
    python examples/own_data.py --pretrained runs/real      # a run or a model folder of yours

Cost   6 seconds of one CPU core, without --pretrained a part of them for a toy model to start from.
Shows  NRMSE of a rollout of the fine-tuned model beside persistence's, on runs that it never saw.

`make_file` stands for your solver, `make_pretrained` for a model that somebody trained: your part
is `yours`.
"""

import argparse

import numpy as np
import xarray

import matey


def make_file(runs: int = 12, frames: int = 14, points: int = 32) -> None:
    """Dye in a current of one speed: every run starts from other waves, which drift and fade."""
    generator = np.random.default_rng(0)
    time, place = 0.1 * np.arange(frames), np.arange(points) / points
    dye = np.zeros((runs, frames, points, points))
    for wave_y in range(-3, 4):
        for wave_x in range(-3, 4):
            size, phase = generator.normal(size=runs), generator.uniform(0, 2 * np.pi, runs)
            way = wave_x * (place - 0.3 * time[:, None, None]) + wave_y * place[:, None]
            fading = np.exp(-0.05 * (wave_x**2 + wave_y**2) * time)[:, None, None]
            moving = np.cos(2 * np.pi * way + phase[:, None, None, None])
            dye += size[:, None, None, None] * fading * moving
    arrays = {"dye": (("run", "time", "y", "x"), dye.astype("float32"), {"units": "kg m-3"})}
    coordinates = {"time": time, "y": place, "x": place}
    xarray.Dataset(arrays, coordinates).to_netcdf("dye.nc")


def make_pretrained() -> str:
    """A toy that has seen a little shallow water."""
    from matey.simulate import simulate

    fields = simulate("shallow_water", trajectories=4, resolution=32, steps=8, seed=0)
    matey.write_well(fields, "water", name="shallow_water")
    config = matey.RunConfig(
        model=matey.ModelConfig(embed_dim=48, heads=2, depth=1, patches=(8, 4)),
        windows=matey.WindowConfig(history=2),
        data=matey.data_config("water"),
        steps=5,
        batch=4,
        validate_windows=4,
    )
    matey.pretrain(config, "runs/toy")
    return "runs/toy"


def yours(pretrained: str) -> None:
    """From a file to a prediction that you can trust, or not: 15 lines."""
    model = matey.from_pretrained(pretrained)
    data = matey.data_config("dye.nc")  # what is in the file; it logs what it assumed
    data.systems[0].layout.boundaries.update(x="periodic", y="periodic")  # what it cannot know
    config = matey.RunConfig(
        model=model.config,
        windows=matey.WindowConfig(history=model.history, roll=True),
        optim=matey.OptimConfig(lr=6e-3, warmup=10),
        data=data,
        steps=60,
    )
    tuned = matey.finetune(pretrained, config, "runs/dye")
    history = matey.open("dye.nc", like="runs/dye").read(0, slice(0, model.history))
    tuned.rollout(history, steps=6).to_xarray().to_netcdf("prediction.nc")  # in physical units
    (score,) = matey.score(tuned, "dye", data, matey.ScoreConfig(steps=6), "results")
    print(f"NRMSE {score.main.error[-1]:.3f}, persistence {score.main.persistence[-1]:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pretrained", help="a run or a model folder; else a toy is trained")
    options = parser.parse_args()
    make_file()
    yours(options.pretrained or make_pretrained())
