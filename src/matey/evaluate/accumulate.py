"""Collects what scores are made of, frame by frame, so that no rollout is kept whole.

Axes: B samples, S steps, C variables, (Z, Y, X) grid points, K wavenumbers.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matey.evaluate.protocols import (
    INTERPOLATE,
    MASKED_SPECTRA,
    UNEVEN_SPECTRA,
    Frame,
    Protocol,
    score_frame,
)
from matey.metrics import conserved
from matey.metrics.error import correlation, mean_score, rmse, variance
from matey.metrics.seams import Jumps, jumps, seam_ratio
from matey.metrics.time import correlation_time, divergence_time
from matey.records.scores import (
    Correlation,
    Curve,
    Divergence,
    Drift,
    MetricScore,
    Seams,
    Spectra,
    skill,
)

log = logging.getLogger("matey")

MODEL, STILL, LINEAR, STENCIL = "model", "persistence", "linear", "stencil"
QUANTITIES = {"mean": conserved.domain_mean, "mean_square": conserved.mean_square}


class ScoreAccumulator:
    """The scores of one system's rollouts, of predicted `variables`, at the `leads` of all steps.

    Spectra are kept at the first, the middle and the last lead.
    """

    def __init__(self, protocol: Protocol, variables: Sequence[str], leads: Sequence[int]) -> None:
        self.protocol, self.variables, self.leads = protocol, list(variables), list(leads)
        self.spectral = sorted({leads[0], leads[(len(leads) - 1) // 2], leads[-1]})
        self._rows: dict[str, list[Tensor]] = defaultdict(list)  # of each group, [B S C]
        self._group: dict[str, list[Tensor]] = defaultdict(list)  # of each step, [B C]
        self._shells: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
        self._no_waves = ""  # why there are no spectra

    def add(
        self,
        lead: int,
        prediction: Float[Tensor, "B C Z Y X"],
        target: Float[Tensor, "B C Z Y X"],
        last: Float[Tensor, "B C Z Y X"],
        linear: Float[Tensor, "B C Z Y X"] | None = None,
        weights: Float[Tensor, "B 1 Z Y X"] | None = None,
        *,
        patches: Int[Tensor, "B Z Y X"] | None = None,
        stencil: Float[Tensor, "B C Z Y X"] | None = None,
    ) -> None:
        """Score a frame of a group of rollouts beside persistence, the `last` frame before them,
        beside `linear` extrapolation, and beside what a `stencil` predicts. `weights` are the
        points' shares of the domain on stretched and masked grids; `patches` number the patch of
        each point that the prediction was made of, of a model that has them."""
        step = self._group
        held = None if weights is None else (weights > 0)[:, 0]
        if held is not None:
            whole = bool(held.all())
            self._no_waves = (
                f"Left out on a stretched grid: {UNEVEN_SPECTRA} {INTERPOLATE}"
                if whole
                else f"Left out on a grid with masked points: {MASKED_SPECTRA}"
            )
        sides = {MODEL: prediction, STILL: last}
        if linear is not None:
            sides[LINEAR] = linear
        if stencil is not None:
            sides[STENCIL] = stencil
        for side, fields in sides.items():
            frame = Frame(fields, target, self.protocol, weights)
            for name, scores in score_frame(frame).items():
                step[f"{side} {name}"].append(scores)
            if side in (MODEL, STILL):
                eps, correction = self.protocol.eps, self.protocol.correction
                step[f"{side} r"].append(correlation(fields, target, eps, correction, weights))
            if side == MODEL and lead in self.spectral and weights is None:
                self._keep_spectra(lead, frame)
        if patches is not None:
            edges = jumps(prediction, target, patches, held)
            step["across"].append(edges.across)
            step["inside"].append(edges.inside)
        step["error"].append(rmse(prediction, target, weights))
        step["deviation"].append(variance(target, weights=weights).sqrt())
        for name, quantity in QUANTITIES.items():
            start = quantity(last, weights)
            step[f"{MODEL} drift {name}"].append((quantity(prediction, weights) - start).abs())
            step[f"truth drift {name}"].append((quantity(target, weights) - start).abs())

    def end_group(self) -> None:
        """Close a group of rollouts, all steps of which were added."""
        for name, steps in self._group.items():
            self._rows[name].append(torch.stack(steps, dim=1).cpu())
        self._group.clear()

    def _keep_spectra(self, lead: int, frame: Frame) -> None:
        """Keep the spectra of rollouts on the first one's grid."""
        for side, shells in ((MODEL, frame.spectrum), ("truth", frame.target_spectrum)):
            kept = self._shells[side, lead]
            if not kept or kept[0].shape[-1] == shells.shape[-1]:
                kept.append(shells.cpu())

    def _all(self, name: str) -> Float[Tensor, "B S C"]:
        return torch.cat(self._rows[name])

    def metrics(self) -> dict[str, MetricScore]:
        return {name: self._metric(name) for name in self.protocol.metrics}

    def _metric(self, name: str) -> MetricScore:
        """A metric's curves: of the model, of persistence, and of the others that are there."""
        ours, still = self._all(f"{MODEL} {name}"), self._all(f"{STILL} {name}")
        mean, mean_still = mean_score(ours), mean_score(still)
        others = [
            self._all(f"{side} {name}") if f"{side} {name}" in self._rows else None
            for side in (LINEAR, STENCIL)
        ]
        windows = {}
        for first, last in ((self.leads[0], self.leads[-1]), *self.protocol.windows):
            inside = [i for i, lead in enumerate(self.leads) if first <= lead <= last]
            if inside and self.leads[-1] >= last:
                e, p = float(mean[inside].nanmean()), float(mean_still[inside].nanmean())
                averages = {"error": e, "persistence": p, "skill": skill(e, p)}
                windows[f"{first}:{last}"] = averages
        none = [None] * len(self.variables)
        each = zip(
            self.variables,
            ours.nanmean(dim=0).T.tolist(),
            still.nanmean(dim=0).T.tolist(),
            *(none if rows is None else rows.nanmean(dim=0).T.tolist() for rows in others),
            strict=True,
        )
        beside = [None if rows is None else mean_score(rows).tolist() for rows in others]
        return MetricScore(
            Curve(mean.tolist(), mean_still.tolist(), *beside),
            {variable: Curve(*errors) for variable, *errors in each},
            windows,
        )

    def by_trajectory(self, trajectories: Sequence[int]) -> list[list[float]]:
        """The primary metric by lead, the mean over variables, of the rollouts of each trajectory:
        `trajectories` says from which one each rollout started."""
        ours, places = self._all(f"{MODEL} {self.protocol.primary}"), torch.tensor(trajectories)
        return [mean_score(ours[places == one]).tolist() for one in sorted({*trajectories})]

    def correlation(self) -> dict[str, Correlation]:
        """Correlation and correlation time of each variable."""
        sides = [self._all(f"{side} r") for side in (MODEL, STILL)]
        means = [side.nanmean(dim=0) for side in sides]
        times = [correlation_time(side, self.leads, self.protocol.correlated) for side in sides]
        scores = {}
        for i, variable in enumerate(self.variables):
            (time, fell), (still, still_fell) = (
                (float(t.time[:, i].nanmean()), float(t.happened[:, i].double().mean()))
                for t in times
            )
            ours, persistence = (mean[:, i].tolist() for mean in means)
            scores[variable] = Correlation(ours, persistence, time, fell, still, still_fell)
        return scores

    def divergence(self) -> Divergence:
        """How many rollouts diverged, and how soon the first did."""
        error = self._all("error")
        event = divergence_time(error, self._all("deviation"), self.leads, self.protocol.bound)
        first = event.time[event.happened].min() if event.happened.any() else torch.nan
        unfinished = ~error.isfinite().all(dim=2).all(dim=1)
        return Divergence(int(event.happened.sum()), int(unfinished.sum()), float(first))

    def drift(self) -> dict[str, dict[str, Drift]]:
        """How far the domain mean and the mean square of each variable moved."""
        drifts = {}
        for name in QUANTITIES:
            truth = self._all(f"truth drift {name}").mean(dim=0).T.tolist()
            ours = self._all(f"{MODEL} drift {name}").mean(dim=0).T.tolist()
            each = zip(self.variables, truth, ours, strict=True)
            drifts[name] = {variable: Drift(t, p) for variable, t, p in each}
        return drifts

    def seams(self) -> Seams | None:
        """How far patch edges show in the error, by lead; None of a model without patches."""
        if "across" not in self._rows:
            return None
        steps = zip(self._all("across").unbind(1), self._all("inside").unbind(1), strict=True)
        ratios = torch.stack([seam_ratio(Jumps(*step)) for step in steps])  # [S C]
        each = zip(self.variables, ratios.T.tolist(), strict=True)
        return Seams(ratios.nanmean(dim=1).tolist(), dict(each))

    def spectra(self) -> Spectra:
        """Energy spectra; none of rollouts on stretched or masked grids."""
        if self._no_waves:
            log.warning(self._no_waves)
        if not self._shells:
            return Spectra([], [], {}, {})
        mean = {key: torch.cat(kept).nanmean(dim=0) for key, kept in self._shells.items()}
        shells = next(iter(mean.values())).shape[-1]
        truth, ours = (
            {
                variable: [mean[side, lead][i].tolist() for lead in self.spectral]
                for i, variable in enumerate(self.variables)
            }
            for side in ("truth", MODEL)
        )
        return Spectra(list(range(shells)), [float(lead) for lead in self.spectral], truth, ours)

    @property
    def rollouts(self) -> int:
        """How many rollouts were scored."""
        return sum(len(rows) for rows in self._rows["error"])
