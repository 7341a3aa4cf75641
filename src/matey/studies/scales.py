"""How large each study is at each scale: the systems, the model, and what a cell may spend."""

from dataclasses import replace
from functools import partial

from matey.config import ModelConfig
from matey.studies.design import Scale
from matey.studies.systems import Recipe
from matey.studies.tokens import Variant, variants

NANO = ModelConfig(embed_dim=96, heads=3, depth=2, scheme="svit")
SMALLEST = replace(NANO, embed_dim=16, heads=1, depth=1)
TI = ModelConfig(embed_dim=192, heads=3, depth=12, scheme="svit")

PDEBENCH = ("shallow_water", "diffusion_reaction", "incompressible", "compressible")


def recipes(resolution: int, trajectories: int, *names: str) -> tuple[Recipe, ...]:
    """The named systems at one resolution, 21 frames each."""
    return tuple(Recipe(name, resolution, trajectories) for name in names)


def box(resolution: int, trajectories: int) -> Recipe:
    """Gray and Scott's reaction in three dimensions."""
    return Recipe("gray_scott_3d", resolution, trajectories, simulator="gray_scott", ndim=3)


def resolutions(sizes: tuple[int, ...], trajectories: int) -> tuple[Recipe, ...]:
    """Shallow water at several resolutions, the same initial states at each."""
    return tuple(
        Recipe(f"shallow_water_{size}", size, trajectories, simulator="shallow_water")
        for size in sizes
    )


def names(found: tuple[Recipe, ...]) -> tuple[str, ...]:
    """What they are called."""
    return tuple(recipe.name for recipe in found)


# What the studies have in common at a scale.
smoke = partial(Scale, tokens=16, batch=2, rollout=2, windows=4, turns=2)
paper = partial(Scale, tokens=256, batch=16, history=16, lr=1e-3, rollout=10, windows=128)

LADDER = {"cpu": resolutions((64, 128, 256), 8), "paper": resolutions((64, 128, 256), 32)}

TOKENS = {
    "smoke": smoke(
        recipes=(Recipe("shallow_water", 16, 6, frames=8),),
        operations=8e6,
        model=SMALLEST,
        extra={
            "variants": (
                Variant("adap_mix", 0.3),
                Variant("adap_mul", 0.3, criterion="gradient", rings=1),
            )
        },
    ),
    "cpu": Scale(
        recipes=(
            *recipes(64, 16, *PDEBENCH, "thermals", "gray_scott"),
            box(24, 10),
            *LADDER["cpu"],
        ),
        operations=4e11,
        model=NANO,
        tokens=256,
        extra={"variants": variants((0.2, 0.5, 0.8)), "resolutions": names(LADDER["cpu"])},
    ),
    "paper": paper(
        recipes=(
            *recipes(128, 128, *PDEBENCH, "thermals", "gray_scott"),
            box(64, 32),
            *LADDER["paper"],
        ),
        operations=2e17,
        model=TI,
        validations=8,
        extra={"variants": variants((0.2, 0.4, 0.6)), "resolutions": names(LADDER["paper"])},
    ),
}

ATTENTION = {
    "smoke": smoke(
        recipes=(
            Recipe("shallow_water", 16, 6, frames=8),
            Recipe("shallow_water_32", 32, 3, frames=8, simulator="shallow_water"),
        ),
        operations=8e6,
        model=replace(SMALLEST, depth=2),
        validations=3,
        extra={"widths": (16,), "kinds": ("ViT", "AViT", "SViT, joint every 2nd")},
    ),
    "cpu": Scale(
        recipes=(
            *recipes(64, 16, "thermals", "shallow_water", "compressible"),
            *LADDER["cpu"],
        ),
        operations=5e11,
        model=ModelConfig(embed_dim=64, heads=2, depth=4),
        tokens=256,
        validations=8,
        extra={"widths": (32, 64, 96)},
    ),
    "paper": paper(
        recipes=(
            *recipes(128, 128, "thermals", "shallow_water", "compressible"),
            *LADDER["paper"],
        ),
        operations=5e17,
        model=TI,
        validations=16,
        extra={"widths": (192, 384, 768)},
    ),
}


def transfer_recipes(
    resolution: int, trajectories: int, pretraining: tuple[str, ...], *unlike: Recipe
) -> tuple[Recipe, ...]:
    """The pretraining set, the targets, and systems unlike them."""
    return (
        *recipes(resolution, trajectories, *pretraining, "thermals"),
        Recipe("cavity_training", resolution, trajectories, frames=13, simulator="mhd_cavity"),
        Recipe("mhd_cavity", resolution, 3, frames=13, seed=1),
        *unlike,
    )


UNLIKE = ("gray_scott", "kuramoto_sivashinsky", "gray_scott_3d")

TRANSFER = {
    "smoke": smoke(
        recipes=(
            Recipe("shallow_water", 16, 3, frames=8),
            Recipe("diffusion_reaction", 16, 3, frames=8),
            Recipe("cavity_training", 16, 4, frames=8, simulator="mhd_cavity"),
            Recipe("mhd_cavity", 16, 2, frames=8, seed=1),
            Recipe("gray_scott", 16, 4, frames=8),
        ),
        operations=4e6,
        model=replace(SMALLEST, mode="uniform", patches=(4,)),
        extra={
            "pretraining": ("shallow_water", "diffusion_reaction"),
            "share": 2,
            "targets": ("mhd_cavity",),
            "unlike": ("gray_scott",),
            "trajectories": (1, 2),
            "unlike_trajectories": (1,),
        },
    ),
    "cpu": Scale(
        recipes=transfer_recipes(
            64,
            16,
            PDEBENCH,
            *recipes(64, 16, "gray_scott", "kuramoto_sivashinsky"),
            box(24, 12),
        ),
        operations=1e12,
        model=replace(NANO, depth=4, mode="uniform", patches=(8,)),
        tokens=256,
        extra={
            "pretraining": PDEBENCH,
            "share": 12,
            "targets": ("thermals", "mhd_cavity"),
            "unlike": UNLIKE,
            "trajectories": (1, 2, 4, 8),
            "unlike_trajectories": (1, 8),
        },
    ),
    "paper": paper(
        recipes=transfer_recipes(
            128,
            128,
            PDEBENCH,
            *recipes(128, 32, "gray_scott", "kuramoto_sivashinsky"),
            box(64, 32),
        ),
        operations=1e17,
        model=replace(TI, mode="uniform", patches=(16,)),
        history=10,
        validations=8,
        extra={
            "pretraining": PDEBENCH,
            "share": 30,
            "targets": ("thermals", "mhd_cavity"),
            "unlike": UNLIKE,
            "trajectories": (1, 2, 4, 8),
            "unlike_trajectories": (1, 8),
        },
    ),
}
