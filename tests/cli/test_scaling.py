"""`matey benchmark scaling` in 80 columns, and for a program."""

import json

import pytest

from matey.cli import main

MODEL = "--model.embed_dim 24 --model.heads 4 --model.depth 2 --windows.history 2 --batch 2"
COMMAND = ["benchmark", "scaling", *MODEL.split()]
WORDS = [*COMMAND, "--gpus", "4", "16", "--grid", "32x64", "--sharing", "4"]


def test_modelled_steps_are_told_in_80_columns(capsys, monkeypatch):
    monkeypatch.setattr("matey.cli.console.console.width", 80, raising=False)
    assert main(WORDS) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("Modelled, not measured", "model, 32 × 64", "seq. 4", "fsdp", "limit"):
        assert word in shown


def test_modelled_steps_for_a_program_follow_from_the_machine_that_is_given(capsys):
    rates = ["--machine.rate", "1e12", "--machine.achieved", "0.25", "--machine.overlap", "0"]
    assert main([*WORDS, *rates, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["rate"] == 1e12
    (work,) = found["works"]
    assert work["grid"] == [1, 32, 64]
    assert work["tokens"] == 8 + 3  # one of eight coarse cells is refined
    kinds = [(step["processes"], step["parallel"]["strategy"]) for step in work["steps"]]
    assert kinds == [(n, how) for n in (4, 16) for how in ("ddp", "fsdp", "ddp")]
    alone = work["operations"] / 0.25e12
    for step in work["steps"]:
        assert step["time"] == pytest.approx(step["compute"] + sum(step["seconds"].values()))
        if step["parallel"]["sequence"] == 1:
            assert step["compute"] == pytest.approx(alone)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--grid", "32x"], "grid is '32x', expected points along one to three axes, as 256x256"),
        (["--size", "XL"], "There is no size 'XL'. Did you mean 'L'?"),
        (["--machine.overlap", "2"], "machine.overlap is 2.0, expected a number in [0, 1]"),
        (["--refined", "2"], "refined is 2.0, expected a number in [0, 1]"),
    ],
)
def test_what_cannot_be_modelled_is_one_line(words, complaint, capsys):
    assert main([*COMMAND, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
