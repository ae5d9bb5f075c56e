//! JSON text into template values as Python's `json.loads` makes them: keys in their order, the
//! last of equal keys wins, integers of any size stay integers.

use crate::error::{Error, Result};
use crate::python::BigInt;
use minijinja::Value;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Deeper nesting than any client sends; each level is scanned once more than the one above.
const DEPTH_MAX: usize = 64;
/// Python refuses to print longer integers.
const DIGITS_MAX: usize = 4300;

/// An object's entries with their values unread.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor).map(Entries)
    }
}

fn number(text: &str) -> Result<Value> {
    if text.contains(['.', 'e', 'E']) {
        let float: f64 = text.parse().map_err(|e| Error::invalid(format!("{text}: {e}")))?;
        return Ok(Value::from(float));
    }
    if let Ok(small) = text.parse::<i64>() {
        return Ok(Value::from(small));
    }
    if let Ok(wide) = text.parse::<i128>() {
        return Ok(Value::from(wide));
    }
    if text.len() > DIGITS_MAX {
        return Err(Error::invalid(format!("an integer of more than {DIGITS_MAX} digits")));
    }
    Ok(Value::from_object(BigInt(text.to_owned())))
}

fn value(raw: &RawValue, depth: usize) -> Result<Value> {
    let text = raw.get();
    let failed = |e: serde_json::Error| Error::invalid(e.to_string());
    if depth > DEPTH_MAX {
        return Err(Error::invalid(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    Ok(match text.as_bytes()[0] {
        b'{' => {
            let entries: Entries = serde_json::from_str(text).map_err(failed)?;
            let mut pairs = Vec::with_capacity(entries.0.len());
            for (key, raw) in entries.0 {
                pairs.push((key, value(raw, depth + 1)?));
            }
            Value::from_pairs(pairs)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            let items: Result<Vec<Value>> =
                items.into_iter().map(|raw| value(raw, depth + 1)).collect();
            Value::from(items?)
        }
        b'"' => Value::from(serde_json::from_str::<String>(text).map_err(failed)?),
        b't' => Value::from(true),
        b'f' => Value::from(false),
        b'n' => Value::from(()),
        _ => number(text)?,
    })
}

/// `what` names the text in errors.
pub fn parse(text: &str, what: &str) -> Result<Value> {
    let raw: &RawValue = serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("{what} is not valid JSON: {e}")))?;
    value(raw, 1).map_err(|e| Error::invalid(format!("{what}: {}", e.message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::to_str;

    #[test]
    fn keeps_order_numbers_and_the_last_of_equal_keys() {
        let text = r#"{"z":1,"a":[1.0,1e20,-0,18446744073709551616,1E2],"z":"\u00e9\ud83d\ude00",
            "big":1234567890123456789012345678901234567890123}"#;

        let value = parse(text, "test").unwrap();

        assert_eq!(
            to_str(&value).unwrap(),
            "{'z': 'é😀', 'a': [1.0, 1e+20, 0, 18446744073709551616, 100.0], \
             'big': 1234567890123456789012345678901234567890123}"
        );
    }

    #[test]
    fn refuses_what_is_not_json_and_what_is_too_deep() {
        assert!(parse("[1,]", "messages").unwrap_err().message.contains("messages"));
        assert!(parse("", "messages").is_err());
        assert!(parse("[NaN]", "messages").is_err());
        assert!(parse("[\"\\ud800\"]", "messages").is_err());
        assert!(parse(&("[".repeat(65) + &"]".repeat(65)), "messages").is_err());
        assert!(parse(&("[".repeat(64) + &"]".repeat(64)), "messages").is_ok());
    }
}
