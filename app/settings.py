"""The server's settings, from the environment or a `.env` file. The README lists each."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
