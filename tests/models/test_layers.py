"""Layer maps, layer-drop, the papers' sizes, and the terms that read layers."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DistilBertForMaskedLM,
    MobileBertForMaskedLM,
)

from kdlab.errors import KdlabError
from kdlab.models import (
    classifier_from,
    fingerprint,
    layer_map,
    load_classifier,
    load_masked_lm,
    new_masked_lm,
    new_model,
    save,
)
from kdlab.models.architectures import ARCHITECTURES, build, ib_bert_config, mobilebert_config
from kdlab.models.bottleneck import PublishedMobileBertForMaskedLM
from kdlab.models.layer_dropping import layer_drop, shallower
from kdlab.models.tracing import trace
from kdlab.study import metrics

DEPTHS = st.integers(1, 24).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))


def same_weights(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_presets_are_the_papers():
    assert layer_map.uniform(4, 12) == ((1, 3), (2, 6), (3, 9), (4, 12))                    # TinyBERT 4.2
    assert layer_map.top(4, 12) == ((1, 9), (2, 10), (3, 11), (4, 12))
    assert layer_map.bottom(4, 12) == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert [n - 1 for _, n in layer_map.spread(6, 12)] == [0, 2, 4, 7, 9, 11]               # extract_distilbert.py
    assert [n for _, n in layer_map.skip(6, 12)] == [2, 4, 6, 8, 10]                        # PKD-Skip
    assert layer_map.last(6, 12) == ((6, 12),)


@given(DEPTHS)
def test_peer_defect_12_presets_exist_for_any_two_depths(depths):
    """peers.md 6.12: other kits assert that one depth divides the other."""
    M, N = depths
    for preset in (layer_map.uniform, layer_map.top, layer_map.bottom, layer_map.spread):
        chosen = [n for _, n in preset(M, N)]
        assert len(chosen) == M and chosen == sorted(set(chosen)) and chosen[0] >= 1 and chosen[-1] <= N
    assert layer_map.uniform(M, N)[-1] == layer_map.top(M, N)[-1] == (M, N)


def test_a_student_deeper_than_its_teacher_is_refused():
    with pytest.raises(KdlabError, match="5 layers cannot take one each from a teacher of 4"):
        layer_map.uniform(5, 4)


# Parameters with and without the dense pooler, and 10^9 FLOPs for 128 tokens: measured with torch while planning.
SIZES = {"BERT-base": (109_482_240, 108_891_648, 22.348), "DistilBERT": (66_362_880, 66_362_880, 11.174),
         "TinyBERT-6": (66_955_008, 66_364_416, 11.175), "TinyBERT-4": (14_350_248, 14_252_592, 1.247),
         "IB-BERT": (294_205_184, 294_205_184, 75.750), "MobileBERT, as published": (25_359_104, 25_359_104, 5.587),
         "MobileBERT, released": (24_581_888, 24_581_888, 5.385), "MobileBERT-tiny": (15_485_696, 15_485_696, 3.070)}


@pytest.mark.parametrize("name", SIZES)
def test_the_papers_models_have_their_parameters_and_flops(name):
    with_pooler, without, gflops = SIZES[name]
    config = ARCHITECTURES[name].config
    model = build(config, device="meta")
    assert metrics.parameters(model) == with_pooler
    assert metrics.parameters(build(config, pooler=False, device="meta")) == without
    assert metrics.flops(model, 128) / 1e9 == pytest.approx(gflops, rel=0.01)
    published = ARCHITECTURES[name].published_parameters
    assert with_pooler / 1e6 == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize("name", SIZES)
def test_the_papers_models_run_forward_and_backward(name):
    model = build(ARCHITECTURES[name].config).train()
    ids = torch.randint(5, 30_000, (1, 6))
    seen = trace(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ("hidden_states", "attention"))
    (seen.hidden_states[-1].square().mean() + seen.attention[0].scores().mean()).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "pooler" not in n)
    assert len(seen.attention) == model.config.num_hidden_layers


def test_google_s_json_fed_straight_to_transformers_would_be_another_model():
    """methods.md 6: missing keys get other values there than in Google's code, so ours sets them all."""
    config = ib_bert_config()
    given = config.to_diff_dict()
    assert config.key_query_shared_bottleneck is False and config.num_feedforward_networks == 1
    assert config.normalization_type == "layer_norm" and "num_feedforward_networks" in given


SMALL_MOBILE = {"vocab_size": 60, "num_hidden_layers": 2, "hidden_size": 24, "embedding_size": 12,
                "num_attention_heads": 2, "intermediate_size": 40, "max_position_embeddings": 40}


def test_transformers_still_cannot_build_the_published_blocks_and_we_can():
    config = mobilebert_config(**SMALL_MOBILE, intra_bottleneck_size=8, key_query_shared_bottleneck=False)
    ids = torch.randint(5, 60, (2, 6))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):      # if this passes one day, drop ours
        MobileBertForMaskedLM(config)(ids)
    assert new_model(config)(ids).logits.shape == (2, 6, 60)
    assert type(new_model(mobilebert_config(**SMALL_MOBILE, intra_bottleneck_size=8))) is MobileBertForMaskedLM


def test_an_ib_bert_folder_comes_back_the_same(task, tmp_path):
    config = ib_bert_config(**{**SMALL_MOBILE, "vocab_size": len(task.tokenizer)}, intra_bottleneck_size=48)
    model = new_model(config, seed=1)
    loaded, _ = load_masked_lm(save(model, task.tokenizer, tmp_path / "ib"))
    assert isinstance(loaded, PublishedMobileBertForMaskedLM)
    assert same_weights(model, loaded)
    classifier = classifier_from(loaded, task.label_names)
    save(classifier, task.tokenizer, tmp_path / "classifier")
    assert load_classifier(tmp_path / "classifier")[0].config.num_labels == 5


def test_fresh_full_width_queries_are_initialised_as_the_rest():
    weight = new_model(ib_bert_config(**{**SMALL_MOBILE, "hidden_size": 200}, intra_bottleneck_size=96)) \
        .mobilebert.encoder.layer[0].attention.self.query.weight
    assert weight.shape == (96, 200) and weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.fixture(scope="module")
def bert12(task, tmp_path_factory):
    """A 12-layer BERT folder and the model in it."""
    model = new_masked_lm(task.tokenizer, layers=12, width=24, heads=2, seed=4)
    return model, save(model, task.tokenizer, tmp_path_factory.mktemp("bert12") / "bert")


def test_layer_drop_makes_a_folder_that_distilbert_loads_whole(task, bert12, tmp_path):
    teacher, _ = load_masked_lm(bert12[1])
    student = layer_drop(teacher)
    folder = save(student, task.tokenizer, tmp_path / "distilbert")
    for kind, allowed in ((DistilBertForMaskedLM, ()), (AutoModel, ("vocab_",))):
        _, info = kind.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"] and not info.get("error_msgs")
        assert all(key.startswith(allowed) for key in info["unexpected_keys"]), info["unexpected_keys"]
    again, _ = load_masked_lm(folder)
    assert again.config.n_layers == 6 and isinstance(again, DistilBertForMaskedLM)
    assert same_weights(student, again)


def test_a_kept_layer_computes_what_it_did_in_the_teacher(bert12):
    """The oracle is the teacher itself: the same input through its layer n and the student's layer m."""
    teacher = bert12[0].eval()
    student = layer_drop(teacher).eval()
    states = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    for m, n in layer_map.spread(6, 12):
        expected = teacher.bert.encoder.layer[n - 1](states)
        actual = student.distilbert.transformer.layer[m - 1](states)
        torch.testing.assert_close(actual, expected[0] if isinstance(expected, tuple) else expected)
    head = student.vocab_layer_norm(student.activation(student.vocab_transform(states)))
    torch.testing.assert_close(student.vocab_projector(head), teacher.cls(states))


def test_with_all_layers_and_no_segment_vector_the_student_is_the_teacher(bert12):
    teacher = deepcopy(bert12[0]).eval()
    teacher.bert.embeddings.token_type_embeddings.weight.data.zero_()
    student = layer_drop(teacher, layer_map.bottom(12, 12)).eval()
    ids = torch.randint(5, 100, (3, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    torch.testing.assert_close(trace(student, batch).logits, trace(teacher, batch).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [((1, 13),), ((2, 3),), ((1, 0),)])
def test_layer_drop_refuses_layers_that_are_not_there(bert12, layers):
    with pytest.raises(KdlabError, match="does not give each student layer"):
        layer_drop(bert12[0], layers)


def test_layer_drop_of_an_untied_bert_keeps_both_its_embeddings_and_its_decoder(task, tmp_path):
    config = BertConfig(vocab_size=len(task.tokenizer), hidden_size=24, num_hidden_layers=4, num_attention_heads=2,
                        intermediate_size=40, tie_word_embeddings=False)
    teacher = new_model(config, seed=2).eval()
    words, decoder = teacher.bert.embeddings.word_embeddings.weight, teacher.cls.predictions.decoder.weight
    assert not torch.equal(words, decoder)
    student = layer_drop(teacher)
    again, _ = load_masked_lm(save(student, task.tokenizer, tmp_path / "student"))
    for one in (student, again):
        assert torch.equal(one.distilbert.embeddings.word_embeddings.weight, words)
        assert torch.equal(one.vocab_projector.weight, decoder)
    assert fingerprint(again) == fingerprint(student)


def test_layer_drop_refuses_layer_norms_that_no_distilbert_has(task):
    config = BertConfig(vocab_size=len(task.tokenizer), hidden_size=24, num_hidden_layers=4, num_attention_heads=2,
                        intermediate_size=40, layer_norm_eps=1e-5)
    teacher = new_model(config)
    with pytest.raises(KdlabError, match=r"layer_norm_eps is 1e-05 and a DistilBERT's is always 1e-12.*shallower"):
        layer_drop(teacher)
    assert shallower(teacher).bert.encoder.layer[0].output.LayerNorm.eps == 1e-5


def test_layer_drop_refuses_another_architecture(task):
    with pytest.raises(KdlabError, match="from a BertForMaskedLM, and this is a DistilBertForMaskedLM"):
        layer_drop(layer_drop(new_masked_lm(task.tokenizer, 2, 32)))


def test_a_real_size_bert_base_loses_its_layers_in_a_process_without_kdlab(tmp_path, task):
    """BERT-base's own configuration, random weights, vocabulary cut: saved, then loaded by transformers alone."""
    config = BertConfig(vocab_size=len(task.tokenizer))
    folder = save(layer_drop(BertForMaskedLM(config)), task.tokenizer, tmp_path / "distilbert")
    code = ("import sys; from transformers import AutoModelForMaskedLM as A; m, i = A.from_pretrained(sys.argv[1], "
            "output_loading_info=True); print(type(m).__name__, m.config.n_layers, len(i['missing_keys']), "
            "len(i['unexpected_keys']), 'kdlab' in sys.modules)")
    said = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True,
                          cwd=ROOT)
    assert said.stdout.split() == ["DistilBertForMaskedLM", "6", "0", "0", "False"]
