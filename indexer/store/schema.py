"""The tables of the store: one schema for SQLite and PostgreSQL.

A run owns all its rows. Big arrays are packed columns (see `codec.py`); what people sort by is a
real column with an index.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    event,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

SCHEMA_VERSION = 3

KINDS = ("top", "bottom", "random", "band", "source")
"""Why an example was chosen; `examples.kind` is the index in this tuple."""

ROLES = ("peak", "promoted", "suppressed", "in", "gate")
"""What a token can be to a neuron; `token_neurons.role` is the index in this tuple. `in` and
`gate`: its embedding excites this part of the neuron."""

SOURCE_SLOTS = 8
"""Sources that have examples of their own; all later ones share one more slot, "other"."""

COLUMNS = (
    *("max", "min", "mean", "std", "skewness", "kurtosis", "density", "density_over_tenth"),
    *("effect_kurtosis", "in_out_cosine", "gate_out_cosine", "dead", "top_source"),
    "peak_token_id",
)
"""Columns of `neurons` that are read of a whole layer, by searches and for its picture:
`neuron_columns` has them."""

SORTABLE = ("max", "density", "mean", "kurtosis", "effect_kurtosis")
"""Columns of `neurons` that a layer is sorted by, each with an index."""

_NEURON_BITS = 32


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC: SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the time in UTC. SQLAlchemy's hook."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time its zone. SQLAlchemy's hook."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def neuron_key(run_id: int, flat_index: int) -> int:
    """The integer key of a neuron: its run, then its index counted over all layers."""
    return (run_id << _NEURON_BITS) | flat_index


def key_range(run_id: int) -> tuple[int, int]:
    """First and last neuron key a run can have."""
    return neuron_key(run_id, 0), neuron_key(run_id + 1, 0) - 1


metadata = MetaData()
_Key = BigInteger().with_variant(Integer, "sqlite")
_Double = Float(53).with_variant(DOUBLE_PRECISION(), "postgresql")

store = Table(
    "store",
    metadata,
    Column("schema_version", Integer, primary_key=True),
)

vocabularies = Table(
    "vocabularies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", String(64), nullable=False, unique=True),
)

vocabulary = Table(
    "vocabulary",
    metadata,
    Column("vocabulary_id", ForeignKey("vocabularies.id"), primary_key=True),
    Column("token_id", Integer, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(100), nullable=False, index=True),
    Column("model_id", String, nullable=False),
    Column("revision", String),
    Column("hook_point", String(40), nullable=False),
    Column("is_default_hook_point", Boolean, nullable=False),
    Column("corpus", String, nullable=False),
    Column("dtype", String(16), nullable=False),
    Column("ctx_len", Integer, nullable=False),
    Column("contexts", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("sample_contexts", BigInteger, nullable=False),
    Column("sample_positions", BigInteger, nullable=False),
    Column("sample_identity", String(64), nullable=False),  # of the contexts of `sample_peaks`
    Column("widths", JSON, nullable=False),  # neurons a layer
    Column("sources", JSON, nullable=False),  # names, in corpus order
    Column("vocabulary_id", ForeignKey("vocabularies.id"), nullable=False),
    Column("provenance", JSON, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ready", Boolean, nullable=False),
    sqlite_autoincrement=True,  # the number of a deleted run is not given again
)

layers = Table(
    "layers",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neurons", Integer, nullable=False),
    Column("dead", Integer, nullable=False),
    Column("max", _Double, nullable=False),
    Column("mean_max", _Double, nullable=False),
    Column("mean_density", _Double, nullable=False),
    Column("arrays", LargeBinary, nullable=False),  # codec.LAYER_ARRAYS
    sqlite_with_rowid=False,
)

contexts = Table(
    "contexts",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("context_id", BigInteger, primary_key=True, autoincrement=False),
    Column("document_index", BigInteger, nullable=False),
    Column("source_index", Integer, nullable=False),  # in runs.sources; "" is none
    Column("included_from", Integer, nullable=False),  # 1 where a BOS leads, else 0
    Column("token_ids", LargeBinary, nullable=False),
    Column("neurons", LargeBinary, nullable=False),  # posting_codec.PLACE: whose example it is
)

neurons = Table(
    "neurons",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("layer", Integer, nullable=False),
    Column("neuron", Integer, nullable=False),
    Column("max", _Double, nullable=False),
    Column("min", _Double, nullable=False),
    Column("mean", _Double, nullable=False),
    Column("std", _Double, nullable=False),
    Column("skewness", _Double),
    Column("kurtosis", _Double, nullable=False),  # −inf: it never varied (so it sorts)
    Column("density", _Double, nullable=False),
    Column("density_over_tenth", _Double, nullable=False),
    Column("tenth", _Double, nullable=False),
    Column("dead", Boolean, nullable=False),
    Column("peak_token_id", Integer, nullable=False),
    Column("promoted_token_id", Integer, nullable=False),
    Column("effect_kurtosis", _Double, nullable=False),  # of its logit effects; −inf as above
    Column("in_out_cosine", _Double),
    Column("gate_out_cosine", _Double),
    Column("top_source", Integer, nullable=False),  # of most of its top examples; −1: of none
    Index("ix_neurons_place", "run_id", "layer", "neuron", unique=True),
    *(Index(f"ix_neurons_{name}", "run_id", "layer", name, "neuron") for name in SORTABLE),
)

neuron_arrays = Table(
    "neuron_arrays",  # apart, so that a walk over the scalars of a layer is short
    metadata,
    Column("neuron_id", ForeignKey("neurons.id"), primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),  # codec.NEURON_ARRAYS
)

neuron_columns = Table(
    "neuron_columns",  # one of COLUMNS, of all of a layer's neurons, as one array
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("name", String(32), primary_key=True),
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),  # float64, little-endian; NaN: not known
)

token_neurons = Table(
    "token_neurons",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("token_id", Integer, primary_key=True, autoincrement=False),
    Column("role", Integer, primary_key=True, autoincrement=False),  # in ROLES
    Column("neurons", Integer, nullable=False),  # how many
    Column("packed", LargeBinary, nullable=False),  # posting_codec.pack_token
)

examples = Table(
    "examples",
    metadata,
    Column("neuron_id", ForeignKey("neurons.id"), primary_key=True, autoincrement=False),
    # A row has the lists of this kind and of those after it: all of a neuron's in one, as a rule.
    Column("kind", Integer, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
)


def _leave_as_it_is(table: Table, connection: Connection, **_: object) -> None:
    """PostgreSQL would try to compress once more what is compressed: most of a row's cost."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"ALTER TABLE {table.name} ALTER COLUMN packed SET STORAGE EXTERNAL"
        )


for _packed in (examples, neuron_columns, token_neurons):
    event.listen(_packed, "after_create", _leave_as_it_is)
