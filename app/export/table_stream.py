"""A table of statistics as Parquet, made part by part."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from app.search.numbers.schemas import NumberRow


class ParquetParts:
    """Bytes of a Parquet file while it is being written: memory holds one part."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the columns, of the statistics or of heads' scores."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}

        def kind(name: str) -> Any:
            field = NumberRow.model_fields.get(name)
            if field is None:  # a score
                return pa.float64()
            asked = [field.annotation, *get_args(field.annotation)]
            return next(kinds[one] for one in asked if one in kinds)

        self._schema = pa.schema([(name, kind(name)) for name in names])
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, self._schema)

    def part(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """The bytes that these rows add: a row group."""
        import pyarrow as pa

        listed = [dict(zip(self._schema.names, row, strict=True)) for row in rows]
        self._writer.write_table(pa.Table.from_pylist(listed, schema=self._schema))
        return self._sink.take()

    def end(self) -> bytes:
        """The file's last bytes."""
        self._writer.close()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """A file that is only written to, and taken away as it grows."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
