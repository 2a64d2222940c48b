"""The command line: what it prints, and one clear line with exit code 2 for every mistake."""

from __future__ import annotations

import json
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import update

from app.cli import main as cli
from app.settings import from_environment
from indexer.config import IndexConfig
from indexer.demo import DICTIONARIES, bundled_name
from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.runs import list_runs
from tests.helpers import fixture_store
from tests.helpers.tiny_models import save_tiny_model


class Shell:
    """Runs `neurarium …` in this process, with a store and a cache of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'store.db'}"
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["neurarium", *words])
            patch.setenv("NEURARIUM_DATABASE_URL", self.url)
            patch.setenv("NEURARIUM_CACHE_DIR", str(self.folder / "cache"))
            patch.setenv("HF_HUB_OFFLINE", "1")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        printed = self._capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    def forget(self) -> None:
        """Drop what was printed so far."""
        self._capsys.readouterr()

    def stored(self) -> int:
        """How many runs the store holds; 0 if there is no store."""
        if not (self.folder / "store.db").exists():
            return 0
        engine = open_store(self.url, create=True)
        count = len(list_runs(engine))
        engine.dispose()
        return count


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path, capsys)


def test_index_prints_its_plan_and_where_the_pages_are(shell: Shell) -> None:
    """The plan before, a summary after, and the run is listed."""
    code, out, err = shell.run("index", "demo", "--max-tokens", "3000", "--sample", "16")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "2 layers, 1,280 neurons at mlp.hook_post, float32 on cpu" in text
    assert "Expected:" in text
    assert "of memory beside the model" in text
    assert "Run 1: 1,280 neurons of demo over" in text
    assert "http://127.0.0.1:8000/demo/0/0" in text
    code, out, _ = shell.run("runs")
    assert code == 0
    assert "demo" in out
    assert "1,280" in out
    again = ("index", "demo", "--max-tokens", "2000", "--sample", "16")
    assert "demo is indexed again: run 1 stays at ?run=, and may be" in shell.run(*again)[1]
    other = save_tiny_model(shell.folder / "llama", "llama")
    words = ("index", str(other), "--corpus", "demo", "--ctx-len", "16", "--max-tokens", "500")
    out = " ".join(shell.run(*words, "--sample", "8", "--name", "demo")[1].split())
    assert "demo is also the name of another model here (demo). Its pages will show the new" in out
    assert "runs 1, 2 stay at ?run=" in out
    lines = shell.run("runs")[1].splitlines()
    assert [line.split()[:3] for line in lines[-3:]] == [
        ["1", "demo", "demo"],
        ["2", "demo", "demo"],
        ["3", "demo", "llama"],
    ]
    assert shell.run("delete", "1", "--yes")[1] == "Deleted run 1 (demo over demo).\n"
    assert shell.stored() == 2


def test_runs_of_an_empty_store_say_what_to_do(shell: Shell) -> None:
    """Both without a database and with an empty one."""
    code, _, err = shell.run("runs")
    assert code == 2
    assert "index a model first" in err
    open_store(shell.url, create=True).dispose()
    code, out, _ = shell.run("runs")
    assert code == 0
    assert f"No runs yet in {shell.url}: make one with `neurarium index`" in out


LINES = [json.dumps({"text": "the light was good and the day was long " * 9, "x": 1})] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such/model:x"], "There is no model 'no-such/model:x'"),
        (["./nowhere"], "nowhere"),
        (["demo", "--name", "api"], "'api' is reserved by the server"),
        (["demo", "--name", "a/b"], "cannot be used in URLs"),
        (["demo", "--ctx-len", "1"], "ctx_len is 1: it must be 2 or more"),
        (["demo", "--ctx-len", "4096"], "has 128 positions"),
        (["demo", "--ctx-len", "99999"], "ctx_len is 99999: it must be 65535 or less (--ctx-len)"),
        (["demo", "--hook-point", "mlp.hook_nothing"], "There is no hook point"),
        (["demo", "--hook-point", "mlp.ln.hook_in"], "mlp.hook_post"),
        (
            ["demo", "--dtype", "int7"],
            "dtype 'int7' is not one of float32, bfloat16, float16 (--dtype)",
        ),
        (["demo", "--device", "cuda:77"], "cuda:77"),
        (["demo", "--revision", "main"], "revision"),
        (["demo", "--topk", "3"], "See `neurarium index --help`."),
        ([], "model"),
        (["demo", "--ctx-len", "abc"], "'--ctx-len': 'abc' is not a whole number"),
        (["demo", "--top-k", "0"], "top_k is 0: it must be 1 or more (--top-k)"),
        (["demo", "--workers", "0"], "workers is 0: it must be 1 or more (--workers)"),
        (["demo", "--corpus", "missing.txt"], "There is no file or folder 'missing.txt'"),
        (["demo", "--corpus", "{folder}/empty.txt"], "1 document, but no context of"),
        (["demo", "--corpus", "{folder}/good.jsonl", "--text-column", "words"], "words"),
        (["demo", "--corpus", "{folder}/broken.jsonl"], "line"),
        (["demo", "--corpus", "{folder}/fake.parquet"], "fake.parquet"),
        (["{folder}/moe", "--corpus", "demo"], "mixture"),
        (["{folder}/bert", "--corpus", "demo"], "encoder"),
        (["{folder}/llama", "--ctx-len", "64"], "name one with --corpus"),
        (["demo", "--database", "mysql://x/y"], "only sqlite:/// and postgresql"),
        (["demo", "--database", "postgresql://u:hidden@127.0.0.1:1/x"], "cannot be used"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    shell: Shell, words: list[str], message: str
) -> None:
    """What was wrong and what to do; exit code 2; nothing in the store; no traceback."""
    folder = shell.folder
    (folder / "empty.txt").write_text("")
    (folder / "good.jsonl").write_text("\n".join(LINES))
    (folder / "broken.jsonl").write_text("\n".join([*LINES, "{nothing"]))
    (folder / "fake.parquet").write_text("PAR? no")
    for name, architecture in (("moe", "MixtralForCausalLM"), ("bert", "BertForMaskedLM")):
        (folder / name).mkdir()
        config = {
            "architectures": [architecture],
            "model_type": architecture.split("For")[0].lower(),
        }
        (folder / name / "config.json").write_text(json.dumps(config))
    if "{folder}/llama" in words:
        save_tiny_model(folder / "llama", "llama")
    shell.forget()
    code, out, err = shell.run("index", *(word.format(folder=folder) for word in words))
    assert code == 2
    assert message in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert "hidden" not in err
    assert shell.stored() == 0


def test_version(shell: Shell) -> None:
    """The package's version, and nothing else."""
    assert shell.run("--version") == (0, f"neurarium {version('neurarium')}\n", "")


def test_a_newer_database_is_refused(shell: Shell) -> None:
    """Every command that opens the store refuses it."""
    engine = open_store(shell.url, create=True)
    with engine.begin() as connection:
        connection.execute(update(schema.store).values(schema_version=99))
    engine.dispose()
    for words in (["runs"], ["delete", "1"], ["serve"], ["index", "demo"], ["demo"]):
        code, _, err = shell.run(*words)
        assert code == 2
        assert "a newer version of Neurarium" in err


def test_a_wrong_setting_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the environment variable."""
    monkeypatch.setenv("NEURARIUM_PORT", "abc")
    code, _, err = shell.run("runs")
    assert code == 2
    assert err == "Error: NEURARIUM_PORT is 'abc': it must be a valid integer.\n"
    monkeypatch.delenv("NEURARIUM_PORT")
    for name in ("PAGE_MEMORY", "LIVE_MEMORY"):
        for value in ("inf", "nan", "1e300"):
            with monkeypatch.context() as patched:
                patched.setenv(f"NEURARIUM_{name}", value)
                with pytest.raises(NeurariumError, match=f"NEURARIUM_{name} is '{value}': it must"):
                    from_environment()


def test_deleting_an_unknown_run_is_an_error(shell: Shell) -> None:
    """The message says how to list the runs."""
    engine = open_store(shell.url, create=True)
    fixture_store.RUNS[0].write(engine)
    engine.dispose()
    code, _, err = shell.run("delete", "7")
    assert code == 2
    assert "There is no run 7: `neurarium runs` lists all runs." in err
    assert shell.stored() == 1


def test_demo_serves_and_indexes_only_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` indexes only the runs of its own that are missing; then it serves at once."""
    engine = open_store(shell.url, create=True)
    fixture_store.RunOf("demo", fixture_store.TOY_NEURONS).write(engine)  # over other texts
    engine.dispose()
    served: list[str] = []
    indexed: list[str] = []

    def serve(server: object, sockets: list[socket.socket]) -> None:
        host, port = sockets[0].getsockname()
        served.append(f"http://{host}:{port}")

    monkeypatch.setattr("uvicorn.Server.run", serve)

    def index(configs: list[IndexConfig], settings: object) -> None:
        engine = open_store(shell.url, create=True)
        for config in configs:
            indexed.append(config.dictionary or "")
            fixture_store.RunOf("demo", fixture_store.TOY_NEURONS).write(engine)
            with engine.begin() as connection:
                latest = schema.runs.c.id == 1 + len(indexed)
                ours = update(schema.runs).where(latest).values(model_id="demo", corpus="demo")
                connection.execute(ours)
                if config.dictionary:
                    name = config.dictionary.removeprefix("demo:")
                    connection.execute(update(schema.runs).where(latest).values(set_name=name))
        engine.dispose()

    monkeypatch.setattr(cli, "run_index", index)
    for _ in range(2):
        code, out, _ = shell.run("demo", "--port", "0")
        assert code == 0
        assert f"Neurarium is at {served[-1]} " in out
    assert len(served) == 2
    assert indexed == ["", *map(bundled_name, DICTIONARIES)]


def test_a_port_that_is_taken_is_one_line(shell: Shell) -> None:
    """The error comes before the line that says where the server is."""
    open_store(shell.url, create=True).dispose()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = shell.run("serve", "--port", str(port))
    assert (code, out) == (2, "")
    assert f"Cannot listen on 127.0.0.1:{port} (" in err


def test_a_wrong_command_names_its_help(shell: Shell) -> None:
    """Also the command that may have been meant, or the argument that is missing."""
    assert shell.run("servee")[2].endswith("Did you mean 'serve'? See `neurarium --help`.\n")
    assert shell.run("delete")[2].endswith("'run'. See `neurarium delete --help`.\n")


def test_a_missing_file_is_named(shell: Shell) -> None:
    """With the system's reason."""
    missing = shell.folder / "none.jsonl"
    open_store(shell.url, create=True).dispose()
    code, _, err = shell.run("notes", "import", str(missing))
    assert (code, err) == (2, f"Error: {missing}: No such file or directory.\n")


def test_an_interrupt_before_the_scan_says_how_to_resume(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the corpus is being prepared there may be no checkpoint yet."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    words = ("index", "demo", "--max-tokens", "2000", "--sample", "16")
    with monkeypatch.context() as patch:
        patch.setattr("indexer.run.index.prepare", interrupted)
        code, _, err = shell.run(*words)
    assert (code, shell.stored()) == (130, 0)
    assert err.startswith("Stopped: the database is unchanged. The same command resumes")
    assert err.count("\n") == 1
    assert shell.run(*words)[0] == 0
