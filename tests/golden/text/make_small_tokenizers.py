"""Makes small/*.json, small tokenizers of every kind that models use, and small_ids.json: what they
make of the corpus.

    python make_small_tokenizers.py

Made with tokenizers 0.23.3, Python 3.11. Trained here on the corpus itself.
"""

import json
import pathlib
import random

import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

import corpus

HERE = pathlib.Path(__file__).parent
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level():
    """As Qwen: composition, a split of its own, special and plain added tokens of all kinds."""
    out = Tokenizer(models.BPE())
    out.normalizer = normalizers.NFC()
    out.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                                   r"|\s*[\r\n]+|\s+(?!\S)|\s+"), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    out.decoder = decoders.ByteLevel()
    out.post_processor = processors.ByteLevel(trim_offsets=False)
    out.train_from_iterator(corpus.texts(), trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    out.add_special_tokens(["<|im_start|>", "<|im_end|>", AddedToken("<s>", lstrip=True, rstrip=True)])
    out.add_tokens([AddedToken("<think>", normalized=False), AddedToken("caf\u00e9", normalized=True),
                    AddedToken("word", single_word=True), AddedToken("  two spaces", normalized=False)])
    return out


def llama2():
    """As Llama 2: a leading space, bytes as tokens, text from fused pieces less one space."""
    out = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    out.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    out.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    out.train_from_iterator(corpus.WORDS + corpus.CODE, trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL + [f"<0x{b:02X}>" for b in range(256)], show_progress=False,
        max_token_length=12))
    state = json.loads(out.to_str())
    # The trainer marks the bytes as added tokens, which they are not.
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in SPECIAL]
    out = Tokenizer.from_str(json.dumps(state))
    out.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", out.token_to_id("<s>"))])
    return out


def metaspace_unigram():
    """As T5 and XLM-R."""
    out = Tokenizer(models.Unigram())
    out.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    out.pre_tokenizer = pre_tokenizers.Metaspace()
    out.decoder = decoders.Metaspace()
    out.train_from_iterator(corpus.WORDS + corpus.SCRIPTS + corpus.PUNCTUATION, trainers.UnigramTrainer(
        vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False))
    out.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", out.token_to_id("</s>"))])
    return out


def wordpiece():
    """As BERT: pieces glued with ##, text cleaned up."""
    out = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    out.normalizer = normalizers.BertNormalizer(lowercase=False)
    out.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    out.decoder = decoders.WordPiece()
    out.train_from_iterator(corpus.texts(), trainers.WordPieceTrainer(
        vocab_size=700, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    out.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return out


def suffix_bpe():
    """As CLIP and GPT-1: a mark at the end of each word."""
    out = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    out.normalizer = normalizers.Lowercase()
    out.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    out.decoder = decoders.BPEDecoder()
    out.train_from_iterator(corpus.WORDS + corpus.PUNCTUATION, trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False))
    return out


def no_decoder():
    """Words and nothing else; text is joined with spaces."""
    words = sorted({w for line in corpus.WORDS for w in line.split()})
    out = Tokenizer(models.WordLevel({"<unk>": 0, **{w: i + 2 for i, w in enumerate(words)}}, unk_token="<unk>"))
    out.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return out


KINDS = [byte_level, llama2, metaspace_unigram, wordpiece, suffix_bpe, no_decoder]


def random_rows(tokenizer, count, seed):
    """Rows of random ids. Byte tokens come in runs that are valid, or invalid from their first
    character on: a run that goes wrong later has been given out in part when that is noticed."""
    rng = random.Random(seed)
    tokens = tokenizer.get_vocab()
    others = sorted(i for t, i in tokens.items() if not t.startswith("<0x"))
    out = []
    for _ in range(count):
        row = []
        for _ in range(rng.randint(0, 12)):
            row.append(rng.choice(others))
            if "<0x00>" in tokens and rng.random() < 0.4:
                run = rng.choice(["\u00e9", "\U0001f600\u6211", "a\u0300"]).encode() if rng.random() < 0.6 \
                    else rng.choice([b"\xff\x41", b"\xe2\x82", b"\x80\x80\x80\xc3\xa9", b"\xf0\x9f"])
                row += [tokens[f"<0x{b:02X}>"] for b in run] + [rng.choice(others)]
        out.append(row)
    return out


def write(path, value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    path.write_text(text + "\n")
    print(path.name, len(text))


def main():
    texts = corpus.texts()
    (HERE / "small").mkdir(exist_ok=True)
    kinds = {}
    for kind in KINDS:
        tokenizer = kind()
        write(HERE / "small" / f"{kind.__name__}.json", tokenizer.to_str())
        rows = [tokenizer.encode(t).ids for t in texts] + random_rows(tokenizer, 60, 5)
        kinds[kind.__name__] = {
            "ids": rows[:len(texts)],
            "ids_plain": [tokenizer.encode(t, add_special_tokens=False).ids for t in texts[:40]],
            "random": rows[len(texts):],
            "decoded": [tokenizer.decode(row) for row in rows],
            "decoded_special": [tokenizer.decode(row, skip_special_tokens=False) for row in rows],
        }
    made_with = {"tokenizers": tokenizers.__version__, "script": pathlib.Path(__file__).name}
    write(HERE / "small_ids.json", {"made_with": made_with, "texts": texts, "kinds": kinds})


if __name__ == "__main__":
    main()
