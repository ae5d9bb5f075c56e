"""Conversations that every template renders or refuses."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a place; \"quotes\", <tags> & ünïcödé.",
        "parameters": {
            "type": "object",
            "required": ["location"],
            "properties": {
                "location": {"type": "string", "description": "City, country\n(both)"},
                "unit": {"enum": ["celsius", "fahrenheit"], "type": "string", "default": "celsius"},
                "items": {"type": "array", "items": {"type": "number", "minimum": -1.0, "maximum": 1e20}},
                "days": {"type": "integer", "maximum": 18446744073709551616, "default": 0, "nullable": True},
            },
            "additionalProperties": False,
        },
    },
}
TIME = {
    "function": {"parameters": {"properties": {}, "type": "object"}, "description": "", "name": "now"},
    "type": "function",
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, identifier="call00001"):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def cases():
    """(label, messages, tools, further variables)"""
    hello = [user("What is the capital of France?")]
    multi = [
        {"role": "system", "content": "You are terse.\n"},
        user("Hi"), assistant("Hello!"), user("  And now?  "), assistant("Still here. "), user("Bye"),
    ]
    calling = [
        {"role": "system", "content": "Use tools."},
        user("Weather in Paris?"),
        assistant(None, tool_calls=[call("get_weather", {"unit": "celsius", "location": "Paris, FR", "days": 1})]),
        {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"temp\": 21.50, \"sky\": \"clear\"}"},
        assistant("It is 21.5 °C and clear."),
        user("And in Tōkyō?"),
    ]
    pending = calling[:4]
    parallel = [
        user("Both cities"),
        assistant("", tool_calls=[
            call("get_weather", {"location": "A"}, "call0000a"), call("now", {}, "call0000b"),
        ]),
        {"role": "tool", "name": "get_weather", "tool_call_id": "call0000a", "content": "1"},
        {"role": "tool", "name": "now", "tool_call_id": "call0000b", "content": {"time": [1, 2.0, None, True, "x"]}},
    ]
    text_arguments = [
        user("x"), assistant("", tool_calls=[call("now", "{\"a\": 1}")]),
        {"role": "tool", "tool_call_id": "call00001", "content": "ok"},
    ]
    reasoning = [
        user("2+2?"), assistant("4", reasoning_content="Two and two\nmake four."), user("And 3+3?"),
        assistant("6", reasoning="Six."), user("Thanks"),
    ]
    inline_reasoning = [user("2+2?"), assistant("<think>\nhm\n</think>\n\n4"), user("ok")]
    parts = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]},
    ]
    unicode_text = [user("héllo 👨‍👩‍👧 \u200b\u2028 \t\x1f \"q\" 'a' \\ </s><|im_end|> {{ x }} {% y %} 我"), assistant("ç\r\nd")]
    return [
        ("one question", hello, None, {}),
        ("several turns", multi, None, {}),
        ("empty content", [user("")], None, {}),
        ("white space", [{"role": "system", "content": " \n "}, user("\n x \n"), assistant("\x1c y \x1f\u3000"), user("z")], None, {}),
        ("unicode", unicode_text, None, {}),
        ("tools offered", hello, [WEATHER, TIME], {}),
        ("tools offered, system", multi, [TIME, WEATHER], {}),
        ("no tools in the list", hello, [], {}),
        ("tool result answered", calling, [WEATHER], {}),
        ("tool result pending", pending, [WEATHER], {}),
        ("parallel calls", parallel, [WEATHER, TIME], {}),
        ("arguments as text", text_arguments, [TIME], {}),
        ("calls without tools", calling, None, {}),
        ("reasoning", reasoning, None, {}),
        ("reasoning inline", inline_reasoning, None, {}),
        ("thinking off", hello, None, {"enable_thinking": False}),
        ("thinking on", reasoning, None, {"enable_thinking": True}),
        ("date given", hello, [WEATHER], {"date_string": "26 Jul 2024", "tools_in_user_message": False}),
        ("content in parts", parts, None, {}),
        ("assistant first", [assistant("x"), user("y")], None, {}),
        ("two users", [user("a"), user("b")], None, {}),
        ("late system", [user("a"), {"role": "system", "content": "s"}], None, {}),
        ("unknown role", [{"role": "critic", "content": "no"}], None, {}),
        ("ends with assistant", [user("a"), assistant("prefix")], None, {}),
        ("no messages", [], None, {}),
        ("no content", [{"role": "user"}], None, {}),
        ("two calls at once", [user("a"), assistant("", tool_calls=[call("now", {}), call("now", {})])], [TIME], {}),
    ]
