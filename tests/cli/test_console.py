import io

from rich.console import Console

from matey.cli.console import health, score_table
from matey.records.scores import Curve, Divergence, MetricScore, Spectra, SystemScore


def score(name, error, still, diverged=0):
    return SystemScore(
        name=name,
        variables=["height"],
        trajectories=1,
        windows=1,
        history=2,
        grid=(1, 128, 128),
        dt=1.0,
        tokens={"mean": 1024.0, "coarse": 256.0, "fine": 4096.0},
        lead=1,
        steps=[1],
        primary="nrmse",
        metrics={"nrmse": MetricScore(Curve([error], [still]), {}, {})},
        correlation={},
        divergence=Divergence(diverged, diverged, 1.0 if diverged else float("nan")),
        drift={},
        spectra=Spectra([], [], {}, {}),
    )


def printed(*scores, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(score_table(scores, "runs/a"))
    return console.file.getvalue()


def test_the_score_table_fits_80_columns_with_every_name_and_number_whole():
    name = "incompressible_navier_stokes_inhomogeneous"
    shown = printed(score(name, 0.0123, 0.0456))
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown
    for text in ("0.0123", "0.0456", "73%", "1024", "25%"):
        assert text in shown
    folded = "".join(line.split()[0] for line in lines if line.strip())
    assert name in folded


def test_what_is_undefined_or_diverged_is_said_in_words():
    shown = printed(score("still", 0.1, 0.0), score("zero", float("nan"), float("nan")))
    assert "undefined" in shown
    assert "nan" not in shown
    assert "diverged" in printed(score("bad", float("inf"), 0.1))


def test_rollouts_that_diverged_are_counted_in_a_sentence():
    (line,) = health([score("fine", 0.1, 0.2), score("bad", float("inf"), 0.1, diverged=1)])
    assert line == (
        "bad: 1 of 1 rollouts diverged, the first at step 1; 1 of them ended, not finite."
    )
