"""Runs as an account that may read a store and write nothing: a server, its notes, the commands.

    python -m tests.helpers.without_permission FOLDER

prints what happened as JSON. As root it becomes another user first.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn

from app.cli.main import main
from tests.helpers.note_servers import API, BEARER, NEURON, TOKEN, keeping

NOBODY = 65534
NOTE = {"author": "mira", "text": "a thought"}


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    sys.argv = ["neurarium", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        printed = [stream.flush() or stream.buffer.getvalue().decode() for stream in (out, err)]
        return int(ended.code or 0), printed[0], printed[1]
    raise AssertionError("the command did not end")


def asked(url: str) -> dict[str, Any]:
    """The answers of a server with notes over a store."""
    with keeping(url) as client:
        page = client.get(NEURON)
        sent = client.post(API, json=NOTE, headers=BEARER)
        form = client.post(f"{NEURON}/notes", content=f"token={TOKEN}&author=a&text=b")
        return {
            "page": page.status_code,
            "form": "Save note" in page.text,
            "said": "read-only" in page.text,
            "notes": [note["text"] for note in client.get(API).json()["items"]],
            "post": (sent.status_code, sent.json().get("detail")),
            "delete": client.delete(f"{API}/1", headers=BEARER).status_code,
            "sent": form.status_code,
        }


def everything(folder: Path) -> dict[str, Any]:
    """What happens with `store.db` in the folder."""
    url = f"sqlite:///{folder / 'store.db'}"
    os.environ |= {"NEURARIUM_DATABASE_URL": url, "NEURARIUM_NOTES_TOKEN": TOKEN}
    uvicorn.Server.run = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    return {
        "answers": asked(url),
        "serve": run("serve", "--notes", "--port", "0"),
        "runs": run("runs"),
        "check": run("check", "1"),
        "delete": run("delete", "1", "--yes"),
        "export": run("notes", "export"),
    }


def become_nobody(folder: Path) -> None:
    """Give up root's permissions. Python's own library may be root's alone, so everything is done
    and imported once before, on a copy."""
    with tempfile.TemporaryDirectory() as name:
        for file in folder.glob("store.db*"):
            shutil.copyfile(file, Path(name) / file.name)
        everything(Path(name))
    os.setuid(NOBODY)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    if os.geteuid() == 0:
        become_nobody(given)
    before = sorted(path.name for path in given.iterdir())
    print(json.dumps(everything(given)))
    assert sorted(path.name for path in given.iterdir()) == before, "files were left"
