"""How large each study is at each scale: the systems, the model, and what a cell may spend."""

from dataclasses import replace
from typing import Any

from matey.config import ModelConfig
from matey.studies.attention.design import AttentionScale
from matey.studies.systems import Recipe
from matey.studies.tokens.design import TokensScale, Variant, rules, variants
from matey.studies.transfer.design import TransferScale

NANO = ModelConfig(embed_dim=96, heads=3, depth=2, scheme="svit")
SMALLEST = replace(NANO, embed_dim=16, heads=1, depth=1)
TI = ModelConfig(embed_dim=192, heads=3, depth=12, scheme="svit")

PDEBENCH = ("shallow_water", "diffusion_reaction", "incompressible", "compressible")
AXIAL = ("thermals", "shallow_water", "compressible")  # where kinds of attention are compared
NEW = ("thermals", "mhd_cavity")  # systems that a pretrained model goes on with
UNLIKE = ("gray_scott", "kuramoto_sivashinsky", "gray_scott_3d")


def recipes(resolution: int, trajectories: int, *names: str) -> tuple[Recipe, ...]:
    """The named systems at one resolution, 21 frames each."""
    return tuple(Recipe(name, resolution, trajectories) for name in names)


def box(resolution: int, trajectories: int) -> Recipe:
    """Gray and Scott's reaction in three dimensions."""
    return Recipe("gray_scott_3d", resolution, trajectories, simulator="gray_scott", ndim=3)


def blasts(resolution: int) -> Recipe:
    """Blasts and shocks in three dimensions."""
    return Recipe(f"blast_3d_{resolution}", resolution, 48, simulator="blast", ndim=3)


def resolutions(trajectories: int) -> tuple[Recipe, ...]:
    """Shallow water at several resolutions, the same initial states at each."""
    return tuple(
        Recipe(f"shallow_water_{size}", size, trajectories, simulator="shallow_water")
        for size in (64, 128, 256)
    )


def transfer_recipes(
    resolution: int, trajectories: int, pretraining: tuple[str, ...], *unlike: Recipe
) -> tuple[Recipe, ...]:
    """The pretraining set, the targets, and systems unlike them."""
    return (
        *recipes(resolution, trajectories, *pretraining, "thermals"),
        Recipe("cavity_training", resolution, trajectories, frames=13, simulator="mhd_cavity"),
        Recipe("mhd_cavity", resolution, 8, frames=13, seed=1),
        *unlike,
    )


# What the studies have in common at a scale.
SMOKE: dict[str, Any] = {"tokens": 16, "batch": 2, "rollout": 2, "windows": 4, "turns": 2}
PAPER: dict[str, Any] = {
    **{"tokens": 256, "batch": 16, "history": 16, "rollout": 10, "windows": 128},
    **{"seeds": 5, "shares": ("tenth", "third"), "rates": (3e-4, 1e-3, 3e-3)},
}

LONG: dict[str, Any] = {
    "shares": ("tenth", "third"),
    "operations": 1e13,
    "tokens": 256,
    "rates": (1e-3, 3e-3, 9e-3),
    "windows": 32,
    "validations": 4,
}
# The architecture that is the best of ours, by docs/model.md.
BEST = ModelConfig(embed_dim=96, heads=3, depth=4, scheme="svit", local=32, levels=3)

# That of arXiv:2412.20601 in the same size: examples/paper/nano.yaml.
PUBLISHED = replace(
    NANO, depth=4, stem="hierarchical", latent_channels=24, predict="state", drop_path=0.1
)

LADDER = {"cpu": resolutions(40), "long": resolutions(8), "paper": resolutions(48)}
RUNGS = tuple(recipe.name for recipe in LADDER["cpu"])

TOKENS = {
    "smoke": TokensScale(
        **SMOKE,
        recipes=(Recipe("shallow_water", 16, 6, frames=8),),
        operations=8e6,
        model=SMALLEST,
        variants=(
            Variant("adap_mix", 0.3),
            Variant("adap_mul", 0.3, criterion="gradient", rings=1),
        ),
    ),
    "cpu": TokensScale(
        recipes=(
            *recipes(64, 40, *PDEBENCH, "thermals", "gray_scott"),
            *(box(24, 40), *LADDER["cpu"]),
        ),
        operations=4e11,
        model=NANO,
        tokens=256,
        variants=variants((0.2, 0.5, 0.8)),
        resolutions=RUNGS,
    ),
    "long": TokensScale(
        **LONG,
        recipes=(*recipes(128, 48, "shallow_water", "blast", "reacting", "fracture"), blasts(32)),
        model=BEST,
        variants=(
            Variant("adap_mix", 0.9, "change", rule="bulk"),
            Variant("adap_mix", 0.9, "change", rule="bulk", finer=True),
        ),
        published=PUBLISHED,
        most=2.0,
    ),
    "paper": TokensScale(
        **PAPER,
        validations=8,
        recipes=(
            *recipes(128, 128, *PDEBENCH, "thermals", "gray_scott"),
            *recipes(128, 128, "reacting", "blast", "fracture"),
            Recipe("blast_256", 256, 64, simulator="blast"),
            *(blasts(32), blasts(64), box(64, 48), *LADDER["paper"]),
        ),
        operations=2e17,
        model=TI,
        variants=(*variants((0.02, 0.2, 0.4, 0.6, 0.95)), *rules(0.9, 0.5)),
        resolutions=RUNGS,
    ),
}

ATTENTION = {
    "smoke": AttentionScale(
        **SMOKE,
        validations=3,
        recipes=(
            Recipe("shallow_water", 16, 6, frames=8),
            Recipe("shallow_water_32", 32, 3, frames=8, simulator="shallow_water"),
        ),
        operations=8e6,
        model=replace(SMALLEST, depth=2),
        ladder=("shallow_water_32",),
        widths=(16,),
        kinds=("ViT", "AViT", "SViT, joint every 2nd"),
    ),
    "cpu": AttentionScale(
        recipes=(*recipes(64, 40, *AXIAL), *LADDER["cpu"]),
        ladder=RUNGS,
        operations=5e11,
        model=ModelConfig(embed_dim=64, heads=2, depth=4),
        tokens=256,
        validations=8,
        widths=(32, 64, 96),
    ),
    "long": AttentionScale(
        **LONG,
        recipes=(
            *recipes(64, 48, "thermals"),
            *recipes(128, 48, "shallow_water", "compressible"),
            *(blasts(32), *LADDER["long"]),
        ),
        ladder=RUNGS,
        # No local path, which folds the history: ViT and SViT would be one and the same.
        model=ModelConfig(embed_dim=96, heads=3, depth=4),
        widths=(64, 96, 128),
        single=("SViT, joint every 2nd", "AViT, joint every 2nd", "AViT, joint every 4th"),
    ),
    "paper": AttentionScale(
        **PAPER,
        validations=16,
        recipes=(
            *recipes(128, 128, *AXIAL),
            Recipe("blast_256", 256, 64, simulator="blast"),
            *(blasts(32), *LADDER["paper"]),
        ),
        ladder=RUNGS,
        operations=5e17,
        model=TI,
        widths=(192, 384, 768),
    ),
}

TRANSFER = {
    "smoke": TransferScale(
        **SMOKE,
        recipes=(
            Recipe("shallow_water", 16, 3, frames=8),
            Recipe("diffusion_reaction", 16, 3, frames=8),
            Recipe("cavity_training", 16, 4, frames=8, simulator="mhd_cavity"),
            Recipe("mhd_cavity", 16, 2, frames=8, seed=1),
            Recipe("gray_scott", 16, 4, frames=8),
        ),
        operations=4e6,
        model=replace(SMALLEST, mode="uniform", patches=(4,)),
        pretraining=("shallow_water", "diffusion_reaction"),
        share=2,
        targets=("mhd_cavity",),
        unlike=("gray_scott",),
        trajectories=(1, 2),
        unlike_trajectories=(1,),
    ),
    "cpu": TransferScale(
        recipes=transfer_recipes(64, 40, PDEBENCH, *recipes(64, 40, *UNLIKE[:2]), box(24, 40)),
        operations=1e12,
        model=replace(NANO, depth=4, mode="uniform", patches=(8,)),
        tokens=256,
        pretraining=PDEBENCH,
        share=12,
        targets=NEW,
        unlike=UNLIKE,
    ),
    "long": TransferScale(
        **LONG,
        recipes=transfer_recipes(64, 48, PDEBENCH, *recipes(64, 48, *UNLIKE[:1])),
        model=replace(BEST, mode="uniform", patches=(8,), levels=2),
        pretraining=PDEBENCH,
        share=12,
        targets=NEW,
        unlike=UNLIKE[:1],
        trajectories=(1, 8),
    ),
    "paper": TransferScale(
        **{**PAPER, "history": 10},
        validations=8,
        recipes=transfer_recipes(128, 128, PDEBENCH, *recipes(128, 48, *UNLIKE[:2]), box(64, 48)),
        operations=1e17,
        model=replace(TI, mode="uniform", patches=(16,)),
        pretraining=PDEBENCH,
        share=30,
        targets=NEW,
        unlike=UNLIKE,
    ),
}
