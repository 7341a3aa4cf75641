"""The demo around its commands: what it may remove, where it stops, and how much it does."""

import pytest

from matey.cli import demo, main
from matey.train import threads


@pytest.fixture
def without_work(monkeypatch):
    """The demo's commands are noted, not run; the second fails."""
    seen = []

    def note(words):
        seen.append(words)
        return 3 if len(seen) == 2 else 0

    monkeypatch.setattr(demo, "dispatch", note)
    monkeypatch.setattr(demo, "measure_pace", lambda: 1.0)
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    return seen


@pytest.fixture
def machine(monkeypatch):
    """A machine that takes `pace[0]` times as long as the README's; commands only pass the time.

    What it gives holds the words of each command, too.
    """
    pace, now, seen = [1.0], [0.0], []

    def work(stage, made, several):
        words = made[0].split()
        scale = demo.FULL
        if "--steps" in words and stage in ("train", "finetune"):
            key = {"train": "pretrain", "finetune": "finetune"}[stage]
            scale = demo.replace(scale, **{key: int(words[words.index("--steps") + 1])})
        if "--windows" in words:
            scale = demo.replace(scale, windows=int(words[words.index("--windows") + 1]))
        now[0] += pace[0] * demo.reference(scale)[stage]
        seen.extend(command.split() for command in made)
        return [0]

    monkeypatch.setattr(demo.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(demo, "measure_pace", lambda: pace[0])
    monkeypatch.setattr(demo, "run_stage", work)
    return pace, now, seen


def steps_of(seen):
    """The steps of both trainings."""
    return [
        int(words[words.index("--steps") + 1])
        for name in ("train", "finetune")
        for words in seen
        if words[0] == name
    ]


def test_the_demo_stops_where_a_command_fails_and_returns_its_code(without_work, tmp_path):
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 3
    assert len(without_work) == 2


def test_a_demo_is_made_again_over_its_own_folder_only(without_work, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 3
    (out / "results").mkdir()
    assert main(["demo", "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["demo", "--out", str(out), "--again"]) == 0
    assert not (out / "results").exists()
    (out / "thesis.tex").write_text("years of work")
    assert main(["demo", "--out", str(out), "--again"]) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert (out / "thesis.tex").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/data").mkdir()
    assert main(["demo", "--out", str(tmp_path / "other"), "--again"]) == 2
    assert (tmp_path / "other/data").exists()


def test_on_the_readme_s_machine_the_demo_is_the_readme_s(machine, tmp_path, capsys):
    _, _, seen = machine
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert steps_of(seen) == [450, 1000]
    assert "takes about 4 minutes" in shown
    assert "Fewer steps" not in shown


def test_a_slow_machine_does_fewer_steps_and_says_so(machine, tmp_path, capsys):
    """A third of a core: all ends within ten minutes."""
    pace, now, seen = machine
    pace[0] = 3.0
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert now[0] < 600
    assert steps_of(seen) == [250, 700]
    assert "takes 3.0 times as long" in shown
    assert "250 steps of pretraining and 700 of fine-tuning instead of 450 and 1000" in shown
    assert "the scores differ from the README's" in shown
    assert "Fewer steps were done than for the README's table" in shown


def test_one_that_becomes_slow_is_planned_again_from_what_training_took(
    machine, monkeypatch, tmp_path, capsys
):
    pace, _, seen = machine
    monkeypatch.setattr(demo, "measure_pace", lambda: 1.0)  # the simulation runs as it should
    pace[0] = 2.6
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert steps_of(seen) == [450, 700]
    assert "Planned again: 450 steps of pretraining, 700 of fine-tuning" in shown
    assert "Fewer steps were done" in shown


def test_more_minutes_leave_room_for_all_steps(machine, tmp_path):
    pace, _, seen = machine
    pace[0] = 3.0
    assert main(["demo", "--out", str(tmp_path / "demo"), "--minutes", "60"]) == 0
    assert steps_of(seen) == [450, 1000]


def test_commands_that_run_side_by_side_give_their_exit_codes(capfd):
    assert demo.side_by_side(["--version", "no-such-command"]) == [0, 2]
    assert "no-such-command" in capfd.readouterr().err


def test_the_machine_is_measured_in_seconds_of_a_simulation(monkeypatch):
    """A simulation that takes twice as long as on the README's machine gives two."""
    now = [0.0]

    def simulate(*_, **__):
        now[0] += 2 * demo.PROBE_SECONDS

    monkeypatch.setattr(demo.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr("matey.simulate.simulate", simulate)
    assert demo.measure_pace() == pytest.approx(2.0)
