"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rlsf.errors import InputError, ResourceError
from rlsf.files import atomic_folder, atomic_path, digest, read_json, remove_partials, write_json, writing


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.json"
    write_json(target, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_an_interrupted_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "policy"
    with atomic_folder(target) as partial:
        (partial / "weights").write_text("first")
    with pytest.raises(RuntimeError), atomic_folder(target) as partial:
        (partial / "weights").write_text("second")
        raise RuntimeError
    assert (target / "weights").read_text() == "first"
    with atomic_folder(target) as partial:
        (partial / "weights").write_text("third")
    assert (target / "weights").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".part.parquet.partial-123").write_text("half")
    (tmp_path / ".policy.partial-123").mkdir()
    (tmp_path / "kept").write_text("whole")
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "sub"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always out of space")
def test_a_full_disk_names_file_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"no space left on device while writing .*shard\.parquet: free some space"):
        with writing(tmp_path / "shard.parquet"), open("/dev/full", "w") as stream:
            stream.write("x")


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x.json", tmp_path / ("n" * 300)):
        with pytest.raises(ResourceError, match=r"cannot write .* \(.*\): choose another --output"):
            write_json(place, {"a": 1})


def test_other_errors_of_the_machine_pass_through(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output") as caught, writing(tmp_path / "x"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not isinstance(caught.value, ResourceError)


def test_not_a_number_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{\n"a": 1,\n}')
    with pytest.raises(InputError, match=r"x\.json:3: not valid JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"y\.json is missing"):
        read_json(tmp_path / "y.json")


def test_digest_ignores_key_order() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1}) != digest({"a": 1, "b": [3, 2]})
