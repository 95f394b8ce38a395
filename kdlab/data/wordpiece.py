"""Tokenizers that are made here: of a built-in world's words, and WordPiece trained on a file's texts."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..worlds.corpus import MAX_TOKENS, World
from ..worlds.lexicon import WORDS_OF_GRAMMAR

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def world_tokenizer(world: World) -> PreTrainedTokenizerBase:
    """Every word of the world is one token; any other word is [UNK]."""
    words = [*SPECIAL_TOKENS, ".", ",", *sorted(WORDS_OF_GRAMMAR), *sorted(world.lexicon.entries)]
    model = models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    return _bert_like(Tokenizer(model), MAX_TOKENS)


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_tokens: int,
                    pairs: bool = False) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer with at most `vocabulary` tokens, trained on `texts`; `pairs`: for two texts
    at a time."""
    texts = list(texts)
    bare = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    _bert_like(bare, max_tokens)
    # Pieces of one character are given beforehand: else the trainer numbers them as it meets them, which differs from
    # call to call, and so do its later ties.
    words = {word for text in texts
             for word, _ in bare.pre_tokenizer.pre_tokenize_str(bare.normalizer.normalize_str(text))}
    pieces = [*SPECIAL_TOKENS, *sorted(set("".join(words))),
              *sorted({f"##{letter}" for word in words for letter in word[1:]})]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=pieces, show_progress=False)
    bare.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(models.WordPiece(bare.get_vocab(), unk_token="[UNK]"))    # in which no letter is special
    return _bert_like(tokenizer, max_tokens, pairs)


def _bert_like(tokenizer: Tokenizer, max_tokens: int, pairs: bool = False) -> PreTrainedTokenizerBase:
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]") or 2), ("[SEP]", tokenizer.token_to_id("[SEP]") or 3)]
    both = {"pair": "[CLS] $A [SEP] $B:1 [SEP]:1"} if pairs else {}
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends, **both)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens,
        model_input_names=["input_ids", *["token_type_ids"] * pairs, "attention_mask"],
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
