//! What transformers' environment accepts in a template's source and minijinja does not.

/// Where the scan stands inside a tag.
fn skip_tag(source: &str, mut at: usize, close: &str) -> usize {
    let bytes = source.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            _ if source.as_bytes()[at..].starts_with(close.as_bytes()) => return at + close.len(),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The tag's first word and where it stands in `source`; `at` is just behind `{%`.
fn tag_name(source: &str, at: usize) -> (usize, &str) {
    let rest = &source[at..];
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start();
    let length =
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    (source.len() - rest.len(), &rest[..length])
}

/// The source as minijinja shall read it.
///
/// Line ends become `\n`, as in Jinja's lexer. `{% generation %}`, which transformers uses to find
/// the assistant's words in training and which renders its body, becomes `{% with %}`: like the
/// call block that transformers makes of it, it renders its body in a scope of its own.
pub fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut at = 0;
    while let Some(brace) = source[at..].find('{').map(|found| at + found) {
        let inside = brace + 2;
        match source.as_bytes().get(brace + 1) {
            Some(b'#') => {
                at = source[inside..].find("#}").map_or(source.len(), |end| inside + end + 2)
            }
            Some(b'{') => at = skip_tag(&source, inside, "}}"),
            Some(b'%') => {
                let (begin, name) = tag_name(&source, inside);
                let replacement = match name {
                    "generation" => "with",
                    "endgeneration" => "endwith",
                    _ => name,
                };
                out.push_str(&source[copied..begin]);
                out.push_str(replacement);
                copied = begin + name.len();
                let raw = name == "raw";
                at = skip_tag(&source, copied, "%}");
                if raw {
                    at = raw_end(&source, at);
                }
            }
            _ => at = brace + 1,
        }
    }
    out.push_str(&source[copied..]);
    out
}

/// Where `{% endraw %}` begins, at or behind `at`.
fn raw_end(source: &str, mut at: usize) -> usize {
    while let Some(found) = source[at..].find("{%") {
        if tag_name(source, at + found + 2).1 == "endraw" {
            return at + found;
        }
        at += found + 2;
    }
    source.len()
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn generation_becomes_a_scope_of_its_own() {
        assert_eq!(
            prepare("a{%- generation -%}b{% endgeneration +%}c"),
            "a{%- with -%}b{% endwith +%}c"
        );
    }

    #[test]
    fn only_tags_are_touched() {
        for same in [
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% set x = '%}{% generation %}' %}",
            "{% generations %}",
            "{ % generation % }",
            "{{ \"\\\"{% generation %}\" }}",
            "{%",
            "{{ '",
            "{#",
            "{% raw %}{% generation",
            "{",
            "é{é",
        ] {
            assert_eq!(prepare(same), same);
        }
    }

    #[test]
    fn line_ends_are_newlines() {
        assert_eq!(prepare("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
