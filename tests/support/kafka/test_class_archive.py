"""The archive of a broker's classes is made once, whole, and anew for another Java."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.kafka.class_archive import class_archive


def test_runs_that_start_at_once_make_it_once(tmp_path: Path) -> None:
    made, java = list[Path](), tmp_path / "java"
    java.touch()

    def make(file: Path) -> None:
        made.append(file)
        file.write_text("classes")

    with ThreadPoolExecutor(4) as runs:
        found = set(runs.map(lambda _: class_archive(str(java), tmp_path / "jars", make), range(4)))
    assert [path.read_text() for path in found] == ["classes"]
    assert len(made) == 1
    os.utime(java, ns=(1, 1))
    assert class_archive(str(java), tmp_path / "jars", make) not in found
    assert len(made) == 2


def test_where_java_writes_none_it_is_empty_and_nobody_tries_again(tmp_path: Path) -> None:
    java, tried = tmp_path / "java", list[Path]()
    java.touch()
    for _ in range(2):
        assert class_archive(str(java), tmp_path / "jars", tried.append).read_bytes() == b""
    assert len(tried) == 1
