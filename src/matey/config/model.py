"""Settings of the model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from matey.config.checks import require, require_fraction, require_positive

# Names are listed here, where nothing heavy is imported, so that commands refuse a misspelt one at
# once and `--help` shows them all.
Scheme = Literal["vit", "svit", "avit"]
Mode = Literal["uniform", "adap_mix", "adap_mul"]
WIDTH, LATENT = 96, 8  # at which `mup` leaves the steps of weights as they are
Patch = int | tuple[int, ...]  # points along every axis, or along each
# Published sizes: embed_dim, heads, depth.
SIZES = {"Ti": (192, 3, 12), "S": (384, 6, 12), "B": (768, 12, 12), "L": (1024, 16, 24)}
BaselineKind = Literal["none", "unet", "fno", "stencil"]


@dataclass(frozen=True)
class RefineConfig:
    """Which cells are cut finer.

    Args:
        criterion: what is measured in each cell of the normalised fields: their `variance`, the
            size of their last `change`, or their `gradient`.
        threshold: refine where the criterion exceeds this fraction of its largest value in
            the sample; 0 refines every cell, 1 none. Start with 0.2 to 0.6.
        bulk: instead, refine the fewest cells that together hold this fraction of the criterion's
            sum over the sample (Dörfler marking); 0 refines none, 1 every cell. Start with 0.9.
        fraction: instead, refine this fraction of the cells, those of the largest criterion.
        token_budget: instead, refine as many cells as this many tokens per frame allow, largest
            criterion first; cells of all levels compete.
        buffer: also refine this many rings of cells around refined ones: features move before
            the next frame.
    """

    criterion: str = "variance"
    threshold: float = 0.3
    bulk: float | None = None
    fraction: float | None = None
    token_budget: int | None = None
    buffer: int = 0

    def __post_init__(self) -> None:
        require_fraction(self, "model.refine.", "threshold")
        if self.token_budget is not None:
            require_positive(self, "model.refine.", "token_budget")
        rules = [
            name for name in ("token_budget", "bulk", "fraction") if getattr(self, name) is not None
        ]
        require_fraction(self, "model.refine.", *(rule for rule in rules if rule != "token_budget"))
        for other in rules[1:]:
            expected = f"none, as model.refine.{rules[0]} is given"
            require(False, f"model.refine.{other}", getattr(self, other), expected)
        require(self.buffer >= 0, "model.refine.buffer", self.buffer, "0 rings or more")

    def describe(self) -> str:
        """Which cells are cut finer, in words."""
        if self.token_budget is not None:
            text = f"where {self.criterion} is largest, up to {self.token_budget} tokens per frame"
        elif self.bulk is not None:
            text = f"in the fewest cells that hold {self.bulk:g} of the {self.criterion}"
        elif self.fraction is not None:
            text = f"where {self.criterion} is largest, in {self.fraction:.4g} of the cells"
        else:
            text = f"where {self.criterion} exceeds {self.threshold:g} of its maximum"
        if self.buffer:
            text += f", and {self.buffer} ring{'s' if self.buffer > 1 else ''} around"
        return text


@dataclass(frozen=True)
class BaselineConfig:
    """A network to compare the transformer with.

    Args:
        kind: `none`, or a `unet`, an `fno` or a least-squares `stencil` in place of the
            transformer. Of the transformer's settings a network uses `predict`, and an FNO also
            `absolute_position`; a stencil uses none.
        width: channels of the coarsest level of a U-Net, of each layer of an FNO; by default as
            many as give it the transformer's number of weights, within 10 %. Of a stencil: grid
            points along each axis, an odd number; by default 25 in one dimension, 13 in two and 5
            in three.
        modes: Fourier modes of an FNO along each axis; by default near 16 in one dimension, 12
            in two, 8 in three.
    """

    kind: BaselineKind = "none"
    width: int | None = None
    modes: int | None = None

    def __post_init__(self) -> None:
        name = "model.baseline."
        kinds = get_args(BaselineKind)
        require(self.kind in kinds, f"{name}kind", self.kind, " or ".join(kinds[1:]))
        if self.width is not None:
            require_positive(self, name, "width")
            require(self.kind != "none", f"{name}width", self.width, f"none without {name}kind")
            odd = self.kind != "stencil" or self.width % 2 == 1
            require(odd, f"{name}width", self.width, "an odd number of points for a stencil")
        if self.modes is not None:
            require(self.kind == "fno", f"{name}modes", self.modes, f"none but for {name}kind fno")
            fits = self.modes >= 2 and self.modes % 2 == 0
            require(fits, f"{name}modes", self.modes, "an even number above 0")


@dataclass(frozen=True)
class KeepConfig:
    """What a system conserves, and each predicted frame of it keeps, by a projection.

    Args:
        means: totals, each the mean over the domain of a variable, as `density` (mass), or of the
            product of two, as `density*velocity_x` (momentum): the last variable is shifted by what
            its total has changed since the last frame, where the mean of the first is not zero.
        divergence: vectors that stay free of divergence, as `velocity` for velocity_x, velocity_y
            and velocity_z: their part that is a gradient is taken away. On periodic, even grids
            without a mask.
    """

    means: tuple[str, ...] = ()
    divergence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for total in self.means:
            fits = 1 <= len(total.split("*")) <= 2 and all(total.split("*"))
            require(fits, "model.keep.means", total, "a variable, or two as density*velocity_x")
        shifted = [total.split("*")[-1] for total in self.means]
        once = len(set(shifted)) == len(shifted)
        require(once, "model.keep.means", self.means, "totals that each end in another variable")
        factors = [total.split("*")[0] for total in self.means if "*" in total]
        again = {*factors} & {total.split("*")[1] for total in self.means if "*" in total}
        require(not again, "model.keep.means", self.means, "no variable both first and last")


@dataclass(frozen=True)
class ModelConfig:
    """The transformer. `SIZES` are those of the paper (embed_dim/heads/depth): Ti 192/3/12,
    S 384/6/12, B 768/12/12, L 1024/16/24.

    Args:
        embed_dim: width of a token.
        heads: attention heads; divides embed_dim.
        depth: number of blocks.
        scheme: which tokens attend together: `vit` all at once, `svit` time then space, `avit`
            time then the lines along each axis. A list of them is repeated over the blocks:
            `[svit, svit, vit]` attends to all at once in every third block.
        mode: `uniform` tokens of one patch size; `adap_mix`: coarse and fine ones in one sequence;
            `adap_mul`: a coarse pass, and a short sequence of fine tokens in each refined cell.
        patches: patch sizes in grid points, coarse to fine; each divides the one before, and none
            need divide the grid. A size is one number, or one for each axis, slowest first, as
            `[[8, 16], [4, 8]]` where points are twice as far apart along y.
        refine: where fine patches go.
        band: width in grid points of the lines of `avit`; by default the coarsest patch.
        stem: a patch becomes a token by one `linear` map, or by a `hierarchical` one of up to
            three stages.
        jitter: shift the lattice of patches at random along periodic axes, in training and at
            each step of a rollout, so that no patch edge stays in one place.
        jitter_sides: with `jitter`, shift it along all other axes, too, by continuing fields past
            both sides: up to one more patch along each.
        absolute_position: tell tokens their position in the domain; attention always knows the
            distance between two of them.
        rotate_active: let attention tell distances along the axes that a system has by all
            channels, which resolves nearer neighbours; by default a third of them each is for x, y
            and z, also where there is no such axis.
        local: channels of the local path around the tokens: convolutions that see neighbouring
            points across the edges of patches, and fold the history into one frame of features;
            0 leaves it out. Start with 32.
        local_piece: points along each axis that the local path takes together, by default 2, and 1
            where a patch is odd; each patch is a multiple of it. A step takes 0.4 of the time with
            4 on 256 x 256 points: start with that on such grids and larger ones.
        levels: coarser resolutions of the local path, each half of the one before: it sees farther
            at little cost. A coarse patch holds whole pieces of the coarsest: up to 3 with patches
            of 16, or of 32 with a `local_piece` of 4. Start with 3.
        waves: Fourier modes of the local path, of fewer waves than this along each axis (half waves
            where it is not periodic): what crosses the domain within a step, as sound does. 0
            leaves them out. Start with 8.
        bound: what the features of a point are held below before each convolution of the local path
            looks at them (root mean square over channels, smoothly): histories unlike most of
            training cannot make them grow from one convolution to the next. 0 leaves them as they
            are. Start with 4.
        stencil: predict the increments beyond those of the least-squares stencil of each system
            where rollouts of it are good (a third of persistence's error at most): it is fitted
            when training begins and stays as it is (see docs/baselines.md).
        mup: maximal update parametrisation (arXiv:2203.03466): weights times explicit factors, so
            that the best learning rate is the same at any embed_dim and latent_channels. With
            `local` it always is so.
        latent_channels: width of the space that variables are mixed into. With `local` it has no
            effect, nor has `stem`: patches are those of features.
        predict: the next `state`, or its increment (`delta`) over the last frame.
        mlp_ratio: hidden width of the MLP over embed_dim.
        noise: numbers of noise that the model is told, which make the members of an ensemble differ
            (see docs/ensembles.md); 0 for a model that predicts one frame. Start with 16.
        drop_path: probability of skipping a branch of the last block; earlier blocks less.
        layer_scale: initial scale of each residual branch.
        keep: what single systems conserve, by name, as
            `{two_phase: {means: [phase], divergence: [velocity]}}`: each predicted frame is
            projected onto one that does, in training and in rollouts. State only what holds for a
            system's equations and sides.
        baseline: a U-Net, an FNO or a stencil in place of the transformer.
    """

    embed_dim: int = 192
    heads: int = 3
    depth: int = 12
    scheme: Scheme | tuple[Scheme, ...] = "svit"
    mode: Mode = "adap_mix"
    patches: tuple[Patch, ...] = (16, 8)
    refine: RefineConfig = field(default_factory=RefineConfig)
    band: int | None = None
    stem: Literal["linear", "hierarchical"] = "linear"
    jitter: bool = False
    jitter_sides: bool = False
    absolute_position: bool = True
    rotate_active: bool = False
    local: int = 0
    local_piece: int | None = None
    levels: int = 0
    waves: int = 0
    bound: float = 0.0
    stencil: bool = False
    mup: bool = False
    latent_channels: int = 8
    predict: Literal["state", "delta"] = "delta"
    mlp_ratio: int = 4
    noise: int = 0
    drop_path: float = 0.0
    layer_scale: float = 0.1
    keep: dict[str, KeepConfig] = field(default_factory=dict, hash=False)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)

    def __post_init__(self) -> None:
        require_positive(self, "model.", "embed_dim", "heads", "depth", "latent_channels")
        require_positive(self, "model.", "mlp_ratio", "layer_scale")
        require(self.local >= 0, "model.local", self.local, "0 channels or more")
        require(self.noise >= 0, "model.noise", self.noise, "0 numbers or more")
        fits = self.noise == 0 or self.baseline.kind != "stencil"
        require(fits, "model.noise", self.noise, "0 with a stencil, which has nothing to tell it")
        for name, size in (("levels", self.levels), ("waves", self.waves), ("bound", self.bound)):
            fits = size == 0 or (0 < size < math.inf and self.local > 0)
            require(fits, f"model.{name}", size, "0 or more, and 0 without model.local")
        require_fraction(self, "model.", "drop_path")
        require(self.drop_path < 1, "model.drop_path", self.drop_path, "a number below 1")
        require(
            self.embed_dim % self.heads == 0,
            "model.embed_dim",
            self.embed_dim,
            f"a multiple of model.heads = {self.heads}",
        )
        require(
            self.embed_dim // self.heads % 2 == 0,
            "model.embed_dim",
            self.embed_dim,
            "an even number for each head",
        )
        sizes = [sizes_of(patch) for patch in self.patches]
        require(
            len(sizes) > 0 and all(0 < len(each) <= 3 and min(each) > 0 for each in sizes),
            "model.patches",
            self.patches,
            "patch sizes above 0, each one number or one for each of up to 3 axes",
        )
        alike = len({len(each) for each in sizes}) == 1
        require(alike, "model.patches", self.patches, "as many numbers for every size")
        for coarse, fine in pairwise(sizes):
            divided = all(large % small == 0 for large, small in zip(coarse, fine, strict=True))
            require(
                divided and coarse != fine,
                "model.patches",
                self.patches,
                "sizes from coarse to fine, each dividing the one before",
            )
        tiles = not any(size % (self.local_piece or 1) for each in sizes for size in each)
        fits = self.local_piece is None or (self.local_piece > 0 and tiles and self.local > 0)
        expected = f"a divisor of model.patches = {self.patches}, with a local path"
        require(fits, "model.local_piece", self.local_piece, expected)
        moves = self.jitter or not self.jitter_sides
        require(moves, "model.jitter_sides", True, "false without model.jitter")
        coarsest = self.piece * 2**self.levels
        require(
            self.levels == 0 or all(size % coarsest == 0 for size in sizes[0]),
            "model.levels",
            self.levels,
            f"fewer, since model.patches[0] = {self.patches[0]} is no multiple of the {coarsest} "
            "points of a coarsest piece",
        )
        if self.mode == "uniform":
            require(len(self.patches) == 1, "model.patches", self.patches, "one size for uniform")
        band = self.band
        fits = band is None or (band > 0 and not any(band % size for size in sizes[0]))
        require(fits, "model.band", band, f"a multiple of the coarsest patch, {self.patches[0]}")
        pattern = (self.scheme,) if isinstance(self.scheme, str) else self.scheme
        require(
            len(pattern) > 0 and self.depth % len(pattern) == 0,
            "model.scheme",
            self.scheme,
            f"one scheme, or a list whose length divides model.depth = {self.depth}",
        )

    @property
    def is_baseline(self) -> bool:
        """Whether it is a network to compare the transformer with."""
        return self.baseline.kind != "none"

    @property
    def is_adaptive(self) -> bool:
        """Whether there is a choice of cells to refine."""
        return not self.is_baseline and len(self.patches) > 1

    @property
    def piece(self) -> int:
        """Points along each axis that the local path takes together."""
        odd = any(size % 2 for patch in self.patches for size in sizes_of(patch))
        return self.local_piece or (1 if odd else 2)

    @property
    def rate_factor(self) -> float:
        """How far a step of Adam moves a matrix of as many inputs as a token is wide, over how far
        at a width of 96: the less, the more inputs it sums over. 1 in the published design."""
        return WIDTH / self.embed_dim if self.mup or self.local else 1.0

    @property
    def latent_factor(self) -> float:
        """The same of matrices whose inputs are latent channels, over 8 of these."""
        return LATENT / self.latent_channels if self.mup else 1.0

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """The scheme of each block."""
        pattern = (self.scheme,) if isinstance(self.scheme, str) else tuple(self.scheme)
        return pattern * (self.depth // len(pattern))


def sizes_of(patch: Patch) -> tuple[int, ...]:
    """A patch size for each axis, or the one for all."""
    return (patch,) if isinstance(patch, int) else tuple(patch)


def current(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings by their present names: older configs have `kind`, `width` and `modes` of
    a baseline among those of the transformer."""
    old = {key: value for key, value in settings.items() if key in ("kind", "width", "modes")}
    if not old:
        return dict(settings)
    if old.get("kind") == "matey":
        old["kind"] = "none"
    rest = {key: value for key, value in settings.items() if key not in old}
    return rest | {"baseline": {**rest.get("baseline", {}), **old}}
