"""The server's settings, from the environment or a `.env` file. docs/serving.md lists them all."""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from indexer.errors import NeurariumError, quoted

_SOURCE = re.compile(
    r"\*|'self'|https?:"  # everybody, this site, any site of a scheme
    r"|(https?://)?(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(:([0-9]{1,5}|\*))?",
    re.IGNORECASE | re.ASCII,
)
"""A source of frame-ancestors as in CSP 3, without a path, which browsers ignore."""


def data_folder() -> Path:
    """The folder for a user's data on this system."""
    return Path(platformdirs.user_data_dir("neurarium", appauthor=False))


def _default_database() -> str:
    return f"sqlite:///{data_folder() / 'neurarium.db'}"


def _default_cache() -> Path:
    return Path(platformdirs.user_cache_dir("neurarium", appauthor=False))


class Settings(BaseSettings):
    """Each field is read from the environment variable NEURARIUM_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="NEURARIUM_", env_file=".env", extra="ignore")

    database_url: str = Field(default_factory=_default_database)
    """The store: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME."""
    cache_dir: Path = Field(default_factory=_default_cache)
    """Folder for prepared corpora and checkpoints."""
    host: str = "127.0.0.1"
    """The address `neurarium serve` listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port `neurarium serve` listens on."""
    allowed_hosts: str = ""
    """The names that the server answers to, separated by spaces and without ports. Empty: every
    name; but `neurarium serve` on a loopback address then answers to loopback names only."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that serve pages. Live models are in a further process."""
    connections: int = Field(default=2000, ge=1)
    """Most open connections of a server process; fewer if it may not have that many files open."""
    page_memory: float = Field(default=64, ge=0, le=2**30)
    """MiB of built pages that a server process keeps in memory. 0: none."""
    live: bool = False
    """Whether visitors may run the models on their own text. The server then loads the models."""
    live_memory: float | None = Field(default=None, gt=0, le=2**30)
    """Gigabytes that these models may use together. None: half of the machine's memory."""
    live_tokens: int = Field(default=512, ge=2)
    """Most tokens in such a text, including BOS."""
    live_waiting: int = Field(default=8, ge=1)
    """Most such texts running or waiting at the same time."""
    model_paths: dict[str, Path] = Field(default_factory=dict)
    """Where models are that were moved since their runs, by the model's name in URLs (JSON)."""
    dictionary_paths: dict[str, str] = Field(default_factory=dict)
    """Where dictionaries are that were moved since their runs, by MODEL/SET (JSON)."""
    notes: bool = False
    """Whether notes on neurons are shown, and can be written by those who have the token."""
    notes_token: SecretStr | None = None
    """The token for writing and deleting notes: 16 characters or more."""
    embed: str = ""
    """Sites that may embed pages (`?embed=1`) in a frame: sources of CSP's frame-ancestors, such as
    `https://example.org`; `*` is everybody. Empty: nobody, and browsers show these pages in a tab
    alone."""

    @field_validator("embed")
    @classmethod
    def _sources(cls, value: str) -> str:
        sources = [source for source in value.split(" ") if source]
        for source in sources:
            if not _SOURCE.fullmatch(source):
                raise ValueError(
                    f"{source!r} is not a valid source: write origins such as https://example.org, "
                    "separated by spaces, or *"
                )
        return " ".join(sources)


def from_environment() -> Settings:
    """The environment's settings. Raises NeurariumError."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"NEURARIUM_{first['loc'][0]}".upper()
        reason = first_clause(first["msg"].removeprefix("Value error, "))
        raise NeurariumError(f"{name} is {quoted(first['input'])}: {reason}.") from None


def first_clause(message: str) -> str:
    """Pydantic's message on a bad value, without what it says about parsing."""
    return message.partition(", unable to ")[0].replace("Input should be", "it must be")
