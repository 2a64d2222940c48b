"""The tables of the store: one schema for SQLite and PostgreSQL.

A run owns all its rows. Arrays are packed columns (see `packing/`); what people sort by is a real
column with an index. Each row of a run carries its checksum (see `checksums.py`).
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
    Text,
    TypeDecorator,
    event,
    or_,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

SCHEMA_VERSION = 6
OLDEST_VERSION = 4
"""The oldest schema that `neurarium upgrade` can bring up to date (`migrations/`)."""

KINDS = ("top", "bottom", "random", "band", "source")
"""Why an example was chosen; `examples.kind` is an index into this tuple."""

ROLES = ("peak", "promoted", "suppressed", "in", "gate")
"""How a token relates to a neuron; `token_neurons.role` is an index into this tuple. For `in` and
`gate`, the token's embedding activates the linear part or the gate."""

COLUMNS = (
    *("max", "min", "mean", "std", "skewness", "kurtosis", "density", "density_over_tenth"),
    *("lookup", "effect_kurtosis", "in_out_cosine", "gate_out_cosine", "dead", "top_source"),
    "peak_token_id",
)
"""Columns of `neurons` that searches and the layer's picture read for a whole layer, from
`neuron_columns`."""

_HEAD_SCORES = (
    *("previous_token", "duplicate_token", "induction", "self_token", "bos", "sink"),
    *("entropy", "distance", "distance_spread", "effect"),
)
HEAD_COLUMNS = (*_HEAD_SCORES, *(f"{name}_text" for name in _HEAD_SCORES), "copying")
"""Columns that only runs of attention heads have, also in `neuron_columns`: scores on repeated
random tokens, the same on the sample, and the copying score."""

LATER_COLUMNS = ("lookup", "sink", "sink_text")
"""Those of `COLUMNS` and `HEAD_COLUMNS` that runs of older versions do not have."""

SORTABLE = ("max", "density", "mean", "kurtosis", "lookup", "effect_kurtosis")
"""Columns a layer can be sorted by, each with an index."""

_NEURON_BITS = 32


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC. SQLite stores no time zone, so reading restores it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLAlchemy's hook: the time in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLAlchemy's hook: the time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def neuron_key(run_id: int, flat_index: int) -> int:
    """The integer key of a neuron, from its run and its flat index over all layers."""
    return (run_id << _NEURON_BITS) | flat_index


def run_of(key: int) -> int:
    """The run that a neuron's key belongs to."""
    return key >> _NEURON_BITS


def key_range(run_id: int) -> tuple[int, int]:
    """The first and last possible neuron key of a run."""
    return neuron_key(run_id, 0), neuron_key(run_id + 1, 0) - 1


def _checksum(name: str = "checksum") -> Column[int]:
    """A column for a CRC-32, as a signed integer. Rows of an upgraded store get theirs after the
    column exists, hence the default."""
    return Column(name, Integer, nullable=False, server_default=text("0"))


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
    Column("set_name", String(40), nullable=False),  # of its set of units, in addresses
    Column("units", JSON, nullable=False),  # units.Units
    Column("corpus", String, nullable=False),
    Column("dtype", String(16), nullable=False),
    Column("ctx_len", Integer, nullable=False),
    Column("contexts", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("sample_contexts", BigInteger, nullable=False),
    Column("sample_positions", BigInteger, nullable=False),
    Column("sample_identity", String(64), nullable=False),  # hash of the contexts of `sample_peaks`
    Column("widths", JSON, nullable=False),  # neurons per layer
    Column("sources", JSON, nullable=False),  # names, in corpus order
    Column("vocabulary_id", ForeignKey("vocabularies.id"), nullable=False),
    Column("provenance", JSON, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ready", Boolean, nullable=False),
    # The ends of the chains in `contexts.previous` and `token_neurons.previous`; −1: no rows.
    Column("last_context", BigInteger, nullable=False, server_default=text("-1")),
    Column("last_token", BigInteger, nullable=False, server_default=text("-1")),
    Column("text_digest", String(64), nullable=False, server_default=text("''")),
    _checksum(),
    sqlite_autoincrement=True,  # ids of deleted runs are not reused
)

READY = or_(runs.c.ready, runs.c.checksum != 0)
"""Whether a run is complete: also if damage says that it is not, so that this is noticed."""
corpus_counts = Table(
    "corpus_counts",  # a separate table, so that reading a run stays fast
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("tokens", LargeBinary, nullable=False),  # codec.pack_counts: included positions by token
    Column("sources", LargeBinary, nullable=False),  # codec.pack_counts: contexts by source
    _checksum(),
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
    _checksum(),
    sqlite_with_rowid=False,
)

contexts = Table(
    "contexts",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("context_id", BigInteger, primary_key=True, autoincrement=False),
    Column("document_index", BigInteger, nullable=False),
    Column("source_index", Integer, nullable=False),  # index into runs.sources, where "" means none
    Column("included_from", Integer, nullable=False),  # 1 after a BOS, else 0
    Column("token_ids", LargeBinary, nullable=False),
    Column(
        "neurons", LargeBinary, nullable=False
    ),  # packing.postings.PLACE: neurons with this example
    # The id of the stored context before this one, or −1: so that a missing row is noticed.
    Column("previous", BigInteger, nullable=False, server_default=text("-1")),
    _checksum(),  # of all columns but `neurons`, which most pages need not read
    _checksum("neurons_checksum"),  # of the key and `neurons`
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
    Column("kurtosis", _Double, nullable=False),  # −inf if constant, so that it sorts
    Column("density", _Double, nullable=False),
    Column("density_over_tenth", _Double, nullable=False),
    Column("tenth", _Double, nullable=False),
    Column("lookup", _Double, nullable=False),  # token-lookup score; −inf if unknown
    Column("dead", Boolean, nullable=False),
    Column("peak_token_id", Integer),  # None: no context is an example of it
    Column("promoted_token_id", Integer),  # None: not known what the unit writes
    Column("effect_kurtosis", _Double, nullable=False),  # of logit effects; −inf if constant
    Column("in_out_cosine", _Double),
    Column("gate_out_cosine", _Double),
    Column("top_source", Integer, nullable=False),  # source of most top examples, or −1
    _checksum(),
    Index("ix_neurons_place", "run_id", "layer", "neuron", unique=True),
    *(Index(f"ix_neurons_{name}", "run_id", "layer", name, "neuron") for name in SORTABLE),
)

neuron_arrays = Table(
    "neuron_arrays",  # a separate table, so that scans over scalars stay fast
    metadata,
    Column("neuron_id", ForeignKey("neurons.id"), primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),  # codec.NEURON_ARRAYS
    _checksum(),
)

neuron_columns = Table(
    "neuron_columns",  # a column of COLUMNS for all neurons of a layer, as one array
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("name", String(32), primary_key=True),
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),  # float64, little-endian; NaN: unknown
    _checksum(),
)

token_neurons = Table(
    "token_neurons",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    Column("token_id", Integer, primary_key=True, autoincrement=False),
    Column("role", Integer, primary_key=True, autoincrement=False),  # index into ROLES
    Column("neurons", Integer, nullable=False),  # count
    Column("packed", LargeBinary, nullable=False),  # packing.postings.pack_tokens
    # `token_key` of the run's row before this one, or −1: so that a missing row is noticed.
    Column("previous", BigInteger, nullable=False, server_default=text("-1")),
    _checksum(),
)

examples = Table(
    "examples",
    metadata,
    Column("neuron_id", ForeignKey("neurons.id"), primary_key=True, autoincrement=False),
    # A row has the lists of this kind and of the kinds after it, usually all of a neuron.
    Column("kind", Integer, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
    _checksum(),
)


heads = Table(
    "heads",  # what is stored of an attention head besides what every unit has
    metadata,
    Column("neuron_id", ForeignKey("neurons.id"), primary_key=True, autoincrement=False),
    Column("facts", Text, nullable=False),  # JSON: writing.records.HeadRecord
    _checksum(),
)

head_patterns = Table(
    "head_patterns",
    metadata,
    Column("neuron_id", ForeignKey("neurons.id"), primary_key=True, autoincrement=False),
    Column("context_id", BigInteger, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),  # packing.pattern
    _checksum(),
)


def token_key(token_id: int, role: int) -> int:
    """The order of the rows of `token_neurons` in a run, as one number."""
    return token_id * len(ROLES) + role


def _store_uncompressed(table: Table, connection: Connection, **_: object) -> None:
    """Keep PostgreSQL from compressing packed bytes again: that would dominate a row's cost."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"ALTER TABLE {table.name} ALTER COLUMN packed SET STORAGE EXTERNAL"
        )


for _packed in (examples, neuron_columns, token_neurons, head_patterns):
    event.listen(_packed, "after_create", _store_uncompressed)
