"""Does decoupled attention pay? ViT, SViT, AViT and partly decoupled models, uniform patches.

Claim of arXiv:2412.20601: fully decoupled, axial attention needs 2 to 3 times the training time and
the weights of ViT for the same accuracy.

At matched width all schemes have one width; for the comparison at matched error each has several.
Time to an error is read off the validations during a training, as steps, and taken times the step
time, which is measured apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matey.config import ModelConfig, Scheme
from matey.studies.design import OPERATIONS, STEPS, Design, Material, Scale, leveled
from matey.studies.systems import medium_patch

REFERENCE = "ViT"
# What the blocks of each kind of model attend with, repeated over its depth.
PATTERNS: dict[str, tuple[Scheme, ...]] = {
    "ViT": ("vit",),
    "SViT": ("svit",),
    "AViT": ("avit",),
    "SViT, joint every 2nd": ("svit", "vit"),
    "AViT, joint every 2nd": ("avit", "vit"),
    "AViT, joint every 4th": ("avit", "avit", "avit", "vit"),
}


@dataclass(frozen=True, kw_only=True)
class AttentionScale(Scale):
    """The size of the study of attention: its widths, and the kinds of models.

    Kinds that are `single` have the middle width alone. `ladder` is one system at several
    resolutions, coarse to fine, to see how cost grows with tokens: no model is trained on it.
    """

    widths: tuple[int, ...]
    ladder: tuple[str, ...] = ()
    kinds: tuple[str, ...] = tuple(PATTERNS)
    single: tuple[str, ...] = ()

    @property
    def middle_width(self) -> int:
        """The width at which schemes are compared."""
        return self.widths[len(self.widths) // 2]

    @property
    def trained(self) -> tuple[str, ...]:
        """The systems that models are trained on."""
        return tuple(r.name for r in self.recipes if r.name not in self.ladder)

    def only(self, systems: Sequence[str]) -> "AttentionScale":
        """The scale with some of its systems. Raises ConfigError for one that it does not have."""
        left = tuple(name for name in self.ladder if name in systems)
        return replace(super().only(systems), ladder=left)

    def widths_of(self, kind: str) -> tuple[int, ...]:
        """The widths that a kind of model is tried with."""
        return (self.middle_width,) if kind in self.single else self.widths

    @property
    def patterns(self) -> dict[str, tuple[Scheme, ...]]:
        """The kinds of models of this scale that its depth allows."""
        return {
            name: kind
            for name, kind in PATTERNS.items()
            if name in self.kinds and self.model.depth % len(kind) == 0
        }


def point(kind: str, width: int) -> str:
    """An operating point's name."""
    return f"{kind} {width}"


def patch_of(material: Material[AttentionScale], system: str) -> int:
    """The patch of a system: the medium one; at several resolutions one for all of them, since
    patches that grow with the grid would leave as many tokens at each."""
    ladder = material.scale.ladder
    if system not in ladder:
        return material.medium(system)
    return medium_patch(material.probes[ladder[0]].grid, material.scale.tokens // 4)


def design(material: Material[AttentionScale]) -> Design:
    """Every kind at every width for equal operations, and at the middle width for equal steps."""
    scale, cells, benches = material.scale, [], {}
    middle = scale.middle_width
    for system in material.sources:
        patch = patch_of(material, system)
        models = {
            point(kind, width): model_of(scale, kind, width, patch)
            for kind in scale.patterns
            for width in (scale.widths_of(kind) if system in scale.trained else (middle,))
        }
        benches[system] = {name: material.config(system, model) for name, model in models.items()}
        if system not in scale.trained:
            continue
        reference = material.steps(system, models[point(REFERENCE, middle)], scale.operations)
        for name, model in models.items():
            affordable = material.steps(system, model, scale.operations)
            for seed in material.seeds:
                args = (system, name, model)
                cells.append(material.cell(*args, affordable, OPERATIONS, seed))
                if name.endswith(f" {middle}") and name != point(REFERENCE, middle):
                    cells.append(material.cell(*args, reference, STEPS, seed))
    return Design(tuple(cells), benches)


def model_of(scale: AttentionScale, kind: str, width: int, patch: int) -> ModelConfig:
    """A model of one kind and width, with uniform patches."""
    head = scale.model.embed_dim // scale.model.heads
    return replace(
        leveled(scale.model, patch),
        embed_dim=width,
        heads=max(1, width // head),
        scheme=PATTERNS[kind],
        mode="uniform",
        patches=(patch,),
    )
