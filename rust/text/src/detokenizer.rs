//! Ids in, text out, a step at a time, in bounded time and memory for each id.

use crate::error::Result;
use crate::tokenizer::{Role, Tokenizer};
use std::sync::Arc;

/// How many tokens the window withholds while their text ends in U+FFFD, which a decoder of an
/// unusual make may still turn into a character.
const WITHHELD_MAX: usize = 64;
/// Tokens kept as context before the withheld ones: decoders look at what precedes a token only to
/// see whether it is the first, and among these many is one that is not empty.
const CONTEXT: usize = 6;

/// The concatenation of what `push` and `finish` give equals `decode` of all ids with special
/// tokens skipped. With one exception, for vocabularies that fall back to bytes: there, `decode`
/// replaces every byte of a run that is invalid anywhere, while the characters before the invalid
/// place have been given out here.
///
/// Byte-level vocabularies, which most models have, need no window: each id has its bytes.
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The first bytes of a character that is not complete, at most 3.
    partial: Vec<u8>,
    /// Whether the run of byte tokens that is going on was invalid somewhere.
    broken_run: bool,
    /// Other decoders: context, then the tokens whose text has not been given out.
    window: Vec<String>,
    context: usize,
    out: String,
}

impl Detokenizer {
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            partial: Vec::new(),
            broken_run: false,
            window: Vec::new(),
            context: 0,
            out: String::new(),
        }
    }

    /// The text that `id` completes; valid until the next call. An id outside the vocabulary has
    /// none: a model's output may be wider than its vocabulary.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        self.out.clear();
        let tokenizer = Arc::clone(&self.tokenizer);
        match (tokenizer.role(id), tokenizer.byte_table()) {
            (Some(Role::Text), Some(table)) => self.push_bytes(table.of(id)),
            (Some(Role::Text), None) => {
                self.end_run();
                self.window.extend(tokenizer.spelling(id));
                self.decode_window(false)?;
            }
            (Some(Role::Byte(byte)), _) => {
                self.push_run(byte);
                self.decode_window(false)?;
            }
            _ => {}
        }
        Ok(&self.out)
    }

    /// What is still withheld. The detokenizer is as new afterwards.
    pub fn finish(&mut self) -> Result<&str> {
        self.out.clear();
        if self.tokenizer.byte_table().is_some() {
            if !self.partial.is_empty() {
                self.out.push(char::REPLACEMENT_CHARACTER);
            }
        } else {
            self.end_run();
            self.decode_window(true)?;
        }
        self.partial.clear();
        self.window.clear();
        self.context = 0;
        Ok(&self.out)
    }

    /// Appends `bytes` to the text as `String::from_utf8_lossy` would to the whole.
    fn push_bytes(&mut self, bytes: &[u8]) {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined[..]
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    self.out.push_str(valid);
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    // SAFETY: from_utf8 has found these bytes valid.
                    self.out.push_str(unsafe { std::str::from_utf8_unchecked(valid) });
                    match error.error_len() {
                        Some(length) => {
                            self.out.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[length..];
                        }
                        None => {
                            self.partial.extend_from_slice(after);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// A byte token. Characters go into the window as they are complete; from the first invalid
    /// byte of a run on, each byte is U+FFFD, as `decode` has it.
    fn push_run(&mut self, byte: u8) {
        self.partial.push(byte);
        if !self.broken_run {
            match std::str::from_utf8(&self.partial) {
                Ok(character) => {
                    self.window.push(character.to_owned());
                    self.partial.clear();
                    return;
                }
                Err(error) if error.error_len().is_none() => return,
                Err(_) => self.broken_run = true,
            }
        }
        self.replace_partial();
    }

    fn end_run(&mut self) {
        self.replace_partial();
        self.broken_run = false;
    }

    fn replace_partial(&mut self) {
        let replacement = char::REPLACEMENT_CHARACTER.to_string();
        self.window.extend(self.partial.drain(..).map(|_| replacement.clone()));
    }

    /// The text of the window beyond the text of its context. Withholds it while it ends in
    /// U+FFFD, unless `flush`.
    fn decode_window(&mut self, flush: bool) -> Result<()> {
        let withheld = self.window.len() - self.context;
        if withheld == 0 {
            return Ok(());
        }
        let before = self.tokenizer.decode_tokens(&self.window[..self.context])?;
        let now = self.tokenizer.decode_tokens(&self.window)?;
        if now.ends_with(char::REPLACEMENT_CHARACTER) && !flush && withheld < WITHHELD_MAX {
            return Ok(());
        }
        // A decoder may treat the context's last token otherwise once it is not the last, so what
        // both have in common is cut off rather than a length.
        let common = now.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
        let common = (0..=common).rev().find(|at| now.is_char_boundary(*at)).unwrap_or(0);
        self.out.push_str(&now[common..]);
        let excess = self.window.len().saturating_sub(CONTEXT);
        self.window.drain(..excess);
        self.context = self.window.len();
        Ok(())
    }
}
