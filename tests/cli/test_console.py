import io
import sys
from dataclasses import replace

from rich.console import Console

from matey.cli.console import health, score_table, show_progress
from matey.records.scores import Curve, Divergence, MetricScore, Seams, Spectra, SystemScore


def score(name, error, still, diverged=0, seams=None):
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
        seams=seams,
    )


def printed(*scores, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(score_table(scores, "runs/a"))
    return console.file.getvalue()


def test_the_score_table_fits_80_columns_with_every_name_and_number_whole():
    name = "incompressible_navier_stokes_inhomogeneous"
    shown = printed(score(name, 0.0123, 0.0456, seams=Seams([1.2345])))
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown
    for text in ("0.0123", "0.0456", "73%", "1024", "25%", "1.23"):
        assert text in shown
    folded = "".join(line.split()[0] for line in lines if line.strip())
    assert name in folded


def test_what_is_undefined_or_diverged_is_said_in_words():
    shown = printed(score("still", 0.1, 0.0), score("zero", float("nan"), float("nan")))
    assert "undefined" in shown
    assert "nan" not in shown
    assert "diverged" in printed(score("bad", float("inf"), 0.1))


def test_seams_are_a_column_where_a_model_has_patches():
    shown = printed(score("a", 0.1, 0.2, seams=Seams([float("nan")])), score("b", 0.1, 0.2))
    assert "seams" in shown
    assert "across patch edges" in " ".join(shown.split())
    assert "nan" not in shown
    assert "eams" not in printed(score("b", 0.1, 0.2))


def test_the_stencil_is_a_column_where_one_stands_beside():
    base = score("a", 0.1, 0.2, seams=Seams([1.0]))
    fit = {"nrmse": MetricScore(Curve([0.1], [0.2], [0.15], [0.0321]))}
    shown = printed(replace(base, metrics=fit), base)
    assert "stencil" in shown
    assert "0.0321" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "stencil" not in printed(base)
    (line,) = health([replace(base, no_stencil="Why.")])
    assert line == "a: no stencil stands beside: Why."


def test_rollouts_that_diverged_are_counted_in_a_sentence():
    (line,) = health([score("fine", 0.1, 0.2), score("bad", float("inf"), 0.1, diverged=1)])
    assert line == (
        "bad: 1 of 1 rollouts diverged, the first at step 1; 1 of them ended, not finite."
    )


def test_without_a_terminal_each_quarter_is_a_line_with_rate_and_time_left(capsys):
    with show_progress("writing") as watch:
        for done in range(1, 9):
            watch(done, 8)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[0] for line in lines] == [
        f"writing: {done} of 8 frames" for done in (2, 4, 6, 8)
    ]
    assert all("frames/s, 0 s left" in line for line in lines)


def test_short_work_says_nothing_where_there_is_patience(capsys):
    with show_progress("writing", patience=60) as watch:
        watch(8, 8)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    with show_progress("writing") as watch:
        watch(3, 8)
        watch(8, 8)
    assert "8/8" in capsys.readouterr().err
