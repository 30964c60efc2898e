"""Records of Parquet files and ``datasets``; a column is read from disk only when someone asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsf.errors import InputError, near_names
from rlsf.prompts.fields import Row, Rows

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset


#: Rows of a column that are held at a time, and bytes of a file that are read at a time.
_ROWS = 1024
_BUFFER = 2**18


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive values of a column, the first of which is that of row ``start``."""

    start: int
    values: pa.Array | pa.ChunkedArray

    def __contains__(self, index: int) -> bool:
        return self.start <= index < self.start + len(self.values)


class _Columns:
    """Columns by name, each read at first use and then piece by piece, as the rows are gone through."""

    def __init__(self, names: Sequence[str], read: Callable[[str, int], _Piece]) -> None:
        self.names = tuple(names)
        self._read = read
        self._held: dict[str, _Piece] = {}

    def value(self, name: str, index: int) -> Any:
        piece = self._held.get(name)
        if piece is None or index not in piece:
            piece = self._held[name] = self._read(name, index)
        return piece.values[index - piece.start].as_py()


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

    try:
        parquet = pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    except PermissionError as error:
        raise InputError(f"{path}: not allowed to read this file: mend its permissions") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({_one_line(error)})") from error
    columns: dict[str, _ParquetColumn] = {}

    def read(name: str, index: int) -> _Piece:
        if name not in columns:
            columns[name] = _ParquetColumn(parquet, name)
        try:
            return columns[name].piece(index)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: column {name!r} is damaged ({_one_line(error)})") from error

    return _rows(str(path), _Columns(parquet.schema_arrow.names, read), parquet.metadata.num_rows)


class _ParquetColumn:
    """A column of a Parquet file, piece by piece; to go back is to begin again."""

    def __init__(self, parquet: pq.ParquetFile, name: str) -> None:
        self._parquet, self._name = parquet, name
        self._begin()

    def _begin(self) -> None:
        self._next = 0
        self._batches = self._parquet.iter_batches(_ROWS, columns=[self._name])

    def piece(self, index: int) -> _Piece:
        if index < self._next:
            self._begin()
        while True:
            values = next(self._batches).column(self._name)
            start, self._next = self._next, self._next + len(values)
            if index < self._next:
                return _Piece(start, values)


def dataset_rows(name: str, dataset: Dataset) -> Iterator[Row]:
    """The rows of a loaded ``datasets.Dataset``."""
    columns: dict[str, Any] = {}

    def read(column: str, index: int) -> _Piece:
        if column not in columns:
            columns[column] = dataset.select_columns([column]).with_format("arrow")
        return _Piece(index, columns[column][index : index + _ROWS].column(column))

    return _rows(name, _Columns(dataset.column_names, read), dataset.num_rows)


def folder_rows(folder: Path, subset: str | None, split: str | None) -> Rows:
    """The rows of a folder written by ``save_to_disk``, or of a folder of data files; it is loaded once."""
    from datasets import load_dataset, load_from_disk

    if any((folder / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json", "state.json")):
        name, load = str(folder), lambda: load_from_disk(str(folder))
    else:
        name, load = str(folder), lambda: load_dataset(str(folder), subset, split=split)
    return _loaded_rows(name, load, split)


def hub_rows(name: str, subset: str | None, split: str | None) -> Rows:
    """The rows of a dataset on the hub, downloaded or from the local cache; it is loaded once."""
    from datasets import load_dataset

    return _loaded_rows(name, lambda: load_dataset(name, subset, split=split), split)


def _loaded_rows(name: str, load: Callable[[], Any], split: str | None) -> Rows:
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
    return partial(dataset_rows, f"{name}[{split}]" if split else name, loaded)


def _pick_split(name: str, splits: Mapping[str, Dataset], split: str | None) -> tuple[str, Dataset]:
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split is None:
        raise InputError(
            f"{name!r} has the splits {', '.join(splits)}: choose one with prompts.split, or of questions"
            " to measure on with evaluation_data.split"
        )
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
