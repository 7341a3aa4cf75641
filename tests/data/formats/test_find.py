"""Which files a path names: links followed once, what has no suffix, and what is left out."""

import logging
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from matey.data.formats import find
from matey.data.formats.find import find_files
from matey.errors import DataError

OPEN = """
import sys, time
import h5py
with h5py.File(sys.argv[1], "w") as file:
    file["u"] = [[1.0]]
    file.flush()
    print("open", flush=True)
    time.sleep(60)
"""


def made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.zeros((2, 2)))
    return path


def test_links_to_folders_are_followed_and_files_keep_the_name_of_the_link(tmp_path):
    made(tmp_path / "all/run0/a.npy")
    for run in (1, 2):
        made(tmp_path / f"scratch/run{run}/a.npy")
        os.symlink(tmp_path / f"scratch/run{run}", tmp_path / f"all/run{run}")
    names = [str(file.relative_to(tmp_path)) for file in find_files([tmp_path / "all"])]
    assert names == ["all/run0/a.npy", "all/run1/a.npy", "all/run2/a.npy"]


def test_a_folder_that_leads_into_itself_is_searched_once_and_that_is_said(tmp_path, caplog):
    made(tmp_path / "a/x.npy")
    os.symlink(tmp_path, tmp_path / "a/up")
    os.symlink(tmp_path / "a", tmp_path / "a/self")
    os.symlink("round", tmp_path / "round")
    assert find_files([tmp_path]) == [tmp_path / "a/x.npy"]
    assert "and 1 more: leads to a folder that is searched already" in caplog.text
    assert "round: a link that leads nowhere" in caplog.text


def test_links_that_multiply_are_followed_in_linear_time(tmp_path):
    """Two links in each of 40 folders lead to the next: 2**40 ways to one file."""
    for level in range(40):
        (tmp_path / f"f{level}").mkdir()
        for name in "ab":
            os.symlink(tmp_path / f"f{level + 1}", tmp_path / f"f{level}" / name)
    made(tmp_path / "f40/x.npy")
    assert len(find_files([tmp_path / "f0"])) == 1
    assert find_files([tmp_path]) == [tmp_path / "f40/x.npy"]


def test_a_file_with_several_names_is_taken_once(tmp_path, caplog):
    """By the name that is no link: else a trajectory would stand in two splits."""
    real = made(tmp_path / "z.npy")
    os.symlink(real, tmp_path / "a.npy")
    os.link(real, tmp_path / "zz.npy")
    assert find_files([tmp_path]) == [real]
    assert "a.npy and 1 more: the same file as" in caplog.text
    assert find_files([tmp_path / "a.npy", tmp_path]) == [real]


def test_a_link_to_more_folders_than_any_data_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(find, "MAX_FOLDERS", 10)
    for n in range(12):
        (tmp_path / f"f{n}").mkdir()
    with pytest.raises(DataError, match="holds over 10 folders"):
        find_files([tmp_path])


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_said(tmp_path, caplog):
    made(tmp_path / "a.npy")
    (tmp_path / "closed").mkdir(mode=0o000)
    assert len(find_files([tmp_path])) == 1
    assert "closed: cannot be searched (Permission denied)" in caplog.text


def test_files_without_a_suffix_are_known_by_how_they_start(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with h5py.File(tmp_path / "wrfout_d01_2020-01-01_00:00:00", "w") as file:
        file["u"] = np.zeros(3)
    (tmp_path / "notes.txt").write_text("CDF is a format")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    assert [file.name[:6] for file in find_files([tmp_path])] == ["wrfout"]
    assert "3 files of other kinds" in caplog.text


def test_a_file_that_another_program_writes_is_called_that(tmp_path):
    """Not damaged, with the way to read it all the same."""
    path = tmp_path / "run.h5"
    env = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"}
    writer = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(path)], stdout=subprocess.PIPE, text=True, env=env
    )
    try:
        assert writer.stdout.readline() == "open\n"
        words = [sys.executable, "-m", "matey", "data", "inspect", str(path)]
        said = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert said.returncode == 1
    text = " ".join(said.stdout.split())
    assert "is open in another program" in text
    assert "HDF5_USE_FILE_LOCKING=FALSE" in text
    assert "damaged" not in text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("unable to lock file, errno = 37, error message = 'No locks'", "file system has no locks"),
        ("unable to lock file, errno = 38, error message = '...'", "HDF5_USE_FILE_LOCKING=FALSE"),
        ("file is already open for write (may use <h5clear file>...)", "h5clear -s"),
        ("bad object header version number", "is damaged HDF5: bad object"),
    ],
)
def test_what_keeps_a_file_closed_is_told(tmp_path, reason, said):
    from matey.data.formats.hdf5 import why_closed

    (tmp_path / "a.h5").write_bytes(b"123")
    assert said in why_closed(tmp_path / "a.h5", reason)
