"""The doctor: right about a machine that works, and about one that does not."""

import json

import pytest

from matey.cli import doctor, main


def findings_of(capsys, *words):
    code = main(["doctor", "--json", *words])
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    return code, record, captured.err


def test_training_works_where_these_tests_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, record, complaint = findings_of(capsys)
    assert (code, record["works"], complaint) == (0, True, "")
    names = {finding["name"] for finding in record["findings"]}
    assert names >= {"matey", "python", "torch", "numpy", "h5py", "netCDF4", "xarray"}
    assert names >= {"CPU", "cores", "torch threads", "CUDA", "bfloat16, CPU"} or "CUDA 0" in names
    assert names >= {"free disk", "matrix product", "HDF5", "NetCDF", "folder"}
    assert names >= {"pytest", "ruff", "mkdocs"}
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_for_people(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "GFLOP/s" in shown
    assert "Training works here." in shown


@pytest.mark.parametrize("name", ["matrix product", "HDF5", "NetCDF"])
def test_a_check_that_fails_is_named_in_one_line_and_the_exit_code(capsys, monkeypatch, name):
    def broken():
        raise OSError("library is\nbroken")

    monkeypatch.setitem(doctor.CHECKS, name, broken)
    code, record, complaint = findings_of(capsys)
    assert (code, record["works"]) == (1, False)
    assert complaint == (
        f"matey doctor: training would not work here: {name}: OSError: library is broken\n"
    )


def test_a_missing_package_is_named_with_how_to_get_it(capsys, monkeypatch):
    known = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "" if name == "h5py" else known(name))
    code, record, complaint = findings_of(capsys)
    assert code == 1
    assert "h5py: missing" in complaint
    advice = next(f["advice"] for f in record["findings"] if f["name"] == "h5py")
    assert advice.startswith("pip install")


def test_an_extra_that_is_not_there_does_not_stop_training(monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, "absent", ("no_such_module", "a test"))
    finding = next(f for f in doctor.extras() if f.name == "absent")
    assert finding.state == doctor.NOTE
    assert finding.advice.startswith("for a test: pip install")


@pytest.mark.parametrize(
    ("installed", "state"), [("2.13.0", "ok"), ("2.13.0+cpu", "ok"), ("2.99.0", "note")]
)
def test_torch_is_held_against_its_pin(monkeypatch, tmp_path, installed, state):
    pins = tmp_path / "constraints.txt"
    pins.write_text("torchvision==1\ntorch==2.13.0\n")
    monkeypatch.setattr(doctor, "CONSTRAINTS", pins)
    monkeypatch.setattr(doctor, "version", lambda name: installed)
    assert doctor.torch_version().state == state


def test_a_device_that_must_work_and_is_not_there_is_a_failure(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, complaint = findings_of(capsys, "--device", "cuda")
    assert code == 1
    assert "torch finds no CUDA device" in complaint
    assert findings_of(capsys, "--device", "cpu")[0] == 0


def test_a_folder_that_cannot_be_written_is_found(tmp_path):
    finding = doctor.attempt("folder", lambda: doctor.write_here(tmp_path / "absent"))
    assert finding.state == doctor.FAIL
