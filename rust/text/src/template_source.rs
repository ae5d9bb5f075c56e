//! What transformers' environment accepts in a template's source and minijinja does not.

/// Copies a tag from `at` to behind `close`, with its string literals as minijinja reads them.
/// Returns where the copy ended.
fn copy_tag(source: &str, mut at: usize, close: &str, out: &mut String) -> usize {
    let mut quote = None;
    while let Some(c) = source[at..].chars().next() {
        if quote.is_none() && source[at..].starts_with(close) {
            out.push_str(close);
            return at + close.len();
        }
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (Some(_), '\\') => {
                at += copy_escape(&source[at..], out);
                continue;
            }
            _ => {}
        }
        out.push(c);
        at += c.len_utf8();
    }
    at
}

/// Writes the escape sequence that `text` begins with so that minijinja reads what Python does,
/// which knows some that minijinja does not, and no `\/`. Returns its length.
fn copy_escape(text: &str, out: &mut String) -> usize {
    let Some(c) = text[1..].chars().next() else {
        out.push('\\');
        return 1;
    };
    let code = text.get(2..10).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match (c, code.and_then(char::from_u32)) {
        ('U', Some(named)) => {
            out.push(named);
            return 10;
        }
        ('/', _) => out.push_str("\\\\/"),
        ('a', _) => out.push_str("\\x07"),
        ('v', _) => out.push_str("\\x0b"),
        ('\n', _) => {}
        _ => out.extend(['\\', c]),
    }
    1 + c.len_utf8()
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
    let mut at = 0;
    while let Some(brace) = source[at..].find('{').map(|found| at + found) {
        let inside = brace + 2;
        let kind = source.as_bytes().get(brace + 1);
        out.push_str(&source[at..=brace]);
        at = brace + 1;
        match kind {
            Some(b'#') => {
                let end = source[inside..].find("#}").map_or(source.len(), |end| inside + end + 2);
                out.push_str(&source[at..end]);
                at = end;
            }
            Some(b'{') => {
                out.push('{');
                at = copy_tag(&source, inside, "}}", &mut out);
            }
            Some(b'%') => {
                let (begin, name) = tag_name(&source, inside);
                out.push_str(&source[at..begin]);
                out.push_str(match name {
                    "generation" => "with",
                    "endgeneration" => "endwith",
                    _ => name,
                });
                at = copy_tag(&source, begin + name.len(), "%}", &mut out);
                if name == "raw" {
                    let end = raw_end(&source, at);
                    out.push_str(&source[at..end]);
                    at = end;
                }
            }
            _ => {}
        }
    }
    out.push_str(&source[at..]);
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
            "{{ \"\\\"{% generation %}\\n\\x41\\q\" }}",
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
    fn escapes_mean_what_python_reads() {
        assert_eq!(
            prepare(r"{{ '\/\a\v\U0001F600\U00zz' }} '\/'"),
            r"{{ '\\/\x07\x0b😀\U00zz' }} '\/'"
        );
        assert_eq!(prepare("{% set x = 'a\\\nb' %}{{ 'é\\"), "{% set x = 'ab' %}{{ 'é\\");
    }

    #[test]
    fn any_source_is_prepared_without_a_panic() {
        const PARTS: [&str; 16] = [
            "{",
            "}",
            "%",
            "#",
            "{%",
            "%}",
            "{{",
            "}}",
            "'",
            "\"",
            "\\",
            "é",
            " raw ",
            " endraw ",
            "-",
            "\\U0001F60",
        ];
        let mut state: u64 = 1;
        for _ in 0..20_000 {
            let mut source = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                source += PARTS[(state >> 60) as usize];
            }
            let prepared = prepare(&source);
            assert!(prepared.len() >= source.len() / 4, "{source}");
        }
    }

    #[test]
    fn line_ends_are_newlines() {
        assert_eq!(prepare("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
