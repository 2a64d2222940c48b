"""The tables of a run in Parquet files, and the columns of each."""

from __future__ import annotations

import pyarrow as pa

from indexer.store.writing.content import SCALARS

PLACE = [("layer", pa.int32()), ("neuron", pa.int32())]
WORD = pa.dictionary(pa.int32(), pa.string())
QUANTILES = ("q01", "q10", "q25", "q50", "q75", "q90", "q99")
FLOATS = [
    name
    for name in SCALARS
    if name not in ("dead", "peak_token_id", "promoted_token_id", "top_source")
]
TOKENS = ("logit", "in", "gate")
LINKS = ("together", "alike", "upstream", "downstream")

SCHEMAS: dict[str, pa.Schema] = {
    "neurons": pa.schema(
        [
            *PLACE,
            ("name", pa.string()),
            *((name, pa.float64()) for name in FLOATS),
            ("dead", pa.bool_()),
            ("peak_token", WORD),
            ("peak_token_id", pa.int32()),
            ("promoted_token", WORD),
            ("promoted_token_id", pa.int32()),
            ("top_source", WORD),
            *((f"peak_{name}", pa.float64()) for name in QUANTILES),
            ("histogram_start", pa.float64()),
            ("histogram_width", pa.float64()),
            ("histogram_counts", pa.list_(pa.int32())),
        ]
    ),
    "examples": pa.schema(
        [
            *PLACE,
            ("kind", WORD),
            ("rank", pa.int32()),
            ("peak", pa.float32()),
            ("peak_position", pa.int32()),
            ("peak_token", WORD),
            ("peak_token_id", pa.int32()),
            ("trough", pa.float32()),
            ("trough_position", pa.int32()),
            ("context_id", pa.int64()),
            ("start", pa.int32()),
            ("gate", pa.float32()),
            ("linear", pa.float32()),
            ("activations", pa.list_(pa.float32())),
        ]
    ),
    "tokens": pa.schema(
        [
            *PLACE,
            ("list", WORD),
            ("side", WORD),
            ("rank", pa.int32()),
            ("token", WORD),
            ("token_id", pa.int32()),
            ("value", pa.float32()),
        ]
    ),
    "links": pa.schema(
        [
            *PLACE,
            ("list", WORD),
            ("rank", pa.int32()),
            ("to_layer", pa.int32()),
            ("to_neuron", pa.int32()),
            ("value", pa.float32()),
        ]
    ),
    "contexts": pa.schema(
        [
            ("context_id", pa.int64()),
            ("document_index", pa.int64()),
            ("source", WORD),
            ("included_from", pa.int32()),
            ("token_ids", pa.list_(pa.int32())),
            ("tokens", pa.list_(WORD)),
        ]
    ),
}
"""The tables by name. docs/export.md says what each column means."""

DICTIONARIES = {
    name: [entry.name for entry in schema if pa.types.is_dictionary(entry.type)]
    for name, schema in SCHEMAS.items()
}
"""The columns of each table that files hold as numbers of words: to try that on others is slow."""
