"""What is written to forgiving streams comes out as it does with Python's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """\
import sys
from pathlib import Path
if sys.argv[1] == "forgiving":
    from pose.streams import forgiving
    assert forgiving() is not None and forgiving() is None, "the second time there is nothing to replace"
seen = []
for stream, file in ((sys.stdout, Path("out.txt")), (sys.stderr, Path("err.txt"))):
    for text in ("part", " of a line\\n"):
        stream.write(text)
        seen.append(file.read_text())
Path("seen.txt").write_text(repr(seen))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_text_is_written_as_soon_as_by_pythons_own(unbuffered: str, tmp_path: Path) -> None:
    seen = []
    for streams in ("own", "forgiving"):
        with open(tmp_path / "out.txt", "w") as out, open(tmp_path / "err.txt", "w") as err:
            subprocess.run(
                [sys.executable, "-c", PROGRAM, streams],
                cwd=tmp_path, stdout=out, stderr=err, check=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
            )  # fmt: skip
        written = [(tmp_path / name).read_text() for name in ("out.txt", "err.txt", "seen.txt")]
        assert written[0] == written[1] == "part of a line\n"
        seen.append(written[2])
    assert seen[0] == seen[1]
