//! What a GGUF file does not carry: it only names its pre-tokenizer (`tokenizer.ggml.pre`). The
//! rules below are those of the models' own tokenizer.json files; where llama.cpp spells one
//! differently to suit its regex engine, the original spelling is here.

use crate::error::{Error, Result};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// How text is cut into words before merging, and what else the name implies.
pub struct PreTokenizer {
    names: &'static [&'static str],
    /// Canonical composition before anything else.
    pub nfc: bool,
    /// Each digit stands alone.
    digits: bool,
    /// Applied one after another; each match is a piece of its own.
    splits: &'static [&'static str],
    /// GPT-2's own expression, as part of the byte-level step.
    gpt2: bool,
    /// A word that is in the vocabulary is taken whole, whatever the merges would make of it.
    pub ignore_merges: bool,
    /// Whether prompts begin with BOS where the file does not say.
    pub add_bos: bool,
}

const GPT2_LIKE: PreTokenizer = PreTokenizer {
    names: &[],
    nfc: false,
    digits: false,
    splits: &[],
    gpt2: true,
    ignore_merges: false,
    add_bos: false,
};
const SPLIT_LIKE: PreTokenizer = PreTokenizer { gpt2: false, ..GPT2_LIKE };

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

const TABLE: &[PreTokenizer] = &[
    PreTokenizer { names: &["gpt-2", "phi-2"], ..GPT2_LIKE },
    PreTokenizer { names: &["mpt", "olmo"], nfc: true, ..GPT2_LIKE },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "codeshell", "minerva-7b"],
        digits: true,
        ..GPT2_LIKE
    },
    PreTokenizer { names: &["command-r"], nfc: true, digits: true, ..GPT2_LIKE },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2"],
        splits: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        ..SPLIT_LIKE
    },
    PreTokenizer { names: &["glm4", "chatglm-bpe"], splits: &[LLAMA3], ..SPLIT_LIKE },
    PreTokenizer { names: &["qwen2", "megrez"], nfc: true, splits: &[QWEN2], ..SPLIT_LIKE },
    PreTokenizer { names: &["deepseek-r1-qwen"], splits: &[QWEN2], ..SPLIT_LIKE },
    PreTokenizer { names: &["qwen35"], nfc: true, splits: &[QWEN35], ..SPLIT_LIKE },
    PreTokenizer {
        names: &["tekken"],
        splits: &[TEKKEN],
        ignore_merges: true,
        add_bos: true,
        ..SPLIT_LIKE
    },
    PreTokenizer { names: &["gpt-4o", "llama4"], splits: &[GPT4O], ..SPLIT_LIKE },
    PreTokenizer {
        names: &["deepseek-coder"],
        digits: true,
        splits: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"],
        ..SPLIT_LIKE
    },
    PreTokenizer {
        names: &["deepseek-v3"],
        splits: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3],
        ..SPLIT_LIKE
    },
    // llama.cpp's choice for files that name no better one; no model's own rule.
    PreTokenizer {
        names: &["default"],
        splits: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..SPLIT_LIKE
    },
];

impl PreTokenizer {
    pub fn find(name: &str) -> Result<&'static PreTokenizer> {
        TABLE.iter().find(|entry| entry.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = TABLE.iter().flat_map(|e| e.names).copied().collect();
            Error::corrupt(format!(
                "tokenizer.ggml.pre names the unknown pre-tokenizer \"{name}\"; known are {}",
                known.join(", ")
            ))
        })
    }

    pub fn build(&self) -> Result<PreTokenizerWrapper> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for expression in self.splits {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| Error::internal(format!("pre-tokenizer {}: {e}", self.names[0])))?;
            steps.push(split.into());
        }
        if self.digits {
            steps.push(Digits::new(true).into());
        }
        steps.push(ByteLevel::new(false, true, self.gpt2).into());
        Ok(Sequence::new(steps).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_builds_and_every_name_is_unique() {
        let mut seen = std::collections::BTreeSet::new();

        for entry in TABLE {
            entry.build().unwrap();
            for name in entry.names {
                assert!(seen.insert(name), "{name} stands twice");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_says_it() {
        let error = PreTokenizer::find("no-such").err().unwrap();

        assert!(error.message.contains("\"no-such\""), "{error}");
    }
}
