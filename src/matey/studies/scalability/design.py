"""Cases of the study of scalability: models, grids, and the field on them.

No model is trained. Every case is counted; those that fit are measured as well.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import ModelConfig, RefineConfig, RunConfig, Scheme, WindowConfig
from matey.fields import Batch, Boundary, SystemSpec, Variable
from matey.tokens.lattice import Triple, patch_shape
from matey.tokens.normalise import measure
from matey.tokens.refine import RefinementPlan, plan_refinement

COARSE, FINE = 16, 4  # patches
VARIABLES = 4
RADIUS, WIDTH = 0.3, 2.0  # of the front: of the domain's side, and in grid points
SCHEMES: dict[str, Scheme] = {"ViT": "vit", "SViT": "svit", "AViT": "avit"}
LOCAL = "SViT, local path"
MODEL = ModelConfig(embed_dim=96, heads=3, depth=4)


@dataclass(frozen=True)
class Reach:
    """How far the study goes.

    `sides` are points along each axis by number of dimensions; each grid has `history` frames, and
    the grid of `middle` points has each of the `histories`. Measured are cases of at most `most`
    operations a step, and `room` bytes, in so many `turns`.
    """

    sides: dict[int, tuple[int, ...]]
    histories: tuple[int, ...]
    middle: int
    most: float
    room: float
    history: int = 4
    turns: int = 3
    kinds: tuple[str, ...] = (*SCHEMES, LOCAL)


SIDES = {2: (64, 128, 256, 512, 1024, 2048), 3: (32, 64, 128, 256)}
HISTORIES = (2, 4, 8, 16)
SCALES = {
    "smoke": Reach({2: (32, 64)}, (2,), 64, 1e9, 1e9, history=2, turns=1, kinds=("AViT",)),
    "cpu": Reach(SIDES, HISTORIES, middle=256, most=1e11, room=2e9),
    "long": Reach(SIDES, HISTORIES, middle=256, most=1e12, room=6e9),
    "paper": Reach(SIDES, HISTORIES, middle=512, most=5e15, room=7e10),
}


@dataclass(frozen=True)
class Case:
    """A kind of model on one sample: its grid, (Z, Y, X), its history, and how it is cut."""

    kind: str
    adaptive: bool
    grid: Triple
    history: int

    @property
    def ndim(self) -> int:
        return sum(points > 1 for points in self.grid)

    @property
    def name(self) -> str:
        """Its operating point: `adaptive SViT`."""
        return f"{'adaptive' if self.adaptive else 'uniform'} {self.kind}"

    @property
    def place(self) -> str:
        """Its grid and history: `256², 4 frames`."""
        side = f"{self.grid[-1]}{'²' if self.ndim == 2 else '³'}"
        return f"{side}, {self.history} frames"

    @property
    def spec(self) -> SystemSpec:
        return SystemSpec("front", self.ndim, tuple(Variable(f"u{i}") for i in range(VARIABLES)))

    def config(self, device: str) -> RunConfig:
        """A run on it, one sample a step."""
        model = replace(MODEL, scheme=SCHEMES.get(self.kind, "svit"))
        if self.kind == LOCAL:
            model = replace(model, local=32, levels=1)
        if self.adaptive:
            rule = RefineConfig("change", bulk=0.9)
            model = replace(model, mode="adap_mix", patches=(COARSE, FINE), refine=rule)
        else:
            model = replace(model, mode="uniform", patches=(FINE,))
        windows = WindowConfig(history=self.history)
        return RunConfig(
            model=model,
            windows=windows,
            batch=1,
            device="cpu" if device == "cpu" else "auto" if device == "auto" else "cuda",
        )

    def plan(self) -> RefinementPlan:
        """How the last two frames are cut: what came before does not matter."""
        fields = front(self.grid, 2, 1)[None]
        sides = torch.full((1, 3, 2), int(Boundary.PERIODIC))
        patches = (COARSE, FINE) if self.adaptive else (FINE,)
        sizes = [patch_shape(self.ndim, patch) for patch in patches]
        rule = RefineConfig("change", bulk=0.9)
        return plan_refinement(measure(fields).normalise(fields), sides, sizes, rule)

    def batch(self) -> Batch:
        """The sample, with the frame after it."""
        frames = front(self.grid, self.history + 1, VARIABLES)
        return Batch(
            values=frames[None, :-1],
            lead_time=torch.ones(1),
            boundaries=torch.full((1, 3, 2), int(Boundary.PERIODIC)),
            parameters=torch.zeros(1, 0),
            spec=self.spec,
            sources=("front",),
            target=frames[None, -1],
        )


def front(grid: Triple, frames: int, variables: int) -> Float[Tensor, "T C Z Y X"]:
    """A circle or a ball whose surface is two grid points thick and runs outwards by one point a
    frame: as sharp as the grid allows at every resolution, as shocks and cracks are."""
    axes = [torch.arange(points) - (points - 1) / 2 for points in grid]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    distance = (z.square() + y.square() + x.square()).sqrt()
    start = RADIUS * max(grid)
    steps = [torch.tanh((distance - start - step) / WIDTH) for step in range(frames)]
    return torch.stack(steps)[:, None].repeat(1, variables, 1, 1, 1)


def cases(reach: Reach) -> list[Case]:
    """Every kind, uniform and adaptive, on every grid, and with every history on the middle one."""
    places = [
        (grid_of(side, ndim), reach.history)
        for ndim, sides in reach.sides.items()
        for side in sides
    ]
    places += [(grid_of(reach.middle, 2), history) for history in reach.histories]
    return [
        Case(kind, adaptive, grid, history)
        for grid, history in dict.fromkeys(places)
        for kind in reach.kinds
        for adaptive in (False, True)
    ]


def grid_of(side: int, ndim: int) -> Triple:
    """A square or a cube."""
    return (1, side, side) if ndim == 2 else (side, side, side)
