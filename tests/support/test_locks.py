import os
import subprocess
import sys

import pytest

from genre_utils.support import lock_file, only_writer

HOLD = """
import sys
from genre_utils.support import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_file_has_one_writer_until_it_ends_or_is_killed(tmp_path):
    file = tmp_path / "genres.csv"
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(file)], text=True, **pipes)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError, match="Another command is writing .*genres.csv"):
        only_writer(file).__enter__()
    other.kill()
    other.communicate()
    with only_writer(file):
        assert lock_file(file).exists()
    assert not lock_file(file).exists(), "nothing is left beside the table"


def test_what_cannot_be_locked_is_written_all_the_same(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path / "no folder" / "genres.csv"):
        with only_writer(file):
            assert not lock_file(file).exists()
