"""Checkpoints as others save them: read as what they are, or refused in one sentence that says what they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from conftest import opinionated
from hypothesis import given, settings
from hypothesis import strategies as st
from test_families import ALBERT, STACKS, T5
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
)

from kdlab.errors import KdlabError
from kdlab.models import load_classifier, load_masked_lm, load_student, max_tokens_of, new_model, save
from kdlab.models.checking import name_classes
from kdlab.models.tracing import trace_teacher

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
         "max_position_embeddings": 64}


@pytest.fixture
def bert(task):
    """A configuration of three classes."""
    return BertConfig(**SMALL, vocab_size=len(task.tokenizer), num_labels=3)


@pytest.fixture
def folder(task, bert, tmp_path):
    return save(new_model(bert, AutoModelForSequenceClassification), task.tokenizer, tmp_path / "model")


def change(folder, file="config.json", **changes):
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | changes))
    return folder


def words_alone(path, pad=None, **special):
    """A tokenizer of 40 words without any special token but those given, and without a greatest length."""
    known = {word: i for i, word in enumerate([*special.values(), *(f"w{i}" for i in range(40 - len(special)))])}
    tokenizer = Tokenizer(WordLevel(known, unk_token=next(iter(known))))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


# ---- classes --------------------------------------------------------------------------------------------------------

@given(order=st.permutations(range(4)))
@settings(deadline=None)
def test_classes_are_in_the_order_of_their_numbers_whatever_the_file_s(order):
    config = BertConfig.from_dict({"id2label": {str(i): f"class {i}" for i in order}})
    name_classes(config, "here")
    assert list(config.id2label.items()) == [(i, f"class {i}") for i in range(4)]


def test_classes_out_of_order_come_in_order_when_loaded(folder):
    """transformers #12822: a perfect teacher scored .233."""
    model, _ = load_classifier(change(folder, id2label={"2": "c", "0": "a", "1": "b"}))
    assert tuple(model.config.id2label.values()) == ("a", "b", "c")
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}


def test_names_that_are_numbers_are_texts(folder):
    model, _ = load_classifier(change(folder, id2label={"0": 0, "1": 1, "2": 2}))
    assert tuple(model.config.id2label.values()) == ("0", "1", "2")


@pytest.mark.parametrize(("names", "said"), [({"0": "a", "2": "b"}, "names the classes 0, 2 where 0 to 1 are needed"),
                                             ({"0": "a", "1": "b", "2": "a"}, "gives two classes the name 'a'")])
def test_classes_that_cannot_be_told_apart_are_refused(folder, names, said):
    with pytest.raises(KdlabError, match=said):
        load_classifier(change(folder, id2label=names))


# ---- models of another kind -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("config", [
    BertConfig(**SMALL), DistilBertConfig(dim=24, n_layers=2, n_heads=2, hidden_dim=40), RobertaConfig(**SMALL),
    STACKS["modernbert"][0], STACKS["electra"][0], STACKS["qwen2"][0]], ids=lambda config: config.model_type)
@pytest.mark.parametrize(("auto", "does"), [
    (AutoModelForTokenClassification, r"it is a \w+ForTokenClassification, which labels each token of a text"),
    (AutoModelForQuestionAnswering, r"it is a \w+ForQuestionAnswering, which marks the answer")])
def test_a_model_of_another_kind_is_no_teacher_and_its_body_a_student_s(task, tmp_path, config, auto, does):
    config = type(config)(**{**config.to_dict(), "vocab_size": len(task.tokenizer) + 8})
    source = new_model(config, auto, seed=1)
    save(source, task.tokenizer, tmp_path / "other")
    with pytest.raises(KdlabError, match=f"this cannot be loaded as a classifier .{does}.*; give one"):
        load_classifier(tmp_path / "other")
    if source.base_model_prefix == "transformer" and config.model_type == "qwen2":
        return      # whose question answering calls its body by another name
    student, _ = load_student(tmp_path / "other", task.label_names)
    for name, weight in source.base_model.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(student.base_model.state_dict()[name], weight)


def test_a_multi_label_model_is_refused_and_its_body_a_student_of_one_label(folder, task):
    change(folder, problem_type="multi_label_classification")
    with pytest.raises(KdlabError, match="each class is a yes or no of its own"):
        load_classifier(folder)
    assert load_student(folder, task.label_names)[0].config.problem_type is None


@pytest.mark.parametrize(("problem", "name", "loads"), [
    (None, "LABEL_0", True), ("regression", "LABEL_0", True), ("regression", "similarity", True),
    (None, "toxic", False), ("single_label_classification", "LABEL_0", False)])
def test_one_output_is_a_score_unless_it_says_otherwise(task, bert, tmp_path, problem, name, loads):
    """A cross-encoder's is named LABEL_0, and no more is said of it (sentence-transformers #3435)."""
    bert.id2label, bert.label2id, bert.problem_type = {0: name}, {name: 0}, problem
    save(new_model(bert, AutoModelForSequenceClassification), task.tokenizer, tmp_path / "one")
    if loads:
        assert load_classifier(tmp_path / "one")[0].config.num_labels == 1
    else:
        said = f"one output, named '{name}'.*write \"problem_type\": \"regression\"" if problem is None else \
            'problem_type="single_label_classification"` requires'       # says transformers itself
        with pytest.raises(KdlabError, match=said):
            load_classifier(tmp_path / "one")


# ---- fresh heads ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [*STACKS, "albert", "t5"])
def test_a_student_s_head_is_fresh_by_seed_and_its_body_the_checkpoint_s(task, tmp_path, name):
    """Of a pretrained body, and of a classifier of the same size, whose head would fit."""
    config = {"albert": ALBERT, "t5": T5}.get(name) or STACKS[name][0]
    config = type(config)(**{**config.to_dict(), "vocab_size": len(task.tokenizer) + 8,
                             "id2label": dict(enumerate("abcde"))})
    for auto in (AutoModel, AutoModelForSequenceClassification):
        source = opinionated(new_model(config, auto, seed=1), 3)
        save(source, task.tokenizer, tmp_path / "source")
        one, two, other = (load_student(tmp_path / "source", task.label_names, seed)[0] for seed in (1, 1, 2))
        theirs, prefix = source.base_model.state_dict(), f"{one.base_model_prefix}."
        for key, weight in one.state_dict().items():
            assert torch.equal(weight, two.state_dict()[key])
            if key.startswith(prefix):
                assert auto is AutoModel or torch.equal(weight, theirs[key.removeprefix(prefix)])
            elif weight.dim() > 1:
                assert not torch.equal(weight, other.state_dict()[key])
                assert auto is AutoModel or not torch.equal(weight, source.state_dict()[key]), "not the old head"


def test_of_a_pretrained_body_the_head_is_drawn_as_transformers_draws_it(task, tmp_path):
    """So that students of earlier runs start where they started."""
    source = new_model(BertConfig(**SMALL, vocab_size=len(task.tokenizer)), seed=4)
    save(source, task.tokenizer, tmp_path / "bert")
    state = torch.get_rng_state()
    student, _ = load_student(tmp_path / "bert", task.label_names, seed=7)
    assert torch.equal(torch.get_rng_state(), state), "the page's random numbers stay"
    torch.manual_seed(7)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bert", num_labels=5)
    for ours, theirs in zip(student.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_body_that_lacks_a_layer_is_no_student_s(folder, task):
    with pytest.raises(KdlabError, match=r"the weights lack 'bert.encoder.layer.2"):
        load_student(change(folder, num_hidden_layers=3), task.label_names)


# ---- tokens ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", STACKS)
def test_a_model_reads_as_many_tokens_as_is_said_and_positions_hold_no_more(name):
    config = STACKS[name][0]
    model, most = new_model(config, AutoModelForSequenceClassification).eval(), max_tokens_of(config)
    assert most == (38 if config.pad_token_id == 1 else 40)
    trace_teacher(model, {"input_ids": torch.full((1, most), 7)})
    if name in ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra", "gpt2"):
        with pytest.raises((RuntimeError, IndexError)):
            trace_teacher(model, {"input_ids": torch.full((1, most + 1), 7)})


def test_a_model_without_positions_reads_any_number_of_tokens():
    assert max_tokens_of(T5Config()) == float("inf")


def test_a_tokenizer_cuts_at_what_its_model_reads_where_nobody_set_a_length(tmp_path):
    tokenizer = words_alone(tmp_path, unk_token="?", pad_token="-")
    assert tokenizer.model_max_length > 10**9
    config = RobertaConfig(**SMALL, vocab_size=40, pad_token_id=1)
    save(new_model(config, AutoModelForSequenceClassification), tokenizer, tmp_path / "model")
    model, tokenizer = load_classifier(tmp_path / "model")
    assert tokenizer.model_max_length == 62
    given = tokenizer("w1 " * 70, truncation=True, return_tensors="pt")
    assert given["input_ids"].shape == (1, 62) and trace_teacher(model, given).logits.isfinite().all()


@pytest.mark.parametrize("config", [
    GPT2Config(vocab_size=40, n_layer=2, n_embd=24, n_head=2, n_positions=64, eos_token_id=0, bos_token_id=0),
    LlamaConfig(**SMALL, vocab_size=40), LlamaConfig(**SMALL, vocab_size=40, pad_token_id=-1),
], ids=["gpt2", "llama", "llama -1"])
def test_a_model_without_a_pad_token_answers_a_batch_as_each_text_alone(tmp_path, config):
    """tt-forge-models #193: Cannot handle batch sizes > 1."""
    tokenizer = words_alone(tmp_path, eos_token="<end>")
    save(opinionated(new_model(config, AutoModelForSequenceClassification), 4), tokenizer, tmp_path / "model")
    model, tokenizer = load_classifier(tmp_path / "model")
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    texts = ["w1 w2 w3 w4 w5", "w6 w7", "w8"]
    together = trace_teacher(model, tokenizer(texts, padding=True, return_tensors="pt")).logits
    alone = torch.cat([trace_teacher(model, tokenizer(text, return_tensors="pt")).logits for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_tokenizer_that_cannot_pad_is_refused(tmp_path):
    save(new_model(LlamaConfig(**SMALL, vocab_size=40), AutoModelForSequenceClassification),
         words_alone(tmp_path, unk_token="?"), tmp_path / "model")
    with pytest.raises(KdlabError, match=r"neither a pad token nor one that ends a text.*set its pad_token"):
        load_classifier(tmp_path / "model")


# ---- folders --------------------------------------------------------------------------------------------------------

def pickle_alone(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def adapter_alone(folder):
    change(folder, "adapter_config.json", base_model_name_or_path="owner/base", peft_type="LORA")
    for path in (folder / "model.safetensors", folder / "config.json"):
        path.unlink()


def sentences(folder):
    (folder / "modules.json").write_text("[]")
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.move(folder / name, folder / "0_Transformer" / name)


def pieces_alone(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "spiece.model").write_bytes(b"pieces")


FOLDERS = {
    "pickled weights": (pickle_alone, r"in pytorch_model.bin alone, a pickle.*write them anew: python -c"),
    "an adapter": (adapter_alone, r"an adapter, such as LoRA's, for owner/base.*merge_and_unload"),
    "sentence-transformers": (sentences, r"gives each text a vector and no classes.*: give .*0_Transformer"),
    "code of its own": (lambda f: change(f, auto_map={"AutoConfig": "x.Y"}, model_type="own"),
                        r"'own' is code of its own, named in auto_map.*take a model of an architecture"),
    "bitsandbytes": (lambda f: change(f, quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"}),
                     r"quantised .bitsandbytes.*give the checkpoint that it was made from"),
    "gptq": (lambda f: change(f, quantization_config={"bits": 4, "quant_method": "gptq"}), r"quantised .gptq"),
    "awq": (lambda f: change(f, quantization_config={"bits": 4, "quant_method": "awq"}), r"quantised .awq"),
    "a number as a text": (lambda f: change(f, hidden_size="24"), r"'hidden_size' expected int"),
    "no number": (lambda f: change(f, num_hidden_layers=None), r"'num_hidden_layers' expected int"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_another_kind_is_refused_in_one_sentence(folder, name):
    spoil, said = FOLDERS[name]
    spoil(folder)
    with pytest.raises(KdlabError, match=rf"this cannot be loaded as a classifier .*{said}") as raised:
        load_classifier(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece reads them here")
def test_a_tokenizer_of_pieces_alone_is_refused_where_nothing_reads_it(folder):
    pieces_alone(folder)
    with pytest.raises(KdlabError, match=r"its tokenizer is spiece.model alone.*pip install sentencepiece"):
        load_classifier(folder)


def test_the_advice_for_pickled_weights_is_right(folder):
    pickle_alone(folder)
    with pytest.raises(KdlabError) as raised:
        load_classifier(folder)
    code = str(raised.value).split('python -c "')[1].removesuffix('"')
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert load_classifier(folder)[0].config.num_labels == 3


def test_a_sentence_transformers_body_is_a_student_s(folder, task):
    sentences(folder)
    for path in folder.glob("tokenizer*"):
        shutil.copy(path, folder / "0_Transformer")
    assert load_student(folder / "0_Transformer", task.label_names)[0].config.num_labels == 5


@pytest.mark.parametrize("changes", [{"_attn_implementation": "flash_attention_2"},
                                     {"attn_implementation": "flash_attention_2"},
                                     {"auto_map": {"AutoConfig": "owner/name--code.Config"}}], ids=str)
def test_how_fast_the_one_who_saved_it_could_attend_is_of_no_account(folder, changes):
    """Nor is code that it brings, where transformers has the architecture itself."""
    expected = load_classifier(folder)[0]
    model, _ = load_classifier(change(folder, **changes))
    assert model.config._attn_implementation == expected.config._attn_implementation == "sdpa"


def test_weights_in_parts_and_in_half_precision_are_read(folder, task):
    expected, _ = load_classifier(folder)
    expected.bfloat16().save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    model, _ = load_classifier(folder)
    for ours, theirs in zip(model.state_dict().values(), expected.state_dict().values(), strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs.float())


def test_an_adapter_beside_a_whole_model_does_not_hide_it(folder):
    change(folder, "adapter_config.json", base_model_name_or_path="owner/base")
    assert load_classifier(folder)[0].config.num_labels == 3
    with pytest.raises(KdlabError, match="lack"):
        load_masked_lm(folder)
