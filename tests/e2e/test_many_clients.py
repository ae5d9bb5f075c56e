"""Many clients at once: all are served, together, and each gets the answer it would get alone."""

import concurrent.futures
import threading

from support.processes import wait_until
from support.server import FAR_TOO_MANY, Serve
from support.wire import text_of


def counting_from(first: int) -> str:
    """A prompt whose continuation leaves the model no doubt, different for every client."""
    return ", ".join(str(first + i) for i in range(5)) + ","


def test_16_clients_at_once_all_receive_tokens_together(endless: Serve):
    """Everybody gets tokens, though nobody's answer ever ends."""
    everybody = threading.Barrier(16)

    def run(client: int) -> None:
        with endless.stream_completion(counting_from(10 + client),
                                       max_tokens=FAR_TOO_MANY) as stream:
            chunks = stream.chunks()
            for _ in range(3):
                assert text_of(next(chunks))
            everybody.wait(120)  # None leaves before all have theirs.

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(16)))
    wait_until("nothing runs any more", lambda: endless.running_sequences() == 0)


def test_100_clients_at_once_all_complete_with_their_own_answer(server: Serve):
    """R-ENG-3 in the small: nobody gets another one's numbers, and nobody is refused."""
    start = threading.Barrier(100)

    def run(client: int) -> tuple[int, str]:
        start.wait()
        reply = server.complete(counting_from(100 + client), max_tokens=6)
        return reply.status, reply.json["choices"][0]["text"] if reply.status == 200 else reply.body

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        results = list(pool.map(run, range(100)))

    assert [status for status, _ in results] == [200] * 100, results
    for client, (_, text) in enumerate(results):
        assert text.startswith(f" {105 + client}, "), (client, text)
    wait_until("nothing runs any more", lambda: server.running_sequences() == 0)


def test_greedy_answers_under_load_are_those_given_alone(server: Serve):
    """R-ENG-2. Compared are openings with wide margins: where two logits nearly tie, float32
    arithmetic may order them differently in another batch shape."""
    prompts = ["The capital of France is", "The capital of Italy is", "Monday, Tuesday,",
               "January, February,", "a, b, c, d,", "2, 4, 6, 8,", "One, two, three,",
               "10, 9, 8, 7,"]

    def opening(prompt: str) -> str:
        return server.complete(prompt, max_tokens=5).json["choices"][0]["text"]

    alone = [opening(prompt) for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(opening, prompts * 2))

    assert together == alone * 2


def test_a_seed_makes_a_sampled_answer_repeatable(server: Serve):
    def sample(seed: int) -> str:
        reply = server.chat("Tell me something.", temperature=1.0, seed=seed, max_tokens=12)
        return reply.json["choices"][0]["message"]["content"]

    first = sample(7)

    assert sample(7) == first
    assert len({sample(seed) for seed in (7, 8, 9, 10)}) > 1


def test_without_a_seed_sampled_answers_differ(server: Serve):
    texts = {server.chat("Tell me a story about", temperature=1.5, max_tokens=12)
             .json["choices"][0]["message"]["content"] for _ in range(4)}

    assert len(texts) > 1
