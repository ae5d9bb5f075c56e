"""Fixtures of the tests that run the shipped binaries with the shipped configuration."""

import pathlib
import resource

import openai
import pytest

from support.foreign import ForeignServer
from support.server import Program, Serve, Worker


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory):
    """One server for everything that leaves it as it was."""
    with Serve(tmp_path_factory.mktemp("server")) as running:
        yield running.wait_ready()


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory):
    """A server whose answers last until somebody ends them."""
    with Serve(tmp_path_factory.mktemp("endless"), endless=True) as running:
        yield running.wait_ready()


@pytest.fixture(scope="session")
def worker_alone(tmp_path_factory: pytest.TempPathFactory):
    with Worker(tmp_path_factory.mktemp("worker")) as running:
        yield running.wait_ready()


@pytest.fixture
def start_server(tmp_path: pathlib.Path):
    """Starts servers of a test's own: start_server(config=…, sets=…). Not waited for."""
    started: list[Serve] = []

    def start(**options) -> Serve:
        started.append(Serve(tmp_path / f"server{len(started)}", **options))
        return started[-1]

    yield start
    for one in reversed(started):
        one.stop()


@pytest.fixture
def foreign_server():
    with ForeignServer() as running:
        yield running


@pytest.fixture
def client(server: Serve):
    """The official client, without its retries: a test wants to see every failure."""
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as one:
        yield one


@pytest.fixture(scope="session", autouse=True)
def many_descriptors():
    """Some tests hold a thousand connections; a shell's usual bound is about as much."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the last lines of every program that runs."""
    report = yield
    if report.failed:
        for program in Program.running:
            report.sections.append((f"log of {program.name} {program.pid}", program.log()[-6000:]))
    return report
