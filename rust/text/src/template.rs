//! Chat templates, rendered as Hugging Face transformers renders them.

use crate::error::{Error, Result};
use crate::json;
use crate::python::{to_str, write_str};
use crate::strftime::strftime;
use crate::template_filters;
use crate::template_methods;
use crate::template_source::prepare;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, ErrorKind};
use std::fmt;

/// Steps of the template machine in one rendering. A long conversation takes some ten thousand;
/// loops within loops over a hostile one end here instead of holding a thread.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat_template";

pub struct Template {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

pub struct Input<'a> {
    pub messages: &'a str,
    /// Empty: none.
    pub tools: &'a str,
    /// Empty: none.
    pub arguments: &'a str,
    pub add_generation_prompt: bool,
    /// Seconds since 1970, UTC.
    pub now: i64,
}

/// Marks an error as what the template itself chose to say.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &Value) -> std::result::Result<Value, minijinja::Error> {
    let message = to_str(message)?;
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.clone())
        .with_source(Raised(message)))
}

/// The words given to `raise_exception`, else the engine's with the line.
fn explain(error: &minijinja::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut line = None;
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return raised.0.clone();
        }
        if let Some(inner) = current.downcast_ref::<minijinja::Error>() {
            line = inner.line().or(line);
        }
        cause = current.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return "the chat template takes too many steps over these messages".to_owned();
    }
    let detail = error.detail().map(|d| format!(": {d}")).unwrap_or_default();
    let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("the chat template failed: {}{detail}{line}", error.kind())
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false)
        .build();
    // The delimiters are Jinja's own, so there is nothing to reject.
    environment.set_syntax(syntax.expect("the default delimiters"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(template_methods::call);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::String | ValueKind::Undefined | ValueKind::Invalid => {
            minijinja::escape_formatter(out, state, value)
        }
        _ => {
            let mut text = String::new();
            write_str(&mut text, value)?;
            Ok(out.write_str(&text)?)
        }
    });
    template_filters::add_to(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment
}

/// Reasoning goes by several names; transformers gives templates the standard one beside the one
/// that was sent.
fn alias_reasoning(message: &Value) -> Result<Value> {
    let failed = |e: minijinja::Error| Error::internal(e.to_string());
    if message.kind() != ValueKind::Map {
        return Err(Error::invalid("messages: each message must be an object"));
    }
    let mut reasoning = None;
    for name in ["reasoning_content", "thinking", "reasoning"] {
        let value = message.get_attr(name).map_err(failed)?;
        if !value.is_none() && !value.is_undefined() {
            reasoning = Some(value);
            break;
        }
    }
    let Some(reasoning) = reasoning else { return Ok(message.clone()) };
    let mut pairs = vec![(Value::from("thinking"), reasoning.clone())];
    for key in message.try_iter().map_err(failed)? {
        let value = message.get_item(&key).map_err(failed)?;
        pairs.push((key, value));
    }
    pairs.push((Value::from("reasoning_content"), reasoning));
    Ok(Value::from_pairs(pairs))
}

impl Template {
    pub fn compile(source: &str, bos_token: &str, eos_token: &str) -> Result<Self> {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, prepare(source))
            .map_err(|e| Error::corrupt(explain(&e).replace("failed", "does not compile")))?;
        Ok(Self { environment, bos_token: bos_token.to_owned(), eos_token: eos_token.to_owned() })
    }

    fn context(&self, input: &Input) -> Result<Value> {
        let messages = json::parse(input.messages, "messages")?;
        if messages.kind() != ValueKind::Seq {
            return Err(Error::invalid("messages: an array was expected"));
        }
        let messages = messages
            .try_iter()
            .map_err(|e| Error::internal(e.to_string()))?
            .map(|message| alias_reasoning(&message))
            .collect::<Result<Vec<Value>>>()?;
        let tools = match input.tools {
            "" => Value::from(()),
            text => json::parse(text, "tools")?,
        };
        if !matches!(tools.kind(), ValueKind::Seq | ValueKind::None) {
            return Err(Error::invalid("tools: an array was expected"));
        }

        let now = input.now;
        let strftime_now = Value::from_function(move |format: &str| strftime(now, format));
        let mut pairs = vec![("strftime_now".to_owned(), strftime_now)];
        for (name, token) in [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)] {
            if !token.is_empty() {
                pairs.push((name.to_owned(), Value::from(token.as_str())));
            }
        }
        pairs.push(("documents".to_owned(), Value::from(())));
        const OURS: [&str; 3] = ["messages", "tools", "add_generation_prompt"];
        if !input.arguments.is_empty() {
            let arguments = json::parse(input.arguments, "chat_template_kwargs")?;
            if arguments.kind() != ValueKind::Map {
                return Err(Error::invalid("chat_template_kwargs: an object was expected"));
            }
            for key in arguments.try_iter().map_err(|e| Error::internal(e.to_string()))? {
                let name = key.as_str().unwrap_or_default().to_owned();
                if OURS.contains(&name.as_str()) {
                    return Err(Error::invalid(format!(
                        "chat_template_kwargs: \"{name}\" is set by the request itself"
                    )));
                }
                let value = arguments.get_item(&key).map_err(|e| Error::internal(e.to_string()))?;
                pairs.push((name, value));
            }
        }
        let ours = [Value::from(messages), tools, Value::from(input.add_generation_prompt)];
        pairs.extend(OURS.map(str::to_owned).into_iter().zip(ours));
        Ok(Value::from_pairs(pairs))
    }

    pub fn render(&self, input: &Input) -> Result<String> {
        let context = self.context(input)?;
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| Error::invalid(explain(&e)))
    }
}
