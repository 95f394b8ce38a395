"""The bottleneck builder: its formulas against the models themselves, and its controls."""

from __future__ import annotations

import base64
import io
import re

import pytest
import torch
from PIL import Image
from widget_checks import check_frame_is_static, check_moved_at_once

from kdlab import plots
from kdlab.errors import KdlabError
from kdlab.models.architectures import ARCHITECTURES, build
from kdlab.plots.sizes import PANELS, PARTS
from kdlab.study import metrics
from kdlab.widgets import BottleneckBuilder
from kdlab.widgets import builder as room
from kdlab.widgets.builder import PRESETS, Shape

OTHERS = [Shape(64, 1, 1, 64), Shape(312, 4, 12, 1248, pooler=False), Shape(1024, 2, 16, 4096),
          Shape(512, 2, 4, 512, 4, 128, "full"), Shape(512, 2, 4, 512, 1, 128, "inner"),
          Shape(520, 3, 8, 100, 3, 64, "shared"), Shape(256, 2, 16, 2048, 2, 512, "shared"),
          Shape(96, 1, 3, 72, 2, 96, "full", pooler=False)]


def parts_by_name(model) -> dict[str, int]:
    """Another way to the same numbers: each weight goes where its name says."""
    counted = dict.fromkeys(PARTS, 0)
    for name, weight in model.named_parameters():
        part = next((part for part, mark in (("other", r"[Nn]orm|pooler"), ("embeddings", "^embeddings"),
                                             ("bottleneck", "bottleneck"), ("attention", "attention"))
                     if re.search(mark, name)), "FFN")
        counted[part] += weight.numel()
    return counted


@pytest.mark.parametrize("shape", [*PRESETS.values(), *OTHERS], ids=str)
def test_the_formulas_are_what_the_models_have(shape):
    model = build(shape.config(), device="meta")
    assert shape.parts() == parts_by_name(model)
    assert sum(shape.parts().values()) == metrics.parameters(model)
    assert shape.flops() == metrics.flops(model, 128)
    assert shape.flops(40) == metrics.flops(model, 40)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_presets_model_is_the_papers(name):
    ours, theirs = PRESETS[name].config(), ARCHITECTURES[name].config
    assert ours.to_diff_dict() == theirs.to_diff_dict()


def test_heads_weigh_and_cost_nothing():
    one, many = (Shape(768, 12, heads, 3072) for heads in (1, 16))
    assert one.parts() == many.parts() and one.flops() == many.flops()


@pytest.mark.parametrize(("sizes", "said"), [
    ((500, 2, 12, 64), "12 heads do not divide a width of 500"), ((64, 0, 1, 64), "a depth of 0"),
    ((64, 1, 1, 64, 4), "several FFN stacks"), ((64, 1, 1, 64, 1, -32), "cannot be built"),
    ((64, 1, 1, 64, 1, 32, "both"), "cannot be built"), ((512, 1, 12, 64, 1, 128), "do not divide a width of 128")])
def test_a_shape_that_no_model_can_have_gets_a_sentence(sizes, said):
    with pytest.raises(KdlabError, match=said):
        Shape(*sizes)


@pytest.fixture
def builder():
    return BottleneckBuilder("BERT-base", {"BERT-base": 170.0, "MobileBERT, released": 60.0})


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_from_the_list_sets_every_control(builder, name):
    builder.start.value = name
    assert builder.shape() == PRESETS[name] and builder.start.value == name
    state = builder.state()
    assert state.numbers["million parameters"] == pytest.approx(
        metrics.parameters(build(ARCHITECTURES[name].config, device="meta")) / 1e6)
    assert f"{state.model.parameters / 1e6:.2f} million parameters" in builder.shown.value
    assert f"million parameters = {state.model.parameters / 1e6:.3f}" in builder.message.value


def test_moving_width_or_bottleneck_takes_ffn_and_heads_along(builder):
    builder.width.value = 512
    assert builder.ffn.value == 2048 and builder.heads.value in (8, 16)
    assert builder.start.value == "your own"
    builder.width.value = 384
    assert builder.heads.value == 12, "the heads come back to what was asked for"
    builder.ffn.value = 1000
    builder.depth.value = 5
    assert builder.shape() == Shape(384, 5, 12, 1000)
    builder.bottleneck.value = 96
    assert builder.shape() == Shape(384, 5, 12, 384, 1, 96)
    builder.stacks.value, builder.queries.value = 4, "full"
    assert builder.shape() == Shape(384, 5, 12, 384, 4, 96, "full")
    builder.bottleneck.value = 0
    assert builder.shape() == Shape(384, 5, 12, 1536) and builder.stacks.disabled and builder.queries.disabled
    builder.width.value, builder.depth.value = 768, 12
    assert builder.start.value == "BERT-base", "a model that was reached by hand is recognised"


def test_every_position_of_every_control_is_a_model_that_exists(builder):
    for width in range(builder.width.min, builder.width.max + 1, builder.width.step):
        builder.setting = True      # the rest follows without a drawing
        builder.width.value = width
        builder._fit()
        assert builder.shape().width == width
    for bottleneck in range(0, builder.bottleneck.max + 1, builder.bottleneck.step):
        builder.bottleneck.value = bottleneck
        builder._fit()
        assert builder.shape().bottleneck == bottleneck
    assert all(name in builder.start.options for name in ARCHITECTURES)


def test_a_widgets_frame_is_the_static_picture(builder):
    for name in ("MobileBERT-tiny", "IB-BERT"):
        builder.start.value = name
        check_frame_is_static(builder, plots.picture(plots.frame_sizes, plots.draw_sizes, builder.state(), PANELS))


def test_a_page_without_kernel_shows_the_picture_with_words(builder):
    data, metadata = builder._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (820, 300)
    alt = metadata["image/png"]["alt"]
    assert "BERT-base: 109.48 million parameters, 22.35 GFLOPs, 170 ms." in alt
    assert "embeddings 23.84, attention 28.35, FFN 56.67" in alt
    assert "released: 24.58 million parameters (published: 25.3), 5.39 GFLOPs (published: 5.7), 60 ms" in alt
    assert "IB-BERT: 294.21 million parameters (published: 293), 75.75 GFLOPs." in alt


def test_the_button_measures_the_setting_shown(builder, monkeypatch):
    timed = []
    monkeypatch.setattr(room.metrics, "latency", lambda model, length, repeats: timed.append(
        (metrics.parameters(model), torch.get_num_threads())) or 12.5)
    monkeypatch.setattr(room, "build", lambda config: build(config, device="meta"))
    builder.start.value = "DistilBERT"
    assert builder.state().model.latency is None and "ms on one core" not in builder.message.value
    threads = torch.get_num_threads()
    builder.button.click()
    assert timed == [(66_362_880, 1)] and torch.get_num_threads() == threads
    assert builder.state().model.latency == 12.5 and "ms on one core here = 12.500" in builder.message.value
    assert "DistilBERT: 66.36 million parameters (published: 66), 11.17 GFLOPs, 12 ms" in builder.shown.value
    builder.depth.value = 5
    state = builder.state()
    assert state.model.latency is None and state.stale == 12.5
    assert "The last time, 12.5 ms, was of 6 layers, 768 wide, FFN 3072." in builder.message.value
    builder.depth.value = 6
    assert builder.state().model.latency == 12.5, "it is the same model again"
    assert not builder.button.disabled


def test_a_small_model_is_really_timed(builder):
    builder.width.value, builder.depth.value = 64, 1
    builder.button.click()
    assert 0 < builder.state().model.latency < 5_000


def test_a_model_too_large_to_measure_is_refused_and_the_picture_stays(builder):
    builder.start.value = "IB-BERT"
    builder.stacks.value = 4
    before = builder.shown.value
    builder.button.click()
    assert builder.shown.value == before and not builder.button.disabled
    assert 'role="alert"' in builder.message.value
    assert "million parameters is not measured here" in builder.message.value


def test_memory_that_runs_out_gets_a_sentence(builder, monkeypatch):
    def full(config):
        raise RuntimeError("not enough memory <here>")
    monkeypatch.setattr(room, "build", full)
    builder.button.click()
    assert "not enough memory &lt;here&gt;" in builder.message.value and not builder.button.disabled


@pytest.mark.parametrize("arguments", [("GPT-2",), ("BERT-base", {"mine": 3.0})])
def test_a_model_of_no_paper_gets_a_sentence(arguments):
    with pytest.raises(KdlabError, match="the papers have no model"):
        BottleneckBuilder(*arguments)


def test_events_in_two_threads_do_not_spoil_the_picture(builder):
    check_moved_at_once(builder, (
        (builder.width, range(64, 1025, 40)), (builder.depth, range(1, 25)),
        (builder.bottleneck, range(0, 769, 32)), (builder.start, [*PRESETS, *PRESETS])))


def test_attention_maps_carry_words():
    scores = torch.tensor([[4.0, -1.0], [0.5, 2.0]])
    shown = plots.attention_maps(["a", "b"], {"scores": scores, "probabilities": scores.softmax(-1)}, "two words")
    assert shown.alt.startswith("Maps of 2 by 2 words, headed 'two words'. scores: from -1.00 to 4.00; largest from a "
                                "to a 4.00, from b to b 2.00, from b to a 0.50")
    assert "probabilities: from 0.01 to 0.99" in shown.alt
    assert Image.open(io.BytesIO(shown.png())).size == (820, 370)
