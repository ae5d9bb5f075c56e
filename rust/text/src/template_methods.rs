//! Python's string and dict methods that pycompat lacks or treats differently.

use crate::python::{is_space, to_str};
use minijinja::value::{from_args, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

fn strings(parts: impl IntoIterator<Item = impl AsRef<str>>) -> Value {
    parts.into_iter().map(|part| Value::from(part.as_ref())).collect()
}

/// `str.strip` and its halves: white space, or any of `chars`.
pub fn strip(text: &str, chars: Option<&str>, left: bool, right: bool) -> Value {
    let matches = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(matches) } else { text };
    Value::from(if right { text.trim_end_matches(matches) } else { text })
}

fn empty_separator() -> Error {
    Error::new(ErrorKind::InvalidOperation, "empty separator")
}

/// `str.split(sep, maxsplit)`; a negative `limit` is none.
fn split(text: &str, separator: Option<&str>, limit: i64) -> Result<Value, Error> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if let Some(separator) = separator {
        if separator.is_empty() {
            return Err(empty_separator());
        }
        return Ok(strings(text.splitn(limit.saturating_add(1), separator)));
    }
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        // What is left behind the last split keeps its white space.
        let end = if parts.len() < limit { rest.find(is_space) } else { None };
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        parts.push(part);
        rest = after.trim_start_matches(is_space);
    }
    Ok(strings(parts))
}

fn rsplit(text: &str, separator: Option<&str>, limit: i64) -> Result<Value, Error> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    if let Some(separator) = separator {
        if separator.is_empty() {
            return Err(empty_separator());
        }
        parts.extend(text.rsplitn(limit.saturating_add(1), separator));
    } else {
        let mut rest = text.trim_end_matches(is_space);
        while !rest.is_empty() {
            let begin = if parts.len() < limit {
                rest.char_indices()
                    .rev()
                    .find(|(_, c)| is_space(*c))
                    .map(|(at, c)| at + c.len_utf8())
            } else {
                None
            };
            let (before, part) = rest.split_at(begin.unwrap_or(0));
            parts.push(part);
            rest = before.trim_end_matches(is_space);
        }
    }
    parts.reverse();
    Ok(strings(parts))
}

/// `str.splitlines`
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut begin = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let is_end = matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if !is_end {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && chars.next_if(|(_, next)| *next == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[begin..if keep_ends { end } else { at }]);
        begin = end;
    }
    if begin < text.len() {
        lines.push(&text[begin..]);
    }
    lines
}

/// `str.partition` (from the left) and `str.rpartition`.
fn partition(text: &str, separator: &str, from_right: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(empty_separator());
    }
    let found = if from_right { text.rfind(separator) } else { text.find(separator) };
    let parts = match found {
        Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// `text` in a field of `width`; `share` of the padding, of 2, goes before it.
fn justify(text: &str, width: i64, fill: Option<&str>, share: usize) -> Result<Value, Error> {
    // Longer fields have no use in a prompt, and a template may take the width from a message.
    const WIDTH_MAX: usize = 1 << 16;
    let width = usize::try_from(width).unwrap_or(0);
    if width > WIDTH_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, "the field is too wide"));
    }
    let missing = width.saturating_sub(text.chars().count());
    let before = match share {
        0 => 0,
        2 => missing,
        // CPython's choice for an odd remainder.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = fill.unwrap_or(" ");
    Ok(Value::from(fill.repeat(before) + text + &fill.repeat(missing - before)))
}

fn zero_fill(text: &str, width: i64) -> Result<Value, Error> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let padded = justify(digits, width - sign.len() as i64, Some("0"), 2)?;
    Ok(Value::from(format!("{sign}{padded}")))
}

/// `str.title`: a capital wherever a cased letter follows something else, apostrophes included.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_uppercase() || c.is_lowercase();
    }
    out
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let chars = |args| from_args::<(Option<&str>,)>(args);
    Some(match method {
        "strip" => chars(args).map(|(chars,)| strip(text, chars, true, true)),
        "lstrip" => chars(args).map(|(chars,)| strip(text, chars, true, false)),
        "rstrip" => chars(args).map(|(chars,)| strip(text, chars, false, true)),
        "split" | "rsplit" => from_args::<(Option<&str>, Option<i64>, minijinja::value::Kwargs)>(
            args,
        )
        .and_then(|(separator, limit, named)| {
            let separator = separator.map_or_else(|| named.get("sep"), |s| Ok(Some(s)))?;
            let limit = limit.map_or_else(|| named.get("maxsplit"), |l| Ok(Some(l)))?;
            named.assert_all_used()?;
            let split = if method == "split" { split } else { rsplit };
            split(text, separator, limit.unwrap_or(-1))
        }),
        "splitlines" => {
            from_args::<(Option<bool>, minijinja::value::Kwargs)>(args).and_then(|(keep, named)| {
                let keep: Option<bool> =
                    keep.map_or_else(|| named.get("keepends"), |k| Ok(Some(k)))?;
                named.assert_all_used()?;
                Ok(strings(lines(text, keep.unwrap_or(false))))
            })
        }
        "partition" | "rpartition" => from_args::<(&str,)>(args)
            .and_then(|(separator,)| partition(text, separator, method == "rpartition")),
        "removeprefix" => from_args::<(&str,)>(args)
            .map(|(prefix,)| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => from_args::<(&str,)>(args)
            .map(|(suffix,)| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        "ljust" => from_args::<(i64, Option<&str>)>(args)
            .and_then(|(width, fill)| justify(text, width, fill, 0)),
        "rjust" => from_args::<(i64, Option<&str>)>(args)
            .and_then(|(width, fill)| justify(text, width, fill, 2)),
        "center" => from_args::<(i64, Option<&str>)>(args)
            .and_then(|(width, fill)| justify(text, width, fill, 1)),
        "zfill" => from_args::<(i64,)>(args).and_then(|(width,)| zero_fill(text, width)),
        "index" => from_args::<(&str,)>(args).and_then(|(what,)| match text.find(what) {
            Some(at) => Ok(Value::from(text[..at].chars().count())),
            None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
        }),
        "title" => from_args::<()>(args).map(|()| Value::from(title(text))),
        "swapcase" => from_args::<()>(args).map(|()| {
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }),
        "join" => from_args::<(&Value,)>(args).and_then(|(items,)| {
            let mut parts = Vec::new();
            for item in items.try_iter()?.checked() {
                parts.push(to_str(&item?)?);
            }
            Ok(Value::from(parts.join(text)))
        }),
        _ => return None,
    })
}

/// What `value.method(args)` does where minijinja itself knows no such method.
pub fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            if let Some(result) = value.as_str().and_then(|text| string_method(text, method, args))
            {
                return result;
            }
        }
        ValueKind::Map if method == "copy" => return Ok(value.clone()),
        ValueKind::Seq if method == "copy" => return Ok(value.clone()),
        ValueKind::Seq if method == "index" => {
            let (what,): (&Value,) = from_args(args)?;
            for (index, item) in value.try_iter()?.checked().enumerate() {
                if item? == *what {
                    return Ok(Value::from(index));
                }
            }
            return Err(Error::new(ErrorKind::InvalidOperation, "value is not in list"));
        }
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, method, args)
}
