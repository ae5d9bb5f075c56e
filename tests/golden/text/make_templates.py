"""Makes templates.json and expressions.json: text as Hugging Face transformers renders it.

    python make_templates.py MODEL.gguf

Made with transformers 5.23.0, jinja2 3.1.6, gguf 0.19.0, Python 3.11. The templates in templates/
are our own, in the style of the families they are named after; smollm2 is the GGUF's.
"""

import datetime
import json
import pathlib
import sys

import gguf
import jinja2
import transformers
from transformers.utils import chat_template_utils

import conversations
import expressions

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 11, 3, 8, 5, 9)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


class FrozenDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(source, messages, tools, arguments, add_generation_prompt):
    """What transformers makes of it: text, or the words of an exception, or None for another error."""
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], tools=tools, chat_template=source,
            add_generation_prompt=add_generation_prompt, **{**SPECIAL, **arguments})
        return {"text": rendered[0]}
    except jinja2.exceptions.UndefinedError:
        return {"error": None}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error.message) if type(error) is jinja2.exceptions.TemplateError else None}
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError):
        return {"error": None}


def compact(value):
    return None if value is None else json.dumps(value, ensure_ascii=False)


def write(name, value):
    made_with = {
        "transformers": transformers.__version__, "jinja2": jinja2.__version__,
        "script": pathlib.Path(__file__).name,
    }
    now = int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp())
    text = json.dumps({"made_with": made_with, "now": now, **SPECIAL, **value}, ensure_ascii=False, indent=0)
    (HERE / name).write_text(text + "\n")
    print(name, len(text))


def templates(gguf_path):
    reader = gguf.GGUFReader(gguf_path)
    out = {"smollm2": reader.fields["tokenizer.chat_template"].contents()}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        out[path.stem] = path.read_bytes().decode()
    return out


def main(gguf_path):
    chat_template_utils.datetime = FrozenDatetime
    talks = conversations.cases()
    results = {}
    for name, source in templates(gguf_path).items():
        results[name] = [
            [render(source, messages, tools, arguments, prompt) for prompt in (False, True)]
            for _, messages, tools, arguments in talks]
    write("templates.json", {
        "templates": templates(gguf_path),
        "conversations": [
            {"label": label, "messages": compact(messages), "tools": compact(tools),
             "arguments": compact(arguments) if arguments else None}
            for label, messages, tools, arguments in talks],
        "results": results,
    })
    flat = [r for rows in results.values() for pair in rows for r in pair]
    print(len(flat), "renderings,", sum("error" in r for r in flat), "raise")

    snippets = []
    for source in expressions.SOURCES:
        result = render(source, expressions.MESSAGES, expressions.TOOLS, expressions.ARGUMENTS, True)
        snippets.append({"source": source, **result})
    write("expressions.json", {
        "messages": compact(expressions.MESSAGES), "tools": compact(expressions.TOOLS),
        "arguments": compact(expressions.ARGUMENTS), "cases": snippets,
    })
    print(len(snippets), "expressions,", sum("error" in c for c in snippets), "raise")


if __name__ == "__main__":
    main(sys.argv[1])
