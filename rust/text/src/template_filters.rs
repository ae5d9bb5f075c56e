//! Filters and tests where jinja2 and minijinja, or transformers and jinja2, differ.

use crate::python::{is_space, to_str, BigInt, JsonStyle};
use crate::template_methods::{lines, strip};
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error};
use minijinja_contrib::globals;

/// A positional argument, or the one of that name.
fn argument(args: &[Value], index: usize, named: &Kwargs, name: &str) -> Result<Value, Error> {
    match args.get(index) {
        Some(value) => Ok(value.clone()),
        None => Ok(named.get::<Option<Value>>(name)?.unwrap_or_default()),
    }
}

/// `json.dumps` with transformers' arguments: ensure_ascii, indent, separators, sort_keys.
fn tojson(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let ensure_ascii = argument(&args, 0, &named, "ensure_ascii")?.is_true();
    let indent = argument(&args, 1, &named, "indent")?;
    let separators = argument(&args, 2, &named, "separators")?;
    let sort_keys = argument(&args, 3, &named, "sort_keys")?.is_true();
    named.assert_all_used()?;
    let indent = match indent.kind() {
        ValueKind::None | ValueKind::Undefined => None,
        ValueKind::String => Some(indent.to_string()),
        _ => {
            // Templates are written by hand: none indents further than this.
            let width = indent.as_i64().unwrap_or(0).clamp(0, 64);
            Some(" ".repeat(width as usize))
        }
    };
    let (item_separator, key_separator) = if separators.is_none() || separators.is_undefined() {
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned())
    } else {
        (to_str(&separators.get_item_by_index(0)?)?, to_str(&separators.get_item_by_index(1)?)?)
    };
    let style = JsonStyle { ensure_ascii, indent, item_separator, key_separator, sort_keys };
    let mut out = String::new();
    style.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

fn trim(value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    Ok(strip(&to_str(value)?, chars, true, true))
}

fn default(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let other = argument(&args, 0, &named, "default_value")?;
    let boolean = argument(&args, 1, &named, "boolean")?.is_true();
    named.assert_all_used()?;
    if value.is_undefined() || (boolean && !value.is_true()) {
        return Ok(if other.is_undefined() { Value::from("") } else { other });
    }
    Ok(value.clone())
}

/// What Python's `float` makes of `value`, where it does not raise.
fn to_float(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => value.as_str()?.trim_matches(is_space).replace('_', "").parse().ok(),
        _ => None,
    }
}

fn int(value: &Value, default: Option<Value>) -> Value {
    if value.is_integer() {
        return value.clone();
    }
    let text = value.as_str().map(|text| text.trim_matches(is_space).replace('_', ""));
    if let Some(whole) = text.and_then(|text| text.parse::<i128>().ok()) {
        return Value::from(whole);
    }
    match to_float(value) {
        Some(float) if float.is_finite() => Value::from(float.trunc() as i128),
        _ => default.unwrap_or_else(|| Value::from(0)),
    }
}

fn float(value: &Value, default: Option<Value>) -> Value {
    to_float(value).map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from)
}

fn indent(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let width = argument(&args, 0, &named, "width")?;
    let first = argument(&args, 1, &named, "first")?.is_true();
    let blank = argument(&args, 2, &named, "blank")?.is_true();
    named.assert_all_used()?;
    let prefix = match width.kind() {
        ValueKind::String => width.to_string(),
        ValueKind::Undefined => " ".repeat(4),
        _ => " ".repeat(width.as_i64().unwrap_or(0).clamp(0, 64) as usize),
    };
    let text = to_str(value)? + "\n";
    let mut out = String::new();
    for (index, line) in lines(&text, false).into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let wanted = if index == 0 { first } else { blank || !line.is_empty() };
        if wanted {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

fn escape(value: &Value) -> Result<Value, Error> {
    let text = to_str(value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    Ok(Value::from(out))
}

/// jinja2's tests are wider than minijinja's: anything with a length and items is a sequence.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map
    )
}

/// minijinja can iterate over none, Python cannot.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// Python's booleans are numbers.
fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain && value.downcast_object_ref::<BigInt>().is_none()
}

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    globals::cycler(items.0)
}

pub fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| to_str(value));
    environment.add_filter("trim", trim);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("indent", indent);
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, escape);
    }
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_test("number", is_number);
    environment.add_test("callable", is_callable);
    environment.add_function("cycler", cycler);
    environment.add_function("joiner", globals::joiner);
}
