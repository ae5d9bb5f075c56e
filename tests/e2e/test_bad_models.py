"""Model files that cannot be loaded: a clear message, and everything else goes on."""

import pathlib
import re
import signal
import struct
import subprocess

import pytest

from support.processes import binary, repository, wait_until
from support.server import MODEL, MODEL_FILE, Serve, completion_body

EX_CONFIG = 78
NO_MODEL_IN_FOLDER = re.compile(r"(config|tokenizer)\.json: ")


def good_bytes() -> bytes:
    return (repository() / MODEL_FILE).read_bytes()


def run_worker(source: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run([binary("mlx-serving-worker"), "--source", str(source),
                           "--listen", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=120, cwd=repository())


def cut(size: int):
    return lambda whole: whole[:size]


def overwritten(offset: int, patch: bytes):
    return lambda whole: whole[:offset] + patch + whole[offset + len(patch):]


DAMAGES = {
    "empty": cut(0),
    "cut in the magic": cut(3),
    "cut in the header": cut(20),
    "cut in the metadata": cut(50_000),
    "cut before the tensors": cut(1_800_000),
    "cut in the middle of a tensor": cut(40_000_000),
    "cut by its last byte": lambda whole: whole[:-1],
    "another magic": overwritten(0, b"GGML"),
    "a version from the future": overwritten(4, struct.pack("<I", 99)),
    "too many tensors": overwritten(8, struct.pack("<Q", 2**60)),
    "too many metadata entries": overwritten(16, struct.pack("<Q", 2**60)),
    "an endless key": overwritten(24, struct.pack("<Q", 2**62)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_clear_message_and_exit_code_78(damage: str, tmp_path: pathlib.Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(DAMAGES[damage](good_bytes()))

    ended = run_worker(broken)

    assert ended.returncode == EX_CONFIG, ended.stderr
    assert "broken.gguf" in ended.stderr.splitlines()[-1], ended.stderr
    broken.unlink()


def test_a_missing_file_is_a_clear_message(tmp_path: pathlib.Path):
    ended = run_worker(tmp_path / "nowhere.gguf")

    assert ended.returncode == EX_CONFIG
    assert "nowhere.gguf" in ended.stderr.splitlines()[-1]


def test_a_folder_without_a_model_is_a_clear_message(tmp_path: pathlib.Path):
    (tmp_path / "model").mkdir()

    ended = run_worker(tmp_path / "model")

    assert ended.returncode == EX_CONFIG
    assert NO_MODEL_IN_FOLDER.search(ended.stderr.splitlines()[-1]), ended.stderr


def test_a_folder_without_config_json_is_a_clear_message(tmp_path: pathlib.Path):
    (tmp_path / "tokenizer.json").write_bytes(
        (repository() / "tests/golden/text/small/byte_level.json").read_bytes())

    ended = run_worker(tmp_path)

    assert ended.returncode == EX_CONFIG
    assert "config.json" in ended.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def mixed_server(tmp_path_factory: pytest.TempPathFactory):
    """One good model beside three that cannot be loaded."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "cut.gguf").write_bytes(good_bytes()[:5_000_000])
    (folder / "empty-folder").mkdir()
    with Serve(folder / "server", config={"models": [
            {"id": MODEL, "source": MODEL_FILE},
            {"id": "cut", "source": str(folder / "cut.gguf")},
            {"id": "missing", "source": str(folder / "missing.gguf")},
            {"id": "empty-folder", "source": str(folder / "empty-folder")}]}) as running:
        running.wait_ready().check_alive()
        yield running


@pytest.mark.parametrize("model,words", [("cut", "cut.gguf"), ("missing", "missing.gguf"),
                                         ("empty-folder", ".json: ")])
def test_a_broken_model_is_a_503_that_no_retry_helps_while_the_others_go_on(
        mixed_server: Serve, model: str, words: str):
    reply = mixed_server.post("/v1/completions", completion_body(model, "Hi", max_tokens=1))

    assert reply.status == 503
    assert reply.error["code"] == "model_load_failed"
    assert words in reply.error["message"]
    assert reply.headers["x-should-retry"] == "false"
    mixed_server.check_alive()


def test_the_admin_api_says_which_worker_failed_and_why(mixed_server: Serve):
    failed = {one["model"]: one for one in mixed_server.workers() if one["state"] == "failed"}

    assert failed.keys() == {"cut", "missing", "empty-folder"}
    assert "cut.gguf" in failed["cut"]["error"]


def test_a_broken_model_is_not_restarted_until_sighup(mixed_server: Serve):
    before = mixed_server.log().count("missing.gguf")
    restarts = [one["restarts"] for one in mixed_server.workers()]
    mixed_server.check_alive()
    assert [one["restarts"] for one in mixed_server.workers()] == restarts

    mixed_server.send(signal.SIGHUP)

    wait_until("it is tried again", lambda: mixed_server.log().count("missing.gguf") > before)
    mixed_server.check_alive()
