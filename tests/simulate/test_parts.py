"""A simulation in parts: several processes, interruptions, memory."""

import hashlib
import multiprocessing
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
import torch

import matey
from matey.cli import main
from matey.errors import ConfigError, DivergenceError, ProcessError
from matey.simulate import parts, simulate
from matey.simulate.parts import claim, make_parts
from matey.simulate.schemes.stepper import Range
from matey.simulate.thermals import Thermals
from matey.simulate.trajectories import Simulation

SIZES = {"trajectories": 5, "resolution": 16, "steps": 4, "seed": 5}
VARIED = Simulation("shallow_water", **SIZES, vary={"gravity": Range(0.5, 2.0)})


def bits(fields):
    """A hash over all that fields hold."""
    digest = hashlib.sha256()
    for field in fields:
        digest.update(field.values.contiguous().numpy().tobytes())
        digest.update(repr((field.times, field.grid, field.parameters, field.spec)).encode())
    return digest.hexdigest()


def direct(simulation=VARIED):
    return bits(simulate(simulation.name, **SIZES, vary=simulation.vary))


def test_several_processes_give_the_bits_of_one(tmp_path):
    """Five groups of one trajectory for three processes, and none twice."""
    expected, seen = direct(), []
    for jobs in (1, 3):
        folder = tmp_path / str(jobs)
        claim(VARIED, folder)
        fields = make_parts(VARIED, folder, jobs, lambda made, total: seen.append((made, total)))
        assert bits(fields) == expected
        assert seen[-1] == (20, 20)


def test_trajectories_that_run_together_stay_together(tmp_path, monkeypatch):
    """Three in a group and two in another, as when no parts are made."""
    monkeypatch.setattr("matey.simulate.trajectories.CACHED", 3 * 16**2)
    simulation = Simulation("incompressible", **SIZES)
    claim(simulation, tmp_path)
    assert bits(make_parts(simulation, tmp_path, 1)) == direct(simulation)
    assert sorted(path.name for path in tmp_path.glob("*.part")) == ["000000.part", "000003.part"]


def test_an_interrupted_simulation_goes_on_where_it_was(tmp_path):
    made = []

    def stop(frames, total):
        made.append(frames)
        if len(made) == 10:  # in the middle of the third trajectory
            raise KeyboardInterrupt

    assert claim(VARIED, tmp_path) == 0
    with pytest.raises(KeyboardInterrupt):
        make_parts(VARIED, tmp_path, 1, stop)
    assert claim(VARIED, tmp_path) == 2
    assert len(list(tmp_path.iterdir())) == 3  # two parts, the settings, and nothing half done
    assert bits(make_parts(VARIED, tmp_path, 1, stop)) == direct()
    assert made[10] == 9  # the first two trajectories were not made again


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"seed": 6}, "seed 5"),
        ({"resolution": 32}, "resolution 16"),
        ({"vary": {}}, "vary {'gravity': "),
        ({"name": "gray_scott", "vary": {}}, "system shallow_water"),
    ],
)
def test_parts_of_another_simulation_are_refused_with_what_differs(tmp_path, other, what):
    claim(VARIED, tmp_path)
    settings = {"name": "shallow_water", **SIZES, "vary": VARIED.vary, **other}
    with pytest.raises(ConfigError, match=what):
        claim(Simulation(**settings), tmp_path)


def test_damaged_settings_are_refused(tmp_path):
    (tmp_path / "simulation.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        claim(VARIED, tmp_path)


def wait(exitcode, *failures):
    """Wait for a part that another process was to make."""
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    for failure in failures:
        queue.put(failure)
    ended = type("Ended", (SpawnProcess,), {"exitcode": exitcode})()
    shared = parts.Shared(None, None, queue)
    parts.wait_for([Path("000000.part")], [ended], shared, lambda: None)


def test_a_process_that_was_killed_is_reported_with_the_way_out():
    with pytest.raises(ProcessError, match="the same command again"):
        wait(-9)


@pytest.mark.parametrize("kind", [ConfigError, DivergenceError])
def test_what_fails_in_another_process_is_reported(kind):
    with pytest.raises(kind, match="far too extreme"):
        wait(0, (kind, "far too extreme"))


class Refused(Thermals):
    """One whose initial states cannot be drawn."""

    def draw(self, random, resolution):
        raise ConfigError("bubbles is 1000, expected room for them.")


@pytest.mark.parametrize(
    ("system", "kind", "told"),
    [
        (Thermals(courant=4.0), DivergenceError, "take more points, or vary parameters less"),
        (Refused(), ConfigError, "bubbles is 1000"),
    ],
)
def test_a_process_that_helps_tells_what_failed(tmp_path, monkeypatch, system, kind, told):
    monkeypatch.setattr("matey.simulate.thermals.Thermals", lambda: system)
    monkeypatch.setattr(parts, "end_with_parent", lambda: None)
    simulation = Simulation("thermals", **SIZES)
    shared = parts.Shared.of(multiprocessing.get_context("spawn"), 0)
    before = signal.getsignal(signal.SIGINT)
    try:
        parts.help_out(simulation, tmp_path, simulation.groups, shared)
    finally:
        signal.signal(signal.SIGINT, before)
    found, text = shared.failures.get()
    assert found is kind
    assert told in text
    assert not list(tmp_path.iterdir())


def test_values_are_read_from_disk_when_they_are_used(tmp_path):
    """Fields hold views of files: made in a process whose address space could not hold them."""
    simulation = Simulation("shallow_water", trajectories=2, resolution=512, steps=3, seed=0)
    claim(simulation, tmp_path)
    for group in simulation.groups:
        size = len(group) * 3 * 512**2
        np.zeros(size, np.float32).tofile(parts.part(tmp_path, group))
    field = make_parts(simulation, tmp_path, 1)[1]
    (tmp_path / "000001.part").write_bytes(np.ones(3 * 512**2, np.float32).tobytes())
    assert field.values.shape == (3, 1, 1, 512, 512)
    assert (field.values == 1).all()


WORDS = "--trajectories 6 --resolution 16 --steps 4 --seed 5 --device cpu --vary gravity=0.5:2"


def command(out, *more):
    return main(["simulate", "shallow_water", "--out", str(out), *WORDS.split(), *more])


def test_the_command_goes_on_after_an_interrupt(tmp_path, capsys, monkeypatch):
    """Also where a process that was killed left half a part."""
    out, folder = tmp_path / "out", tmp_path / ".out.unfinished"
    monkeypatch.setattr(Path, "replace", interrupted_at("000004.part", Path.replace))
    assert command(out, "--jobs", "1") == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert not out.exists()
    (folder / ".000004.part.123.part").write_text("half")
    assert command(out, "--seed", "6") == 2
    assert "seed 5" in capsys.readouterr().err
    assert command(out) == 0
    assert "Going on: 4 of 6 trajectories" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    fields = matey.open(next(out.rglob("*.hdf5")))
    sizes = {**SIZES, "trajectories": 6}
    expected = simulate("shallow_water", **sizes, vary=VARIED.vary)
    for number, field in enumerate(expected):
        assert torch.equal(fields[number].values, field.values)
        assert fields[number].parameters == field.parameters


def interrupted_at(name, rename):
    """A way to rename files that is interrupted, once, before a file gets this name."""
    left = [name]

    def replace(self, target):
        if Path(target).name in left:
            left.clear()
            raise KeyboardInterrupt
        return rename(self, target)

    return replace


@pytest.mark.slow
def test_the_command_goes_on_after_it_was_killed(tmp_path, capsys):
    """By a signal that no process can heed, when a few of the trajectories are there."""
    out, folder = tmp_path / "out", tmp_path / ".out.unfinished"
    words = [*WORDS.split(), "--steps", "60", "--resolution", "96"]
    begun = [sys.executable, "-m", "matey", "simulate", "shallow_water", "--out", str(out), *words]
    process = subprocess.Popen(begun)
    try:
        while not (folder / "000001.part").exists():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not out.exists()
    assert command(out, "--steps", "60", "--resolution", "96") == 0
    assert "Going on: " in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("thermals", [], "stopped being finite"),
        ("fracture", ["--vary", "overload=2"], "overload is 2"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, capsys, name, more, told):
    monkeypatch.setattr("matey.simulate.thermals.Thermals", lambda: Thermals(courant=4.0))
    words = ["--trajectories", "1", "--resolution", "16", "--steps", "3", "--device", "cpu", *more]
    assert main(["simulate", name, "--out", str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_simulation_in_use_is_refused(tmp_path, capsys):
    from matey.train.lock import locked

    with locked(tmp_path / ".out.unfinished"):
        assert command(tmp_path / "out") == 2
    assert "choose another --out" in capsys.readouterr().err


def test_another_precision_is_kept(tmp_path):
    simulation = Simulation("shallow_water", **SIZES, dtype=torch.float64)
    claim(simulation, tmp_path)
    assert make_parts(simulation, tmp_path, 1)[0].values.dtype == torch.float64
