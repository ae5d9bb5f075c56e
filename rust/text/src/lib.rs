//! Tokenizers and chat templates of mlx-serving. The only way in from C++ is the C interface in
//! `capi`, described by `include/mlxs_text.h`; no panic crosses it.

mod boundary;
pub mod capi;
pub mod detokenizer;
pub mod error;
pub mod gguf;
pub mod json;
mod pre_tokenizers;
mod python;
mod strftime;
pub mod template;
mod template_filters;
mod template_methods;
mod template_source;
pub mod tokenizer;
