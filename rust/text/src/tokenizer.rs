//! A Hugging Face tokenizer with what serving adds to it: a table of what each id stands for.

use crate::error::{Error, Result};
use tokenizers::{Decoder, DecoderWrapper, Model, Tokenizer as HfTokenizer};

/// What an id contributes to text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No token has this id; it decodes to nothing.
    Absent,
    /// Left out when special tokens are skipped.
    Special,
    /// One byte of a character that the vocabulary does not hold, "<0xE2>".
    Byte(u8),
    Text,
}

pub struct Tokenizer {
    inner: HfTokenizer,
    roles: Vec<Role>,
    /// With a byte-level decoder: the bytes of all ids one after another, and where each ends.
    bytes: Option<ByteTable>,
}

pub struct ByteTable {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl ByteTable {
    pub fn of(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let begin = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.bytes[begin..self.ends[id] as usize]
    }
}

/// The character that byte-level vocabularies write for each byte: printable Latin-1 stands for
/// itself, the other 68 bytes for U+0100 onwards, in order.
fn byte_of(character: char) -> Option<u8> {
    let code = character as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// A token outside the alphabet, such as an added token with a space in it, is its own text.
fn push_bytes(token: &str, out: &mut Vec<u8>) {
    let begin = out.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(begin);
                out.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// The token as decoders take it.
fn spelling(inner: &HfTokenizer, id: u32) -> Option<String> {
    inner
        .get_added_vocabulary()
        .simple_id_to_token(id)
        .or_else(|| inner.get_model().id_to_token(id))
}

/// Whether `decoder`, or a step of it, puts bytes together that stand alone as tokens.
fn falls_back_to_bytes(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteFallback(_) => true,
        DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().any(falls_back_to_bytes),
        _ => false,
    }
}

fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

impl Tokenizer {
    /// `ids_min`: ids below it are valid even where no token has them.
    pub fn new(inner: HfTokenizer, ids_min: usize) -> Result<Self> {
        let highest = inner.get_vocab(true).into_values().max();
        let size = ids_min.max(highest.map_or(0, |id| id as usize + 1));
        // A hostile file could name one token 4294967295.
        const SIZE_MAX: usize = 1 << 24;
        if size > SIZE_MAX {
            return Err(Error::corrupt(format!("token id {} is out of range", size - 1)));
        }
        let byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let byte_fallback = inner.get_decoder().is_some_and(falls_back_to_bytes);
        let added = inner.get_added_vocabulary();
        let mut roles = Vec::with_capacity(size);
        let mut table = ByteTable { bytes: Vec::new(), ends: Vec::with_capacity(size) };
        for id in 0..size as u32 {
            let token = spelling(&inner, id);
            roles.push(match &token {
                None => Role::Absent,
                Some(token) if added.is_special_token(token) => Role::Special,
                Some(token) if byte_fallback => byte_token(token).map_or(Role::Text, Role::Byte),
                Some(_) => Role::Text,
            });
            if byte_level {
                push_bytes(token.as_deref().unwrap_or(""), &mut table.bytes);
                table.ends.push(table.bytes.len() as u32);
            }
        }
        Ok(Self { inner, roles, bytes: byte_level.then_some(table) })
    }

    /// From the text of a `tokenizer.json`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let mut inner = HfTokenizer::from_bytes(json)
            .map_err(|e| Error::corrupt(format!("not a tokenizer.json: {e}")))?;
        // Both are training conveniences that transformers, too, switches off before encoding.
        inner.with_truncation(None).map_err(|e| Error::corrupt(format!("truncation: {e}")))?;
        inner.with_padding(None);
        Self::new(inner, 0)
    }

    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|e| Error::internal(format!("serialize: {e}")))
    }

    pub fn vocab_size(&self) -> usize {
        self.roles.len()
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// What `id` stands for; None outside the vocabulary.
    pub fn role(&self, id: u32) -> Option<Role> {
        self.roles.get(id as usize).copied()
    }

    /// The token as `decode_tokens` takes it.
    pub fn spelling(&self, id: u32) -> Option<String> {
        spelling(&self.inner, id)
    }

    pub fn decode_tokens(&self, tokens: &[String]) -> Result<String> {
        match self.inner.get_decoder() {
            Some(decoder) => {
                decoder.decode(tokens.to_vec()).map_err(|e| Error::invalid(format!("decode: {e}")))
            }
            None => Ok(tokens.join(" ")),
        }
    }

    /// The bytes of each id, where the decoder is byte-level.
    pub fn byte_table(&self) -> Option<&ByteTable> {
        self.bytes.as_ref()
    }

    /// What `id` stands for apart from its neighbours, special tokens spelled out; nothing where no
    /// token has it.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        match (self.role(id), &self.bytes) {
            (None | Some(Role::Absent), _) => Vec::new(),
            (_, Some(table)) => table.of(id).to_vec(),
            (Some(Role::Byte(byte)), None) => vec![byte],
            // SentencePiece writes a space as U+2581.
            (_, None) => self.spelling(id).unwrap_or_default().replace('\u{2581}', " ").into_bytes(),
        }
    }

    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        self.inner
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| Error::invalid(format!("encode: {e}")))
    }

    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| self.role(**id).is_none()) {
            return Err(Error::invalid(format!(
                "token id {} is not in the vocabulary of {}",
                *id as i32,
                self.roles.len()
            )));
        }
        self.inner
            .decode(ids, skip_special_tokens)
            .map_err(|e| Error::invalid(format!("decode: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_byte_alphabet_is_a_bijection_onto_that_of_the_library() {
        let bytes: std::collections::BTreeSet<u8> =
            ByteLevel::alphabet().into_iter().map(|c| byte_of(c).unwrap()).collect();

        assert_eq!(bytes.len(), 256);
        assert_eq!((0..0x2000).filter_map(char::from_u32).filter_map(byte_of).count(), 256);
    }

    #[test]
    fn text_that_is_no_tokenizer_is_an_error() {
        let error = Tokenizer::from_json(b"{\"model\": 1}").err().unwrap();

        assert_eq!(error.kind, crate::error::Kind::Corrupt);
    }
}
