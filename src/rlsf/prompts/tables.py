"""Records of Parquet files and ``datasets``; a column is read from disk only when someone asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsf.errors import InputError, near_names
from rlsf.prompts.fields import Row

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class _Columns:
    """Columns by name, each read at first use."""

    def __init__(self, names: Sequence[str], read: Callable[[str], pa.ChunkedArray]) -> None:
        self.names = tuple(names)
        self._read = read
        self._loaded: dict[str, pa.ChunkedArray] = {}

    def value(self, name: str, index: int) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return self._loaded[name][index].as_py()


class _Record(Mapping[str, Any]):
    """One row as a mapping that touches only the columns looked up."""

    def __init__(self, columns: _Columns, index: int) -> None:
        self._columns = columns
        self._index = index

    def __getitem__(self, name: str) -> Any:
        if name not in self._columns.names:
            raise KeyError(name)
        return self._columns.value(name, self._index)

    def __contains__(self, name: object) -> bool:
        return name in self._columns.names

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns.names)

    def __len__(self) -> int:
        return len(self._columns.names)


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file; raises ``InputError`` where it is none, is damaged or has no rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(name: str) -> pa.ChunkedArray:
        try:
            return parquet.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: column {name!r} is damaged ({_one_line(error)})") from error

    try:
        parquet = pq.ParquetFile(path)
    except PermissionError as error:
        raise InputError(f"{path}: not allowed to read this file: mend its permissions") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({_one_line(error)})") from error
    columns = _Columns(parquet.schema_arrow.names, read)
    return _rows(str(path), columns, parquet.metadata.num_rows)


def dataset_rows(name: str, dataset: Dataset) -> Iterator[Row]:
    """The rows of a loaded ``datasets.Dataset``."""

    def read(column: str) -> pa.ChunkedArray:
        table: Any = dataset.select_columns([column]).with_format("arrow")[:]
        return table.column(column)

    return _rows(name, _Columns(dataset.column_names, read), dataset.num_rows)


def folder_rows(folder: Path, subset: str | None, split: str | None) -> Iterator[Row]:
    """The rows of a folder written by ``save_to_disk``, or of a folder of data files."""
    from datasets import load_dataset, load_from_disk

    if any((folder / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json", "state.json")):
        name, load = str(folder), lambda: load_from_disk(str(folder))
    else:
        name, load = str(folder), lambda: load_dataset(str(folder), subset, split=split)
    return _loaded_rows(name, load, split)


def hub_rows(name: str, subset: str | None, split: str | None) -> Iterator[Row]:
    """The rows of a dataset on the hub, downloaded or from the local cache."""
    from datasets import load_dataset

    return _loaded_rows(name, lambda: load_dataset(name, subset, split=split), split)


def _loaded_rows(name: str, load: Callable[[], Any], split: str | None) -> Iterator[Row]:
    from datasets import Dataset, DatasetDict
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        loaded = load()
    except DatasetNotFoundError as error:
        raise InputError(f"no such dataset: {name!r} is neither a local file or folder nor a dataset on the hub") from (
            error
        )
    except ConnectionError as error:
        raise InputError(
            f"{name!r} is not a local file or folder, and the hub could not be reached ({_one_line(error)}):"
            " connect, or give a local copy (PRESET:FILE for a preset)"
        ) from error
    except (DatasetsError, ValueError, OSError) as error:
        raise InputError(f"cannot load the dataset {name!r}: {_one_line(error)}") from error
    if isinstance(loaded, DatasetDict):
        split, loaded = _pick_split(name, {str(key): value for key, value in loaded.items()}, split)
    if not isinstance(loaded, Dataset):
        raise InputError(f"cannot read {name!r}: expected a datasets.Dataset, found {type(loaded).__name__}")
    return dataset_rows(f"{name}[{split}]" if split else name, loaded)


def _pick_split(name: str, splits: Mapping[str, Dataset], split: str | None) -> tuple[str, Dataset]:
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split is None:
        raise InputError(f"{name!r} has the splits {', '.join(splits)}: choose one with prompts.split")
    if split not in splits:
        raise InputError(f"{name!r} has no split {split!r}{near_names(split, splits)}; available: {', '.join(splits)}")
    return split, splits[split]


def _rows(name: str, columns: _Columns, count: int) -> Iterator[Row]:
    if count == 0:
        raise InputError(f"{name}: no rows")
    return (Row(f"{name}: row {index + 1}", _Record(columns, index)) for index in range(count))


def _one_line(error: Exception, limit: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
