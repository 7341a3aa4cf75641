"""Settings of the model."""

from dataclasses import dataclass, field
from typing import Literal

from matey.config.checks import require, require_fraction, require_positive

Scheme = Literal["vit", "svit", "avit"]


@dataclass(frozen=True)
class RefineConfig:
    """Which cells are cut finer.

    Args:
        criterion: what is measured in each cell; `variance` of the normalised fields.
        threshold: refine where the criterion exceeds this fraction of its largest value in
            the sample; 0 refines every cell, 1 none. Start with 0.2 to 0.6.
        fraction: instead, refine this fraction of the cells, those of the largest criterion.
        token_budget: instead, refine as many cells as leave no more than so many tokens per
            frame; where cells of several levels compete, the largest criterion wins.
        buffer: refine the neighbours of refined cells too, so many rings of them: features move
            before the next frame.
    """

    criterion: str = "variance"
    threshold: float = 0.3
    fraction: float | None = None
    token_budget: int | None = None
    buffer: int = 0

    def __post_init__(self) -> None:
        require_fraction(self, "model.refine.", "threshold")
        if self.fraction is not None:
            require_fraction(self, "model.refine.", "fraction")
        if self.token_budget is not None:
            require_positive(self, "model.refine.", "token_budget")
            require(
                self.fraction is None,
                "model.refine.fraction",
                self.fraction,
                "none, as model.refine.token_budget is given",
            )
        require(self.buffer >= 0, "model.refine.buffer", self.buffer, "0 rings or more")

    def describe(self) -> str:
        """Which cells are cut finer, in words."""
        if self.token_budget is not None:
            text = f"where {self.criterion} is largest, up to {self.token_budget} tokens per frame"
        elif self.fraction is not None:
            text = f"where {self.criterion} is largest, in {self.fraction:.4g} of the cells"
        else:
            text = f"where {self.criterion} exceeds {self.threshold:g} of its maximum"
        if self.buffer:
            text += f", and {self.buffer} ring{'s' if self.buffer > 1 else ''} around"
        return text


@dataclass(frozen=True)
class ModelConfig:
    """The transformer, or a baseline of as many weights. Sizes of the paper
    (embed_dim/heads/depth): Ti 192/3/12, S 384/6/12, B 768/12/12, L 1024/16/24.

    Args:
        embed_dim: width of a token.
        heads: attention heads; divides embed_dim.
        depth: number of blocks.
        scheme: which tokens attend together: `vit` all at once, `svit` time then space, `avit`
            time then the lines along each axis. A list of them is repeated over the blocks:
            `[svit, svit, vit]` attends to all at once in every third block.
        mode: `uniform` tokens of one patch size; `adap_mix`: coarse and fine ones in one sequence;
            `adap_mul`: a coarse pass, and a short sequence of fine tokens in each refined cell.
        patches: patch sizes in grid points, coarse to fine; each divides the one before.
        refine: where fine patches go.
        band: width in grid points of the lines of `avit`; by default the coarsest patch.
        stem: a patch becomes a token by one `linear` map, or by a `hierarchical` one of up to
            three stages.
        jitter: shift the lattice of patches at random along periodic axes, in training and at
            each step of a rollout, so that no patch edge stays in one place.
        absolute_position: tell tokens where in the domain they are; how far apart two of them
            are, attention knows in any case.
        local: channels of the local path around the tokens, which sees neighbouring points across
            patch edges, and folds the history into one frame of features; 0 leaves it out, as
            the published design does.
        levels: coarser resolutions of the local path, each half of the one before: it sees farther
            at little cost. A coarse patch must hold a whole number of pieces of the coarsest.
        stencil: start from the linear map of the points around that fits each system best, in
            closed form, fitted when training begins.
        latent_channels: width of the space that variables are mixed into.
        predict: the next `state`, or its increment (`delta`) over the last frame.
        mlp_ratio: hidden width of the MLP over embed_dim.
        drop_path: probability of skipping a branch of the last block; earlier blocks less.
        layer_scale: initial scale of each residual branch.
        kind: `matey`, the transformer; or a baseline, `unet` or `fno`, which has as many weights
            as that transformer would have. Of the settings above a baseline takes `predict`, and
            an FNO `absolute_position`.
        width: channels of a baseline: of the coarsest level of a U-Net, of each layer of an FNO;
            by default those that give it as many weights, within 10 %.
        modes: Fourier modes of an FNO along each axis; by default near 16 in one dimension, 12
            in two, 8 in three.
    """

    embed_dim: int = 192
    heads: int = 3
    depth: int = 12
    scheme: Scheme | tuple[Scheme, ...] = "svit"
    mode: Literal["uniform", "adap_mix", "adap_mul"] = "adap_mix"
    patches: tuple[int, ...] = (16, 8)
    refine: RefineConfig = field(default_factory=RefineConfig)
    band: int | None = None
    stem: Literal["linear", "hierarchical"] = "linear"
    jitter: bool = False
    absolute_position: bool = True
    local: int = 0
    levels: int = 0
    stencil: bool = False
    latent_channels: int = 8
    predict: Literal["state", "delta"] = "delta"
    mlp_ratio: int = 4
    drop_path: float = 0.0
    layer_scale: float = 0.1
    kind: Literal["matey", "unet", "fno"] = "matey"
    width: int | None = None
    modes: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, "model.", "embed_dim", "heads", "depth", "latent_channels")
        require_positive(self, "model.", "mlp_ratio", "layer_scale")
        require(self.local >= 0, "model.local", self.local, "0 channels or more")
        require(
            self.levels >= 0 and (self.levels == 0 or self.local > 0),
            "model.levels",
            self.levels,
            "0 or more, and 0 without model.local",
        )
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
        require(
            len(self.patches) > 0 and all(patch > 0 for patch in self.patches),
            "model.patches",
            self.patches,
            "patch sizes above 0",
        )
        for coarse, fine in zip(self.patches, self.patches[1:], strict=False):
            require(
                coarse > fine and coarse % fine == 0,
                "model.patches",
                self.patches,
                "sizes from coarse to fine, each dividing the one before",
            )
        coarsest = self.piece * 2**self.levels
        require(
            self.levels == 0 or self.patches[0] % coarsest == 0,
            "model.levels",
            self.levels,
            f"fewer: model.patches[0] = {self.patches[0]} is no multiple of {coarsest} points",
        )
        if self.mode == "uniform":
            require(len(self.patches) == 1, "model.patches", self.patches, "one size for uniform")
        if self.band is not None:
            require(
                self.band > 0 and self.band % self.patches[0] == 0,
                "model.band",
                self.band,
                f"a multiple of the coarsest patch, {self.patches[0]}",
            )
        kinds = "matey, unet or fno"
        require(self.kind in ("matey", "unet", "fno"), "model.kind", self.kind, kinds)
        if self.width is not None:
            require_positive(self, "model.", "width")
            require(self.is_baseline, "model.width", self.width, "none with model.kind = matey")
        if self.modes is not None:
            require(self.kind == "fno", "model.modes", self.modes, "none but for model.kind = fno")
            fits = self.modes >= 2 and self.modes % 2 == 0
            require(fits, "model.modes", self.modes, "an even number above 0")
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
        return self.kind != "matey"

    @property
    def is_adaptive(self) -> bool:
        """Whether there is a choice of cells to refine."""
        return not self.is_baseline and len(self.patches) > 1

    @property
    def piece(self) -> int:
        """Points along each axis that the local path takes together."""
        return 1 if any(patch % 2 for patch in self.patches) else 2

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """The scheme of each block."""
        pattern = (self.scheme,) if isinstance(self.scheme, str) else tuple(self.scheme)
        return pattern * (self.depth // len(pattern))
