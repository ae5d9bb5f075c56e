//! A tokenizer from a GGUF file's own vocabulary and merges (byte-level BPE).

use crate::error::{Error, Result};
use crate::pre_tokenizers::PreTokenizer;
use crate::tokenizer::Tokenizer;
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

/// `tokenizer.ggml.token_type`
mod token_type {
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    /// Fills the list up to the width of the model's output; stands for no text.
    pub const UNUSED: i32 = 5;
}

/// The metadata a tokenizer is made of; see `mlxs_text_gguf_vocabulary`.
pub struct Vocabulary<'a> {
    pub model: &'a str,
    pub pre: &'a str,
    pub tokens: Vec<&'a str>,
    /// As long as `tokens`, or empty: all normal.
    pub token_types: &'a [i32],
    pub merges: Vec<&'a str>,
    pub bos: Option<u32>,
    /// None: what the pre-tokenizer's name implies.
    pub add_bos: Option<bool>,
}

impl Vocabulary<'_> {
    fn token_type(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(1)
    }

    fn check(&self) -> Result<()> {
        if self.model != "gpt2" {
            return Err(Error::corrupt(format!(
                "tokenizer.ggml.model is \"{}\", and only \"gpt2\" (byte-level BPE) is supported",
                self.model
            )));
        }
        if self.tokens.is_empty() {
            return Err(Error::corrupt("tokenizer.ggml.tokens is empty"));
        }
        if !self.token_types.is_empty() && self.token_types.len() != self.tokens.len() {
            return Err(Error::corrupt(format!(
                "tokenizer.ggml.token_type has {} entries for {} tokens",
                self.token_types.len(),
                self.tokens.len()
            )));
        }
        Ok(())
    }

    /// Spelling to id. A list that gives one spelling two ids cannot be turned around.
    fn ids(&self) -> Result<HashMap<String, u32>> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if self.token_type(id) == token_type::UNUSED {
                continue;
            }
            if token.is_empty() {
                return Err(Error::corrupt(format!("tokenizer.ggml.tokens: token {id} is empty")));
            }
            if let Some(first) = ids.insert((*token).to_owned(), id as u32) {
                return Err(Error::corrupt(format!(
                    "tokenizer.ggml.tokens: \"{token}\" is both token {first} and token {id}"
                )));
            }
        }
        Ok(ids)
    }

    /// Pairs in order of rank; both halves and what they make are in `ids`.
    fn merge_pairs(&self, ids: &HashMap<String, u32>) -> Result<Vec<(String, String)>> {
        let mut joined = String::new();
        let mut pairs = Vec::with_capacity(self.merges.len());
        for (rank, merge) in self.merges.iter().enumerate() {
            // The first character may itself be a space in vocabularies that are not byte-level.
            let (left, right) = merge
                .char_indices()
                .skip(1)
                .find(|(_, c)| *c == ' ')
                .map(|(at, _)| (&merge[..at], &merge[at + 1..]))
                .ok_or_else(|| {
                    Error::corrupt(format!(
                        "tokenizer.ggml.merges: entry {rank}, \"{merge}\", is not two tokens"
                    ))
                })?;
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            for part in [left, right, joined.as_str()] {
                if !ids.contains_key(part) {
                    return Err(Error::corrupt(format!(
                        "tokenizer.ggml.merges: entry {rank}, \"{merge}\", \
                         needs the token \"{part}\", which is not in the vocabulary"
                    )));
                }
            }
            pairs.push((left.to_owned(), right.to_owned()));
        }
        Ok(pairs)
    }

    /// Tokens that are matched in the text before anything else; the special ones vanish when
    /// text is decoded without them.
    fn added_tokens(&self) -> Vec<AddedToken> {
        (0..self.tokens.len())
            .filter_map(|id| {
                let special = match self.token_type(id) {
                    token_type::UNKNOWN | token_type::CONTROL => true,
                    token_type::USER_DEFINED => false,
                    _ => return None,
                };
                // The file holds spellings that are normalized already.
                Some(AddedToken::from(self.tokens[id], special).normalized(false))
            })
            .collect()
    }

    fn bos_processor(&self, pre: &PreTokenizer) -> Result<Option<TemplateProcessing>> {
        if !self.add_bos.unwrap_or(pre.add_bos && self.bos.is_some()) {
            return Ok(None);
        }
        let token = self.bos.and_then(|id| Some((id, *self.tokens.get(id as usize)?)));
        let (id, token) = token.ok_or_else(|| {
            Error::corrupt(
                "tokenizer.ggml.add_bos_token is set, but tokenizer.ggml.bos_token_id names no token",
            )
        })?;
        let failed = |e: String| Error::corrupt(format!("tokenizer.ggml.bos_token_id: {e}"));
        let bos = SpecialToken::new("BOS".to_owned(), vec![id], vec![token.to_owned()])
            .map_err(|e| failed(e.to_string()))?;
        let processor = TemplateProcessing::builder()
            .try_single("BOS $A")
            .and_then(|builder| builder.try_pair("BOS $A BOS:1 $B:1"))
            .map_err(failed)?
            .special_tokens(vec![bos])
            .build()
            .map_err(|e| failed(e.to_string()))?;
        Ok(Some(processor))
    }

    pub fn build(&self) -> Result<Tokenizer> {
        self.check()?;
        let pre = PreTokenizer::find(self.pre)?;
        let ids = self.ids()?;
        let merges = self.merge_pairs(&ids)?;
        let model = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<ahash::AHashMap<_, _>>(), merges)
            .ignore_merges(pre.ignore_merges)
            .build()
            .map_err(|e| Error::corrupt(format!("tokenizer.ggml.merges: {e}")))?;

        let mut tokenizer = HfTokenizer::new(model);
        let failed = |e: tokenizers::Error| Error::corrupt(format!("tokenizer.ggml: {e}"));
        if pre.nfc {
            tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
        }
        tokenizer.with_pre_tokenizer(Some(pre.build()?));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        tokenizer.with_post_processor(self.bos_processor(pre)?);
        tokenizer.add_tokens(self.added_tokens()).map_err(failed)?;
        Tokenizer::new(tokenizer, self.tokens.len())
    }
}
