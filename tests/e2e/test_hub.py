"""Models from a hub: `mlx-serving pull`, and hub names as `models[].source`, by the shipped
binaries against a hub of our own."""

import os
import pathlib
import pty
import random
import re
import signal
import subprocess
import sys

import pytest

from support.hub import COMMIT, Hub
from support.processes import binary, repository, wait_until
from support.server import MODEL_FILE

REPOSITORY = "SmolLM/SmolLM2-135M-Instruct-GGUF"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE = f"{REPOSITORY}:{GGUF}"
SMALL = 4_000_000
TOKEN = "hf_abcdefghijklmnop"


def use(hub: Hub, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Leads every program that the test starts to `hub` and to a cache of the test's own."""
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    return hub


@pytest.fixture
def hub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """A hub with the default model in it."""
    model = (repository() / MODEL_FILE).read_bytes()
    with Hub(REPOSITORY, {GGUF: model, "README.md": b"a model"}) as running:
        yield use(running, tmp_path / "hf", monkeypatch)


@pytest.fixture
def small_hub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """A hub with files that nobody loads."""
    noise = random.Random(1)
    files = {GGUF: noise.randbytes(SMALL), "config.json": b"{}", "README.md": b"a model",
             "tokenizer.json": noise.randbytes(150_000), "tokenizer_config.json": b'{"a": 1}',
             "model.safetensors.index.json":
                 b'{"weight_map": {"a": "1-of-2.safetensors", "b": "2-of-2.safetensors"}}',
             "1-of-2.safetensors": noise.randbytes(200_000),
             "2-of-2.safetensors": noise.randbytes(300_000)}
    with Hub(REPOSITORY, files) as running:
        yield use(running, tmp_path / "hf", monkeypatch)


def run_pull(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary("mlx-serving"), "pull", *arguments],
                          capture_output=True, text=True, timeout=120)


def blob_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "hf/hub" / ("models--" + REPOSITORY.replace("/", "--")) / "blobs"


def config_of(source: str, **more: object) -> dict:
    return {"models": [{"id": "from-hub", "source": source, **more}]}


def test_pull_prints_where_the_model_is_and_how_to_serve_it(small_hub, tmp_path):
    ended = run_pull(SOURCE)

    assert ended.returncode == 0, ended.stderr
    path = pathlib.Path(re.search("^path +(.*)$", ended.stdout, re.MULTILINE)[1])
    assert path == blob_folder(tmp_path).parent / "snapshots" / COMMIT / GGUF
    assert path.read_bytes() == small_hub.files[GGUF]
    assert f'source: "{SOURCE}"' in ended.stdout
    assert "1 file, 4.00 MB, of which 4.00 MB came now" in ended.stdout
    assert small_hub.storage_requests[0][1] == f"/{GGUF}?Signature=secret"


def test_a_source_of_a_hub_is_pulled_and_served(hub, start_server):
    server = start_server(config=config_of(SOURCE, workers=2), model="from-hub").wait_ready()

    reply = server.chat("What is the capital of France?")

    assert reply.status == 200
    assert "Paris" in reply.json["choices"][0]["message"]["content"]
    assert server.admin("models")["models"][0]["source"] == SOURCE
    assert len(hub.storage_requests) == 1, "the two workers share one pull"


def test_a_cached_source_is_served_without_the_hub(hub, start_server, monkeypatch):
    assert run_pull(SOURCE).returncode == 0
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    server = start_server(config=config_of(SOURCE, workers=2), model="from-hub").wait_ready()

    server.check_alive()
    assert len(hub.requests) == asked


def test_a_pull_at_the_start_shows_how_far_it_is(hub, start_server):
    hub.hold_after = 10_000_000
    server = start_server(config=config_of(SOURCE), model="from-hub")

    def pull_state():
        workers = server.workers() if server.log().count("listening") else []
        return workers and workers[0]["live"].get("pull")
    assert hub.held.wait(90)
    state = wait_until("10 MB are there", lambda: (now := pull_state())
                       and now["bytes"] == 10_000_000 and now)
    assert state["bytes_total"] == len(hub.files[GGUF])
    hub.go_on.set()

    server.wait_ready().check_alive()
    assert pull_state() is None


@pytest.mark.parametrize("refuse,words", [
    ((401, "RepoNotFound"), "no repository"), ((403, "GatedRepo"), "accept its conditions")])
def test_a_refusal_is_a_failed_model_with_the_reason(
        hub, start_server, refuse, words):
    hub.refuse = refuse
    server = start_server(config=config_of(SOURCE), model="from-hub")
    state = wait_until("the worker has failed", lambda: server.log().count("Try it")
                       or server.log().count("no model can serve"))
    assert state

    reply = server.complete("x")

    assert reply.status == 503
    assert reply.error["code"] == "model_load_failed"
    assert words in reply.error["message"]


def test_offline_a_missing_model_fails_with_what_to_do(hub, start_server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server = start_server(config=config_of(SOURCE), model="from-hub")
    wait_until("the model is given up", lambda: "no model can serve" in server.log())

    reply = server.complete("x")

    assert f"mlx-serving pull {SOURCE}" in reply.error["message"]
    assert hub.requests == []


def test_config_check_says_what_is_cached(small_hub, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f'models: [ {{ id: m, source: "{SOURCE}" }} ]')

    def check() -> str:
        return subprocess.run([binary("mlx-serving"), "config", "check", "--config", str(config)],
                              capture_output=True, text=True, check=True).stdout
    before = check()
    assert run_pull(SOURCE).returncode == 0

    assert "m: not in the cache; `mlx-serving pull" in before
    assert f"m: in the cache at {tmp_path}/hf/hub/" in check()


def test_ctrl_c_and_sigkill_leave_what_has_come(small_hub, tmp_path):
    small_hub.hold_after = 1_000_000
    for number, status in [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]:
        small_hub.held.clear()
        running = subprocess.Popen([binary("mlx-serving"), "pull", SOURCE],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert small_hub.held.wait(90)
        incomplete = wait_until("the file is begun", lambda: list(
            blob_folder(tmp_path).glob("*.incomplete")))[0]
        size = 1_000_000 if number == signal.SIGINT else 2_000_000
        wait_until("all that was sent is on disk", lambda: incomplete.stat().st_size == size)
        running.send_signal(number)
        said = running.communicate(timeout=120)[1]
        assert running.returncode == status, said
        if number == signal.SIGINT:
            assert "goes on where this one ended" in said
    small_hub.hold_after = None
    small_hub.go_on.set()

    ended = run_pull(SOURCE)

    assert ended.returncode == 0, ended.stderr
    assert [asked[2].get("range") for asked in small_hub.storage_requests] == [
        None, "bytes=1000000-", "bytes=2000000-"]
    assert "2.00 MB came now" in ended.stdout


def test_a_broken_transfer_goes_on(small_hub):
    small_hub.cut_after = 3_000_000

    ended = run_pull(SOURCE)

    assert ended.returncode == 0, ended.stderr
    assert "trying again" in ended.stderr
    assert small_hub.storage_requests[-1][2]["range"] == "bytes=3000000-"


def test_the_token_is_sent_to_the_hub_only_and_never_shown(
        small_hub, tmp_path, monkeypatch):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/token").write_text(TOKEN + "\n")
    good = run_pull(SOURCE)
    small_hub.refuse = (401, "")
    refused = run_pull(SOURCE)

    assert good.returncode == 0
    assert refused.returncode == 1
    assert "does not accept the token" in refused.stderr
    assert TOKEN not in good.stdout + good.stderr + refused.stdout + refused.stderr
    assert {asked[2].get("authorization") for asked in small_hub.requests} == {f"Bearer {TOKEN}"}
    assert all("authorization" not in asked[2] for asked in small_hub.storage_requests)


def test_jobs_is_a_number_and_a_model_is_a_name(small_hub):
    assert run_pull(SOURCE, "--jobs", "0").returncode == 2
    wrong = run_pull("./a/path")
    assert wrong.returncode == 2
    assert "ORG/NAME@REVISION" in wrong.stderr


def test_plain_lines_go_to_a_file_and_a_bar_to_a_terminal(small_hub, tmp_path):
    small_hub.hold_after = SMALL // 2
    leader, follower = pty.openpty()
    running = subprocess.Popen([binary("mlx-serving"), "pull", SOURCE],
                               stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    shown = b""
    while b"2.00 MB of 4.00 MB" not in shown:
        shown += os.read(leader, 4096)
    small_hub.go_on.set()

    assert running.wait(120) == 0
    assert b"[============            ] 2.00 MB of 4.00 MB, 50 %" in shown
    os.close(leader)
    assert "\r" not in run_pull(SOURCE).stderr


def official(code: str) -> str:
    """Runs `code` with the hub's own library as `h`; what it prints."""
    ended = subprocess.run([sys.executable, "-c", "import huggingface_hub as h\n" + code],
                           env={**os.environ, "HF_HUB_DISABLE_XET": "1"},
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_hubs_own_library_finds_what_we_pulled(small_hub, monkeypatch):
    pulled = run_pull(REPOSITORY)
    assert pulled.returncode == 0, pulled.stderr
    scanned = official("info = h.scan_cache_dir()\nprint(info.warnings, *[(r.nb_files, *[set(v.refs)"
                       " for v in r.revisions]) for r in info.repos])")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = official(f"print(h.snapshot_download('{REPOSITORY}'))")

    assert f"path    {found}\n" in pulled.stdout
    assert scanned == "[] (6, {'main'})"


def test_we_find_what_the_hubs_own_library_downloaded(small_hub, monkeypatch):
    found = official(f"print(h.snapshot_download('{REPOSITORY}'))")
    online = run_pull(REPOSITORY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = run_pull(REPOSITORY)

    assert "of which 0 B came now" in online.stdout
    assert f"path    {found}\n" in online.stdout
    assert f"path    {found}\n" in offline.stdout
