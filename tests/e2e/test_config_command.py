"""`mlx-serving config show`, `--defaults`, `--set`, `version`, and errors that name their place."""

import os
import subprocess

import pytest

from support.processes import binary, repository
from support.server import DEFAULT_CONFIG, MODEL


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary("mlx-serving"), *arguments], capture_output=True, text=True,
                          timeout=120, cwd=repository(), env={**os.environ, **environment})


def test_config_show_prints_the_configuration_in_force():
    shown = run("config", "show", "--config", DEFAULT_CONFIG)

    assert shown.returncode == 0, shown.stderr
    assert MODEL in shown.stdout and "127.0.0.1:8080" in shown.stdout


def test_config_check_says_whether_a_file_is_right(tmp_path):
    (tmp_path / "wrong.yaml").write_text("models: 7\n")

    assert run("config", "check", "--config", DEFAULT_CONFIG).returncode == 0
    assert run("config", "check", "--config", str(tmp_path / "wrong.yaml")).returncode != 0


def test_config_show_defaults_lists_every_key():
    shown = run("config", "show", "--defaults")

    assert shown.returncode == 0, shown.stderr
    for key in ("listen", "admin", "threads", "keys", "allowed_hosts", "head_read_ms",
                "body_bytes", "in_flight", "worker_wait_ms", "drain_ms", "max_sequences",
                "step_tokens", "waiting", "compute", "access"):
        assert key in shown.stdout, key


def test_what_config_show_prints_can_be_read_back(tmp_path):
    first = run("config", "show", "--config", DEFAULT_CONFIG, "--set", "limits.in_flight=77")
    (tmp_path / "again.yaml").write_text(first.stdout)

    second = run("config", "show", "--config", str(tmp_path / "again.yaml"))

    assert second.stdout == first.stdout
    assert "77" in first.stdout


def test_set_reaches_into_lists_and_takes_units():
    shown = run("config", "show", "--config", DEFAULT_CONFIG, "--set", "models[0].workers=3",
                "--set", "limits.body_bytes=2MiB", "--set", "models[0].batch.max_sequences=9")

    assert shown.returncode == 0, shown.stderr
    assert "workers: 3" in shown.stdout and "max_sequences: 9" in shown.stdout


@pytest.mark.parametrize("line,names", [
    ("limmits: { in_flight: 1 }", "limmits"),
    ("limits: { in_flite: 1 }", "in_flite"),
    ("limits: { in_flight: many }", "in_flight"),
    ("limits: { in_flight: -1 }", "in_flight"),
    ("limits: { body_bytes: 8 parsecs }", "body_bytes"),
    ("listen: nowhere", "listen"),
    ("listen: 127.0.0.1:99999", "listen"),
    ("keys: [ { name: a, sha256: tooshort } ]", "sha256"),
    ("threads: [1]", "threads"),
])
def test_a_fault_is_named_by_file_line_and_key(tmp_path, line: str, names: str):
    file = tmp_path / "faulty.yaml"
    file.write_text(f"# first line\nlog: {{ level: info }}\n{line}\n"
                    "models: [ { id: a, source: b } ]\n")

    for command in (("config", "show"), ("serve",)):
        shown = run(*command, "--config", str(file))

        assert shown.returncode not in (0, -6, -11), shown.stderr
        assert f"{file}:3:" in shown.stderr, shown.stderr
        assert names in shown.stderr


@pytest.mark.parametrize("override", ["no.such.key=1", "limits.in_flight=x", "models[7].workers=1",
                                      "limits", "=1", "models[x].workers=1"])
def test_a_wrong_override_is_an_error_that_names_it(override: str):
    shown = run("config", "show", "--config", DEFAULT_CONFIG, "--set", override)

    assert shown.returncode not in (0, -6, -11)
    assert override.split("=")[0].split(".")[0] in shown.stderr


def test_what_is_not_yaml_is_an_error_that_names_the_place(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("models: [\n  { id: a\n")

    shown = run("config", "show", "--config", str(file))

    assert shown.returncode not in (0, -6, -11)
    assert "broken.yaml" in shown.stderr


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    for command in (("config", "show"), ("serve",)):
        shown = run(*command, "--config", str(tmp_path / "nowhere.yaml"))

        assert shown.returncode not in (0, -6, -11)
        assert "nowhere.yaml" in shown.stderr


def test_listening_beyond_loopback_without_keys_is_refused_unless_allowed():
    refused = run("serve", "--config", DEFAULT_CONFIG, "--listen", "0.0.0.0:0")

    assert refused.returncode not in (0, -6, -11)
    assert "keys" in refused.stderr and "allow_unauthenticated" in refused.stderr

    allowed = run("config", "show", "--config", DEFAULT_CONFIG, "--set", "listen=0.0.0.0:8080",
                  "--set", "allow_unauthenticated=true")
    assert allowed.returncode == 0, allowed.stderr


def test_a_secret_comes_from_the_environment_and_is_not_shown(tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("keys: [ { name: a, key: '${TEST_KEY_OF_A}' } ]\n"
                    "models: [ { id: a, source: b } ]\n")

    shown = run("config", "show", "--config", str(file), TEST_KEY_OF_A="sk-very-secret")
    missing = run("config", "show", "--config", str(file), OTHER="x")

    assert shown.returncode == 0, shown.stderr
    assert "sk-very-secret" not in shown.stdout
    assert missing.returncode != 0 and "TEST_KEY_OF_A" in missing.stderr


def test_version_and_help():
    assert run("version").stdout.strip()
    assert "serve" in run("--help").stdout
    unknown = run("no-such-command")
    assert unknown.returncode not in (0, -6, -11)
