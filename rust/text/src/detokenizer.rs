//! Ids in, text out, a step at a time, in bounded time and memory for each id.

use crate::error::Result;
use crate::tokenizer::{Role, Tokenizer};
use std::sync::Arc;

/// How many ids the slow path withholds while their text ends in a character that may still be
/// incomplete. Byte-fallback vocabularies spell a character in at most 4 ids and decide over a run
/// of such ids as a whole, so a run longer than this may come out as U+FFFD in other places than
/// `decode` puts them.
const WITHHELD_MAX: usize = 64;
/// Ids kept as context before the withheld ones: decoders look at what precedes a token only to
/// see whether it is the first, and this many contain one that is not empty.
const CONTEXT: usize = 6;

/// The concatenation of what `push` and `finish` give equals `decode` of all ids with special
/// tokens skipped.
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// Byte-level: the first bytes of a character that is not complete, at most 3.
    partial: Vec<u8>,
    /// Other decoders: context, then the ids whose text has not been given out.
    window: Vec<u32>,
    context: usize,
    out: String,
}

impl Detokenizer {
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, partial: Vec::new(), window: Vec::new(), context: 0, out: String::new() }
    }

    /// The text that `id` completes; valid until the next call. An id outside the vocabulary has
    /// none: a model's output may be wider than its vocabulary.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        self.out.clear();
        if matches!(self.tokenizer.role(id), Some(Role::Text)) {
            let tokenizer = Arc::clone(&self.tokenizer);
            match tokenizer.byte_table() {
                Some(table) => self.push_bytes(table.of(id)),
                None => {
                    self.window.push(id);
                    self.decode_window(false)?;
                }
            }
        }
        Ok(&self.out)
    }

    /// What is still withheld. The detokenizer is as new afterwards.
    pub fn finish(&mut self) -> Result<&str> {
        self.out.clear();
        if !self.partial.is_empty() {
            self.partial.clear();
            self.out.push(char::REPLACEMENT_CHARACTER);
        }
        if self.window.len() > self.context {
            self.decode_window(true)?;
        }
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
                    // Checked one line above; from_utf8 again would double the work.
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

    /// The text of the window beyond the text of its context. Withholds it while it ends in
    /// U+FFFD, unless `flush`.
    fn decode_window(&mut self, flush: bool) -> Result<()> {
        let before = self.tokenizer.decode(&self.window[..self.context], true)?;
        let now = self.tokenizer.decode(&self.window, true)?;
        let withheld = self.window.len() - self.context;
        if now.ends_with(char::REPLACEMENT_CHARACTER) && !flush && withheld < WITHHELD_MAX {
            return Ok(());
        }
        // A decoder may change its mind about the context's last character, so what both have in
        // common is cut off rather than a length.
        let common = now.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
        let common = (0..=common).rev().find(|at| now.is_char_boundary(*at)).unwrap_or(0);
        self.out.push_str(&now[common..]);
        let excess = self.window.len().saturating_sub(CONTEXT);
        self.window.drain(..excess);
        self.context = self.window.len();
        Ok(())
    }
}
