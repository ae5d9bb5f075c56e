#!/usr/bin/env python3
"""Checks what no compiler checks: which way includes point, that every source has a target, that
nothing unfinished or private is left. First tries every rule on made-up trees that break it.

Standard library only; run by ctest (label tidy) and by `make lint`.
"""

import pathlib
import subprocess
import sys

import rules

HERE = "tests/tidy/"  # The rules' own bad examples are no findings.
BINARY = {".gguf", ".png", ".safetensors", ".npz", ".npy"}


def read_repository(root: pathlib.Path) -> rules.Tree:
    """Every file that git tracks or would track; in an unpacked archive, every file."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True)
    if listing.returncode == 0:
        paths = [pathlib.Path(name) for name in listing.stdout.decode().split("\0") if name]
    else:
        skipped = {"build", ".git", "target"}
        paths = [path.relative_to(root) for path in root.rglob("*")
                 if not skipped & set(path.relative_to(root).parts)]
    paths = [path for path in sorted(set(paths)) if path.suffix not in BINARY
             and (root / path).is_file() and not path.as_posix().startswith(HERE)]
    return {path.as_posix(): (root / path).read_text(errors="replace") for path in paths}


REQUIREMENTS = "| R-ENG-1 | Greedy tokens equal the reference's. |\n"

# Rule, a tree that breaks it, a tree that does not.
EXAMPLES = [
    (rules.arrows_point_one_way, {"src/http/a.cpp": '#include "api/errors.h"\n'},
     {"src/api/a.cpp": '#include "http/message.h"\n'}),
    (rules.arrows_point_one_way, {"src/gateway/a.cpp": '#include "engine/engine.h"\n'},
     {"src/worker/a.cpp": '#include "engine/engine.h"\n'}),
    (rules.arrows_point_one_way, {"src/engine/a.h": '  #  include "http/server.h"\n'},
     {"src/engine/a.h": '#include "base/result.h"\n'}),
    (rules.arrows_point_one_way, {"src/brandnew/a.h": ""}, {"src/cli/a.h": ""}),
    (rules.our_includes_exist, {"src/base/a.cpp": '#include "vector.h"\n'},
     {"src/base/a.cpp": '#include "base/b.h"\n#include <vector>\n', "src/base/b.h": ""}),
    (rules.only_the_engine_sees_mlx, {"src/worker/a.cpp": "#include <mlx/mlx.h>\n"},
     {"src/engine/ops/a.cpp": "#include <mlx/mlx.h>\n"}),
    (rules.schedule_and_blocks_run_without_mlx,
     {"src/engine/schedule/a.h": '#include "engine/ops/b.h"\n',
      "src/engine/ops/b.h": '#include "engine/ops/c.h"\n',
      "src/engine/ops/c.h": "#include <mlx/array.h>\n"},
     {"src/engine/schedule/a.h": '#include "engine/step.h"\n', "src/engine/step.h": ""}),
    (rules.schedule_and_blocks_run_without_mlx,
     {"src/engine/kv/block_pool.cpp": "#include <mlx/array.h>\n"},
     {"src/engine/kv/pool_arrays.cpp": "#include <mlx/array.h>\n"}),
    (rules.models_do_not_know_the_scheduler,
     {"src/engine/models/llama.cpp": '#include "engine/schedule/scheduler.h"\n'},
     {"src/engine/models/llama.cpp": '#include "engine/ops/rope.h"\n'}),
    (rules.the_rust_header_stays_in_text_and_sample,
     {"src/worker/a.cpp": '#include "mlxs_text.h"\n'},
     {"src/engine/text/a.cpp": "#include <mlxs_text.h>\n"}),
    (rules.sockets_stay_where_they_belong,
     {"src/gateway/stages/a.cpp": "#include <boost/asio/ip/tcp.hpp>\n"},
     {"src/gateway/upstream/a.cpp": "#include <boost/asio/ip/tcp.hpp>\n",
      "src/gateway/stages/a.cpp": "#include <boost/asio/ip/address.hpp>\n"}),
    (rules.sockets_stay_where_they_belong, {"src/engine/a.cpp": "#include <sys/socket.h>\n"},
     {"src/supervisor/a.cpp": "#include <sys/socket.h>\n"}),
    (rules.sockets_stay_where_they_belong, {"src/api/a.h": "#include <boost/beast/http.hpp>\n"},
     {"src/http/a.h": "#include <boost/beast/http.hpp>\n"}),
    (rules.test_helpers_stay_in_tests,
     {"src/worker/a.cpp": '#include "engine/testing/fake_runner.h"\n'},
     {"src/worker/a_test.cpp": '#include "engine/testing/fake_runner.h"\n'}),
    (rules.every_source_has_a_target,
     {"src/a/b.cpp": "", "src/a/CMakeLists.txt": "mlxs_library(a SOURCES c.cpp)\n# b.cpp\n"},
     {"src/a/b.cpp": "", "src/a/CMakeLists.txt": "mlxs_library(a\n  SOURCES b.cpp # why\n)\n"}),
    (rules.every_source_has_a_target,
     {"src/a/b_test.cpp": "", "src/a/CMakeLists.txt": "mlxs_library(a SOURCES b_test.cpp)\n"},
     {"src/a/b_test.cpp": "", "src/CMakeLists.txt": "mlxs_test(t SOURCES a/b_test.cpp DEPS x)\n"}),
    (rules.co_await_takes_no_braced_temporaries,
     {"src/gateway/a.cpp": "co_await reply(exchange,\n  {ErrorCode::kNotFound, text()});\n"},
     {"src/gateway/a.cpp": "co_await reply(exchange, std::move(error), Milliseconds{5}, {});\n"
                           "const auto after = pair({1, 2});\n"}),
    (rules.co_await_takes_no_braced_temporaries,
     {"src/gateway/a.cpp": "co_await reply(Error{ErrorCode::kNotFound, text()});\n"},
     {"src/gateway/a.cpp": "co_return Error{ErrorCode::kNotFound, text()};\n"}),
    (rules.headers_have_pragma_once, {"src/base/a.h": "int a();\n"},
     {"src/base/a.h": "// Why.\n#pragma once\n"}),
    (rules.files_stay_readable, {"src/base/a.cpp": "\n" * 601}, {"src/base/a.cpp": "\n" * 600}),
    (rules.no_tabs, {"src/base/a.cpp": "\tint a;\n"}, {"Makefile": "a:\n\ttrue\n"}),
    (rules.nothing_is_left_unfinished, {"src/base/a.cpp": "// TO" "DO: more\n"},
     {"src/base/a.cpp": "// What is to do is done.\n"}),
    (rules.no_machine_paths, {"docs/a.md": "see /wo" "rk/main/x\n"},
     {"docs/a.md": "see docs/work/main and https://example.com/root/x\n"}),
    (rules.no_machine_paths, {"scripts/a.sh": "cd /ro" "ot\n"}, {"scripts/a.sh": "cd ./root/\n"}),
    (rules.no_machine_paths, {"README.md": "as ../sha" "red/DESIGN.md says\n"},
     {"README.md": "a shared/ folder\n"}),
    (rules.change_fragments_say_something, {"changes/fixed/a.md": "\n"},
     {"changes/fixed/a.md": "Retries stop after the first byte. Flag: none.\n"}),
    (rules.change_fragments_say_something, {"changes/odd/a.md": "One two three four five.\n"},
     {"docs/odd/a.md": ""}),
    (rules.cited_requirements_exist,
     {"src/base/a_test.cpp": "// R-ENG-" "2\n", "docs/requirements.md": REQUIREMENTS},
     {"src/base/a_test.cpp": "// R-ENG-" "1\n", "docs/requirements.md": REQUIREMENTS}),
    (rules.metrics_are_documented,
     {"src/worker/a.cpp": 'r.gauge("mlx_b", "");\n', "docs/metrics.md": "| `mlx_a` |\n"},
     {"src/worker/a.cpp": 'r.gauge("mlx_a", "");\n', "docs/metrics.md": "| `mlx_a` |\n"}),
]


def check_the_rules() -> list[str]:
    wrong = []
    for number, (rule, bad, good) in enumerate(EXAMPLES):
        if not list(rule(bad)):
            wrong.append(f"{rule.__name__} does not see bad example {number}")
        if found := list(rule(good)):
            wrong.append(f"{rule.__name__} complains of good example {number}: {found}")
    tried = {rule for rule, _, _ in EXAMPLES}
    wrong += [f"{rule.__name__} has no example" for rule in rules.RULES if rule not in tried]
    return wrong


def main() -> int:
    if wrong := check_the_rules():
        print("\n".join(wrong))
        return 1
    tree = read_repository(pathlib.Path(__file__).resolve().parents[2])
    findings = [finding for rule in rules.RULES for finding in rule(tree)]
    print("\n".join(findings) or f"tidy: {len(tree)} files, {len(rules.RULES)} rules, no findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
