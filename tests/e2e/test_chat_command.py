"""`mlx-serving chat`, piped and in a terminal."""

import os
import pty
import re
import select
import subprocess
import time

from support.processes import binary, free_port, repository, wait_until
from support.server import FAR_TOO_MANY, Serve

QUESTION = "What is the capital of France?"


def command(server: Serve, *extra: str) -> list[str]:
    return [binary("mlx-serving"), "chat", "--url", server.base_url, *extra]


def run_piped(server: Serve, text: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(server, "--temperature", "0", "--max-tokens", "24"), input=text,
                          capture_output=True, text=True, timeout=120, cwd=repository())


def test_a_piped_question_gets_its_answer_on_stdout(server: Serve):
    ended = run_piped(server, f"{QUESTION}\n")

    assert ended.returncode == 0, ended.stderr
    assert "Paris" in ended.stdout


def test_history_is_kept_from_turn_to_turn(server: Serve):
    """The second turn's prompt holds the first turn: the access log shows the prompt tokens."""
    def chats() -> list[int]:
        return [one["prompt_tokens"] for one in server.access_log()
                if one["path"] == "/v1/chat/completions"]

    server.chat("Hi", max_tokens=1)
    wait_until("it is logged", lambda: len(chats()) > 0 and chats()[-1] < 35)
    before = len(chats())

    ended = run_piped(server, f"{QUESTION}\nAnd of Italy?\n/exit\n")

    assert ended.returncode == 0, ended.stderr
    wait_until("both turns are logged", lambda: len(chats()) == before + 2)
    assert chats()[-1] > chats()[-2] + 10, chats()


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, arguments: list[str]):
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(repository())
            os.environ["TERM"] = "xterm"
            os.execv(arguments[0], arguments)
        self.output = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, pattern: str, seconds: float = 120.0) -> None:
        """Until `pattern` is in what came since the call."""
        start = len(self.output)
        end = time.monotonic() + seconds
        while not re.search(pattern, self.output[start:]):
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come:\n{self.output}"
            try:
                block = os.read(self._master, 4096)
            except OSError:  # Linux reports the other side's end so.
                raise AssertionError(f"it ended:\n{self.output}") from None
            self.output += block.decode(errors="replace")

    def wait(self) -> int:
        try:
            while os.read(self._master, 4096):
                pass
        except OSError:
            pass
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_in_a_terminal_it_answers_and_ends_on_exit(server: Serve):
    terminal = Terminal(command(server, "--temperature", "0", "--max-tokens", "24"))
    terminal.type(f"{QUESTION}\n")
    terminal.read_until("Paris")

    terminal.type("/exit\n")

    assert terminal.wait() == 0


def test_an_answer_is_shown_as_it_comes_and_stopped_by_control_c(endless: Serve):
    terminal = Terminal(command(endless, "--max-tokens", str(FAR_TOO_MANY)))
    terminal.read_until("> ")
    terminal.type("Hi\n")
    terminal.read_until("[a-z ]{10}")  # Of an answer that has no end.

    terminal.type("\x03")

    terminal.read_until(r"\[stopped\]")
    terminal.type("/exit\n")
    assert terminal.wait() == 0


def test_control_d_ends_it(server: Serve):
    terminal = Terminal(command(server))

    terminal.type("\x04")

    assert terminal.wait() == 0


def test_a_server_that_is_not_there_is_said_plainly():
    port = free_port()

    ended = subprocess.run([binary("mlx-serving"), "chat", "--url", f"http://127.0.0.1:{port}/v1"],
                           input="Hi\n", capture_output=True, text=True, timeout=120)

    assert ended.returncode != 0
    assert f"127.0.0.1:{port}" in ended.stderr


def test_an_error_of_the_server_is_shown(server: Serve):
    ended = subprocess.run(command(server, "--model", "no-such-model"), input="Hi\n",
                           capture_output=True, text=True, timeout=120)

    assert ended.returncode != 0
    assert "no-such-model" in ended.stderr
