"""The rules of the tidy test. Each takes the files of a tree as {path: text} and yields its
findings as "path:line: what is wrong"; none reads the disk, so that made-up trees can be tried.
"""

import posixpath
import re
from typing import Callable, Iterator

Tree = dict[str, str]
Findings = Iterator[str]

LINES_MAX = 600

# Folder under src/ -> folders it may include. docs/architecture.md shows the same arrows.
MAY_INCLUDE = {
    "base": set(),
    "http": {"base"},
    "telemetry": {"base"},
    "config": {"base"},
    "hub": {"base"},
    "engine": {"base"},
    "api": {"base", "http"},
    "supervisor": {"base", "config", "http"},
    "gateway": {"base", "config", "http", "api", "telemetry"},
    "worker": {"base", "config", "http", "api", "telemetry", "engine", "hub"},
    "cli": {"base", "config", "http", "hub", "supervisor", "gateway"},
}
# Who may hold sockets. The gateway's control channel is one end of the supervisor's socket pair.
SOCKET_FOLDERS = ("src/http/", "src/gateway/upstream/", "src/gateway/control_channel",
                  "src/supervisor/", "src/worker/")
SOCKET_HEADERS = re.compile(
    r"<(boost/beast.*"
    r"|boost/asio/(ip/(?!address)\w+|local/.*|(basic_)?(stream_)?socket\w*|ssl.*)\.hpp"
    r"|sys/socket\.h|sys/un\.h|netinet/.*|arpa/inet\.h|netdb\.h)>")
RUST_HEADER = re.compile(r"mlxs_text\.h")
RUST_FOLDERS = ("src/engine/text/", "src/engine/sample/")
# Folders and files that must run where MLX does not, directly or through what they include.
WITHOUT_MLX = re.compile(r"src/engine/schedule/|src/engine/kv/block|src/engine/testing/"
                         r"|src/engine/(engine|runner|step|types)\.h$")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SOURCE = re.compile(r"\.(cpp|h)$")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(wo" r"rk|ro" r"ot|home/\w+|Users/\w+|tmp/\w)"
                          r"(?=[/\s\"'`)]|$)|\.\./sha" r"red/")
REQUIREMENT = re.compile(r"\bR-[A-Z]+-\d+\b")
TEXT = re.compile(r"\.(cpp|h|py|rs|sh|cmake|txt|md|yaml|yml|json|toml|in)$|(^|/)(Makefile|run)$")
FRAGMENT_FOLDERS = {"added", "changed", "fixed", "performance", "internals"}


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def includes(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, "<" or '"', and name of each include."""
    for match in INCLUDE.finditer(text):
        yield line_of(text, match.start()), match[1], match[2]


def own_sources(tree: Tree) -> Iterator[tuple[str, str]]:
    return ((path, text) for path, text in tree.items()
            if path.startswith("src/") and SOURCE.search(path))


def arrows_point_one_way(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        folder = path.split("/")[1]
        allowed = MAY_INCLUDE.get(folder)
        if allowed is None:
            yield f"{path}:1: no folder src/{folder}/ is known; its arrows belong into MAY_INCLUDE"
            continue
        for line, bracket, name in includes(text):
            target = name.split("/")[0]
            if bracket == '"' and target in MAY_INCLUDE and target != folder \
                    and target not in allowed:
                yield f"{path}:{line}: {folder}/ must not include {target}/"


def our_includes_exist(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        for line, bracket, name in includes(text):
            if bracket == '"' and not {f"src/{name}", name} & tree.keys() \
                    and not RUST_HEADER.search(name):
                yield f'{path}:{line}: "{name}" is no file of ours; others come in <>'


def only_the_engine_sees_mlx(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        for line, _, name in includes(text):
            if name.startswith("mlx/") and not path.startswith("src/engine/"):
                yield f"{path}:{line}: only engine/ includes MLX"


def _reached(tree: Tree, path: str) -> Iterator[tuple[str, str]]:
    """Every include reached from `path` through our own headers: (the file it stands in, name)."""
    seen = {path}
    queue = [path]
    while queue:
        at = queue.pop()
        for _, _, name in includes(tree[at]):
            yield at, name
            own = f"src/{name}"
            if own in tree and own not in seen:
                seen.add(own)
                queue.append(own)


def schedule_and_blocks_run_without_mlx(tree: Tree) -> Findings:
    for path, _ in own_sources(tree):
        if WITHOUT_MLX.search(path):
            for at, name in _reached(tree, path):
                if name.startswith("mlx/"):
                    yield f"{path}:1: reaches <{name}> through {at}"


def models_do_not_know_the_scheduler(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        if path.startswith("src/engine/models/"):
            for line, _, name in includes(text):
                if name.startswith("engine/schedule/"):
                    yield f"{path}:{line}: models/ must not include schedule/"


def the_rust_header_stays_in_text_and_sample(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        for line, _, name in includes(text):
            if RUST_HEADER.search(name) and not path.startswith(RUST_FOLDERS):
                yield f"{path}:{line}: only text/ and sample/ see the Rust header"


def sockets_stay_where_they_belong(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        if path.startswith(SOCKET_FOLDERS) or path.endswith("_test.cpp") or "/testing/" in path:
            continue
        for line, _, name in includes(text):
            if SOCKET_HEADERS.fullmatch(f"<{name}>"):
                yield f"{path}:{line}: <{name}> belongs to http/, upstream/, supervisor/, worker/"


def test_helpers_stay_in_tests(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        if path.endswith("_test.cpp") or "/testing/" in path:
            continue
        for line, _, name in includes(text):
            if "/testing/" in name:
                yield f"{path}:{line}: only tests include testing/"


def _listed(tree: Tree) -> dict[str, str]:
    """Paths that build files name, each with the text of the call that names it."""
    listed: dict[str, str] = {}
    for path, text in tree.items():
        if posixpath.basename(path) != "CMakeLists.txt" and not path.endswith(".cmake"):
            continue
        for call in re.finditer(r"(\w+)\s*\(([^()]*)\)", re.sub(r"#.*", "", text)):
            for word in call[2].replace('"', " ").split():
                if word.endswith(".cpp"):
                    word = re.sub(r"^\$\{(CMAKE|PROJECT)_SOURCE_DIR\}/", "/", word)
                    full = word[1:] if word.startswith("/") else posixpath.normpath(
                        posixpath.join(posixpath.dirname(path), word))
                    listed[full] = listed.get(full, "") + call[0] + "\n"
    return listed


def every_source_has_a_target(tree: Tree) -> Findings:
    listed = _listed(tree)
    for path in tree:
        if not path.endswith(".cpp"):
            continue
        if path not in listed:
            yield f"{path}:1: no CMakeLists.txt lists it"
        elif path.endswith("_test.cpp") and not re.search(
                r"mlxs_test|add_executable|target_sources", listed[path]):
            yield f"{path}:1: a test that no test program lists"


def co_await_takes_no_braced_temporaries(tree: Tree) -> Findings:
    """GCC 12 destroys a braced temporary among the arguments of an awaited call twice."""
    for path, text in own_sources(tree):
        for match in re.finditer(r"co_await\b[^;{}]*[(,]\s*(\w*(Error|Request|Response))?\{(?!\})",
                                 text):
            yield (f"{path}:{line_of(text, match.start())}: a braced temporary in a co_await; "
                   "name it first")


def headers_have_pragma_once(tree: Tree) -> Findings:
    for path, text in own_sources(tree):
        if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.MULTILINE):
            yield f"{path}:1: no #pragma once"


def files_stay_readable(tree: Tree) -> Findings:
    for path, text in tree.items():
        if re.search(r"\.(cpp|h|py|rs|sh)$", path) and (lines := text.count("\n")) > LINES_MAX:
            yield f"{path}:{LINES_MAX}: {lines} lines; at most {LINES_MAX}"


def no_tabs(tree: Tree) -> Findings:
    for path, text in tree.items():
        if re.search(r"\.(cpp|h|py|rs|cmake|txt|yaml|yml)$", path) and "\t" in text:
            yield f"{path}:{line_of(text, text.index(chr(9)))}: a tab"


def nothing_is_left_unfinished(tree: Tree) -> Findings:
    for path, text in tree.items():
        if TEXT.search(path) and not path.startswith("tests/golden/"):  # Texts to be tokenized.
            for match in UNFINISHED.finditer(text):
                yield f"{path}:{line_of(text, match.start())}: {match[0]}"


def no_machine_paths(tree: Tree) -> Findings:
    for path, text in tree.items():
        if TEXT.search(path):
            for match in MACHINE_PATH.finditer(text):
                yield f"{path}:{line_of(text, match.start())}: a path of one machine: {match[0]}"


def change_fragments_say_something(tree: Tree) -> Findings:
    for path, text in tree.items():
        parts = path.split("/")
        if parts[0] != "changes":
            continue
        if len(parts) != 3 or parts[1] not in FRAGMENT_FOLDERS or not path.endswith(".md"):
            yield f"{path}:1: not changes/FOLDER/NAME.md, FOLDER in {sorted(FRAGMENT_FOLDERS)}"
        elif len(text.split()) < 4:
            yield f"{path}:1: an empty fragment"


def cited_requirements_exist(tree: Tree) -> Findings:
    page = tree.get("docs/requirements.md", "")
    known = set(re.findall(r"^\|\s*(R-[A-Z]+-\d+)\s*\|\s*\S", page, re.MULTILINE))
    for path, text in tree.items():
        if re.match(r"(src|tests|rust)/", path) and re.search(r"\.(cpp|h|py|rs)$", path):
            for match in REQUIREMENT.finditer(text):
                if match[0] not in known:
                    yield (f"{path}:{line_of(text, match.start())}: {match[0]} is not in "
                           "docs/requirements.md")


METRIC = re.compile(r'"((?:mlx_|gen_ai_(?:server|client)_|vllm:)[a-z_0-9]+)"')


def metrics_are_documented(tree: Tree) -> Findings:
    page = tree.get("docs/metrics.md", "")
    for path, text in tree.items():
        if re.match(r"src/(gateway|worker)/", path) and not path.endswith("_test.cpp"):
            for match in METRIC.finditer(text):
                if f"`{match[1]}`" not in page:
                    yield (f"{path}:{line_of(text, match.start())}: {match[1]} is not in "
                           "docs/metrics.md")


RULES: list[Callable[[Tree], Findings]] = [
    arrows_point_one_way, our_includes_exist, only_the_engine_sees_mlx,
    schedule_and_blocks_run_without_mlx, models_do_not_know_the_scheduler,
    the_rust_header_stays_in_text_and_sample, sockets_stay_where_they_belong,
    test_helpers_stay_in_tests, every_source_has_a_target, co_await_takes_no_braced_temporaries,
    headers_have_pragma_once, files_stay_readable, no_tabs, nothing_is_left_unfinished,
    no_machine_paths, change_fragments_say_something, cited_requirements_exist,
    metrics_are_documented,
]
