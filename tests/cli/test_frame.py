"""The command line's frame: quick help, and errors that a user can act on."""

import importlib
import subprocess
import sys
import time

import pytest

from matey import __version__
from matey.cli import FAMILIES, main


def run(*words):
    """`matey` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "matey", *words], capture_output=True, text=True, check=False
    )


def test_help_answers_in_half_a_second():
    """The bound is part of the interface; the best of three, for machines that are busy."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        shown = run("--help")
        seconds.append(time.perf_counter() - began)
        assert shown.returncode == 0
        assert all(family in shown.stdout for family in FAMILIES)
    assert min(seconds) < 0.5


def test_help_imports_nothing_heavy():
    code = "import sys; from matey.cli import main; main(['--help']); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = shown.stdout.splitlines()[-1]
    for module in ("torch", "numpy", "h5py", "matplotlib", "jsonargparse", "rich"):
        assert f"'{module}'" not in loaded


def test_no_command_shows_the_overview(capsys):
    assert main([]) == 0
    assert "usage: matey COMMAND" in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"matey {__version__}\n"


def test_an_unknown_command_is_one_line_with_the_nearest(capsys):
    assert main(["reprot"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "matey: error: Unknown command 'reprot'. Did you mean 'report'?\n"


def test_a_command_like_no_other_lists_them_all(capsys):
    assert main(["qqqq"]) == 2
    assert "Known: benchmark, data, demo, doctor" in capsys.readouterr().err


def test_a_misspelt_option_is_one_line_with_the_nearest(capsys):
    assert main(["report", "runs/a", "--uot", "x.html"]) == 2
    complaint = capsys.readouterr().err
    assert "--uot" in complaint
    assert "'out'" in complaint
    assert complaint.count("\n") == 1


def test_an_abbreviated_option_is_refused(capsys):
    assert main(["report", "runs/a", "--ou", "x.html"]) == 2
    assert "--ou" in capsys.readouterr().err


def test_a_missing_folder_is_one_line_that_names_it(capsys, tmp_path):
    assert main(["report", str(tmp_path / "absent"), "--out", str(tmp_path / "r.html")]) == 2
    complaint = capsys.readouterr().err
    assert f"{tmp_path / 'absent'} is no folder" in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_an_error_of_a_process_has_no_traceback_unless_debugging(tmp_path):
    quiet = run("report", str(tmp_path))
    assert quiet.returncode == 2
    assert "Traceback" not in quiet.stderr
    loud = run("report", str(tmp_path), "--debug")
    assert loud.returncode != 0
    assert "Traceback" in loud.stderr
    assert "DataError" in loud.stderr


def test_an_interrupt_is_one_line(capsys, monkeypatch):
    def interrupt(sources, out):
        raise KeyboardInterrupt

    monkeypatch.setattr("matey.report.build", interrupt)
    assert main(["report", "runs/a"]) == 130
    assert capsys.readouterr().err == "matey: interrupted\n"


@pytest.mark.parametrize("words", [["doctor", "--json"], ["--help"]])
def test_a_reader_that_leaves_early_ends_a_command_quietly(words):
    code = f"import sys; from matey.cli import main; sys.exit(main({words}))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `| head` does, before anything was written
        complaint = process.stderr.read().decode()
    assert "Traceback" not in complaint
    assert "BrokenPipe" not in complaint


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_command_has_help_with_an_example(capsys, family):
    module = importlib.import_module(f"matey.cli.{family}")
    for word in module.COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([family, *([word] if word else []), "--help"])
        assert stopped.value.code == 0
        shown = capsys.readouterr().out
        assert "example:\n" in shown
        assert f"matey {family}" in shown.split("example:\n")[1]
        assert "--seed" in shown
        assert "--device" in shown


def test_the_report_command_writes_the_page(capsys, tmp_path, monkeypatch):
    samples = importlib.import_module("tests.report.conftest")
    results = samples.write_results(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(results)]) == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert "wrote report.html" in capsys.readouterr().out
