"""The server's settings, from the environment or a `.env` file. The README lists each."""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SOURCE = re.compile(
    r"\*|'self'|https?:"  # all, this site, all of a scheme
    r"|(https?://)?(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(:([0-9]{1,5}|\*))?",
    re.IGNORECASE | re.ASCII,
)
"""A source of frame-ancestors, as CSP 3 writes it: without a path, which it would not look at."""


def data_folder() -> Path:
    """Where a user's own data lives on this system."""
    return Path(platformdirs.user_data_dir("neurarium", appauthor=False))


def _default_database() -> str:
    return f"sqlite:///{data_folder() / 'neurarium.db'}"


def _default_cache() -> Path:
    return Path(platformdirs.user_cache_dir("neurarium", appauthor=False))


class Settings(BaseSettings):
    """Each field is read from NEURARIUM_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="NEURARIUM_", env_file=".env", extra="ignore")

    database_url: str = Field(default_factory=_default_database)
    """The store: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME."""
    cache_dir: Path = Field(default_factory=_default_cache)
    """Where prepared corpora are kept."""
    host: str = "127.0.0.1"
    """The address `neurarium serve` listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port `neurarium serve` listens on."""
    live: bool = False
    """Whether visitors may try texts of their own: the models of the runs are then loaded here."""
    live_memory: float | None = Field(default=None, gt=0)
    """Gigabytes that such models may take together. None: half of the memory there is."""
    live_tokens: int = Field(default=512, ge=2)
    """Tokens that such a text may have, the BOS counted."""
    live_waiting: int = Field(default=8, ge=1)
    """Such texts that may be at work or waiting at a time."""
    notes: bool = False
    """Whether notes on neurons are shown, and kept of those who have the token."""
    notes_token: SecretStr | None = None
    """What lets somebody write and delete notes: 16 characters or more."""
    embed: str = ""
    """Who may show bare pages (`?embed=1`) in a frame: sources of CSP's frame-ancestors, such as
    `https://example.org`; `*` is everybody. Empty: nobody, and there are no bare pages."""

    @field_validator("embed")
    @classmethod
    def _sources(cls, value: str) -> str:
        sources = [source for source in value.split(" ") if source]
        for source in sources:
            if not _SOURCE.fullmatch(source):
                raise ValueError(
                    f"{source!r} is no source: write origins such as https://example.org, with a "
                    "space between them, or *"
                )
        return " ".join(sources)
