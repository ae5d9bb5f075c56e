//! Values written as Python writes them: `str`, `repr` and `json.dumps`.

use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::{self, Write};
use std::sync::Arc;
use unicode_categories::UnicodeCategories;

/// An integer that no machine type holds, kept as its digits.
#[derive(Debug)]
pub struct BigInt(pub String);

impl Object for BigInt {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shortest digits that read back, exponent outside 1e-4 <= |x| < 1e16, as `repr(float)`.
fn write_float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("nan");
    } else if value.is_infinite() {
        out.push_str(if value < 0.0 { "-inf" } else { "inf" });
    } else {
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => out.push_str(&text),
            Some((mantissa, exponent)) => {
                let (sign, digits) =
                    exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
                let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
            }
        }
    }
}

fn float_of(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number && !value.is_integer())
        .then(|| f64::try_from(value.clone()).ok())
        .flatten()
}

/// Whether Python's `repr` writes the character itself (`str.isprintable`).
fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control() || c.is_other_format() || c.is_other_private_use() || c.is_separator())
}

fn write_str_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        let code = c as u32;
        let _ = match c {
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            _ if c == quote => write!(out, "\\{c}"),
            _ if is_printable(c) => out.write_char(c),
            _ if code <= 0xff => write!(out, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push(quote);
}

fn write_items(out: &mut String, value: &Value, brackets: (&str, &str)) -> Result<(), Error> {
    out.push_str(brackets.0);
    for (index, item) in value.try_iter()?.checked().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, &item?)?;
    }
    out.push_str(brackets.1);
    Ok(())
}

/// `repr(value)`
pub fn write_repr(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String => {
            write_str_repr(out, value.as_str().unwrap_or_default());
            Ok(())
        }
        ValueKind::Undefined => {
            out.push_str("Undefined");
            Ok(())
        }
        _ => write_str(out, value),
    }
}

/// `str(value)`
pub fn write_str(out: &mut String, value: &Value) -> Result<(), Error> {
    if let Some(float) = float_of(value) {
        write_float(out, float);
        return Ok(());
    }
    match value.kind() {
        ValueKind::Seq if value.is_tuple() => {
            let close = if value.len() == Some(1) { ",)" } else { ")" };
            write_items(out, value, ("(", close))
        }
        ValueKind::Seq | ValueKind::Iterable => write_items(out, value, ("[", "]")),
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?)?;
            }
            out.push('}');
            Ok(())
        }
        _ => {
            let _ = write!(out, "{value}");
            Ok(())
        }
    }
}

pub fn to_str(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_str(&mut out, value)?;
    Ok(out)
}

/// `json.dumps` with the arguments that transformers' `tojson` passes on.
pub struct JsonStyle {
    pub ensure_ascii: bool,
    /// What one level of depth is indented with; None puts everything on one line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

impl JsonStyle {
    fn newline(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    }

    fn write_string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            let _ = match c {
                '"' => out.write_str("\\\""),
                '\\' => out.write_str("\\\\"),
                '\n' => out.write_str("\\n"),
                '\r' => out.write_str("\\r"),
                '\t' => out.write_str("\\t"),
                '\u{8}' => out.write_str("\\b"),
                '\u{c}' => out.write_str("\\f"),
                '\0'..='\u{1f}' => write!(out, "\\u{:04x}", c as u32),
                _ if c.is_ascii() || !self.ensure_ascii => {
                    // DEL is ASCII and, as in Python, written as it is.
                    out.write_char(c)
                }
                _ => c
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .try_for_each(|unit| write!(out, "\\u{unit:04x}")),
            };
        }
        out.push('"');
    }

    fn write_key(&self, out: &mut String, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.write_string(out, key.as_str().unwrap_or_default()),
            ValueKind::Bool | ValueKind::None | ValueKind::Number => {
                out.push('"');
                self.write(out, key, 0)?;
                out.push('"');
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("keys must be str, int, float, bool or None, not {kind}"),
                ))
            }
        }
        Ok(())
    }

    pub fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Number => match float_of(value) {
                Some(float) if float.is_nan() => out.push_str("NaN"),
                Some(float) if float.is_infinite() => {
                    out.push_str(if float < 0.0 { "-Infinity" } else { "Infinity" })
                }
                Some(float) => write_float(out, float),
                None => {
                    let _ = write!(out, "{value}");
                }
            },
            ValueKind::Seq | ValueKind::Iterable => {
                out.push('[');
                let mut empty = true;
                for item in value.try_iter()?.checked() {
                    let item = item?;
                    if !empty {
                        out.push_str(&self.item_separator);
                    }
                    empty = false;
                    self.newline(out, depth + 1);
                    self.write(out, &item, depth + 1)?;
                }
                if !empty {
                    self.newline(out, depth);
                }
                out.push(']');
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                if self.sort_keys {
                    keys.sort();
                }
                out.push('{');
                for (index, key) in keys.iter().enumerate() {
                    if index > 0 {
                        out.push_str(&self.item_separator);
                    }
                    self.newline(out, depth + 1);
                    self.write_key(out, key)?;
                    out.push_str(&self.key_separator);
                    self.write(out, &value.get_item(key)?, depth + 1)?;
                }
                if !keys.is_empty() {
                    self.newline(out, depth);
                }
                out.push('}');
            }
            _ if value.downcast_object_ref::<BigInt>().is_some() => {
                let _ = write!(out, "{value}");
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("Object of type {kind} is not JSON serializable"),
                ))
            }
        }
        Ok(())
    }
}

/// What `str.strip` and `str.split` take for white space.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_does() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (1.5e300, "1.5e+300"),
        ] {
            assert_eq!(to_str(&Value::from(value)).unwrap(), expected);
        }
    }

    #[test]
    fn strings_in_lists_are_quoted_as_python_does() {
        let value = Value::from(vec!["it's", "\"it's\"", "a\u{200d}\n\u{1}b", "é"]);

        assert_eq!(to_str(&value).unwrap(), r#"["it's", '"it\'s"', 'a\u200d\n\x01b', 'é']"#);
    }
}
