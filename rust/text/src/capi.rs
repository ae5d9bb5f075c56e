//! The C interface; `include/mlxs_text.h` is its documentation.
#![allow(clippy::missing_safety_doc)] // The header states what each pointer must be.

use crate::boundary::{guard, guard_free, slice, OwnedError, OwnedIds, OwnedString, View};
use crate::detokenizer::Detokenizer;
use crate::error::{Error, Kind, Result};
use crate::gguf::Vocabulary;
use crate::template::{Input, Template};
use crate::tokenizer::Tokenizer;
use std::sync::Arc;

pub struct TokenizerHandle(Arc<Tokenizer>);
pub struct DetokenizerHandle(Detokenizer);
pub struct TemplateHandle(Template);

#[repr(C)]
pub struct GgufVocabulary {
    model: View,
    pre: View,
    tokens: *const View,
    tokens_count: usize,
    token_types: *const i32,
    token_types_count: usize,
    merges: *const View,
    merges_count: usize,
    bos: i32,
    add_bos: i32,
}

/// Text of a model file, whose faults are the file's.
unsafe fn file_text<'a>(view: View, what: &str) -> Result<&'a str> {
    view.text(what).map_err(|e| Error { kind: Kind::Corrupt, ..e })
}

unsafe fn file_texts<'a>(views: *const View, count: usize, what: &str) -> Result<Vec<&'a str>> {
    slice(views, count)
        .iter()
        .enumerate()
        .map(|(index, view)| file_text(*view, &format!("{what}[{index}]")))
        .collect()
}

unsafe fn put<T>(out: *mut *mut T, value: T) {
    out.write(Box::into_raw(Box::new(value)));
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_string_free(string: OwnedString) {
    guard_free(|| string.release());
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_ids_free(ids: OwnedIds) {
    guard_free(|| ids.release());
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_from_json(
    json: View,
    out: *mut *mut TokenizerHandle,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        put(out, TokenizerHandle(Arc::new(Tokenizer::from_json(json.bytes())?)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_from_gguf(
    vocabulary: *const GgufVocabulary,
    out: *mut *mut TokenizerHandle,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let given = &*vocabulary;
        let vocabulary = Vocabulary {
            model: file_text(given.model, "tokenizer.ggml.model")?,
            pre: file_text(given.pre, "tokenizer.ggml.pre")?,
            tokens: file_texts(given.tokens, given.tokens_count, "tokenizer.ggml.tokens")?,
            token_types: slice(given.token_types, given.token_types_count),
            merges: file_texts(given.merges, given.merges_count, "tokenizer.ggml.merges")?,
            bos: u32::try_from(given.bos).ok(),
            add_bos: match given.add_bos {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
        };
        put(out, TokenizerHandle(Arc::new(vocabulary.build()?)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_free(tokenizer: *mut TokenizerHandle) {
    guard_free(|| {
        if !tokenizer.is_null() {
            drop(Box::from_raw(tokenizer));
        }
    });
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_encode(
    tokenizer: *const TokenizerHandle,
    text: View,
    add_special_tokens: bool,
    out: *mut OwnedIds,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let text = String::from_utf8_lossy(text.bytes());
        out.write((*tokenizer).0.encode(&text, add_special_tokens)?.as_slice().into());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_decode(
    tokenizer: *const TokenizerHandle,
    ids: *const u32,
    count: usize,
    skip_special_tokens: bool,
    out: *mut OwnedString,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        out.write((*tokenizer).0.decode(slice(ids, count), skip_special_tokens)?.into());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_vocab_size(
    tokenizer: *const TokenizerHandle,
) -> usize {
    (*tokenizer).0.vocab_size()
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_token_id(
    tokenizer: *const TokenizerHandle,
    token: View,
    out: *mut i32,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let id = std::str::from_utf8(token.bytes()).ok().and_then(|t| (*tokenizer).0.token_id(t));
        out.write(id.map_or(-1, |id| id as i32));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_token_bytes(
    tokenizer: *const TokenizerHandle,
    id: u32,
    out: *mut OwnedString,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        out.write((*tokenizer).0.token_bytes(id).into());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_tokenizer_json(
    tokenizer: *const TokenizerHandle,
    out: *mut OwnedString,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        out.write((*tokenizer).0.to_json()?.into());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_detokenizer_new(
    tokenizer: *const TokenizerHandle,
    out: *mut *mut DetokenizerHandle,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        put(out, DetokenizerHandle(Detokenizer::new(Arc::clone(&(*tokenizer).0))));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_detokenizer_free(detokenizer: *mut DetokenizerHandle) {
    guard_free(|| {
        if !detokenizer.is_null() {
            drop(Box::from_raw(detokenizer));
        }
    });
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_detokenizer_push(
    detokenizer: *mut DetokenizerHandle,
    id: u32,
    out: *mut View,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let text = (*detokenizer).0.push(id)?;
        out.write(View::of(text.as_bytes()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_detokenizer_finish(
    detokenizer: *mut DetokenizerHandle,
    out: *mut View,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let text = (*detokenizer).0.finish()?;
        out.write(View::of(text.as_bytes()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_template_compile(
    source: View,
    bos_token: View,
    eos_token: View,
    out: *mut *mut TemplateHandle,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let template = Template::compile(
            file_text(source, "chat_template")?,
            file_text(bos_token, "bos_token")?,
            file_text(eos_token, "eos_token")?,
        )?;
        put(out, TemplateHandle(template));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_template_free(template: *mut TemplateHandle) {
    guard_free(|| {
        if !template.is_null() {
            drop(Box::from_raw(template));
        }
    });
}

#[no_mangle]
pub unsafe extern "C" fn mlxs_text_template_render(
    template: *const TemplateHandle,
    messages: View,
    tools: View,
    arguments: View,
    add_generation_prompt: bool,
    now: i64,
    out: *mut OwnedString,
    error: *mut OwnedError,
) -> bool {
    guard(error, || {
        let rendered = (*template).0.render(&Input {
            messages: messages.text("messages")?,
            tools: tools.text("tools")?,
            arguments: arguments.text("chat_template_kwargs")?,
            add_generation_prompt,
            now,
        })?;
        out.write(rendered.into());
        Ok(())
    })
}
