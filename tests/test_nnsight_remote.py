"""nnsight's remote execution: what a host sends back is what is read here, and only what a host can hold is asked."""

import threading
from dataclasses import replace

import pytest
import torch
from nnsight import CONFIG
from nnsight.schema.request import RequestModel

from data.errors import InputError
from probes import models
from probes.backends import HOSTED, NnsightRemoteBackend
from probes.capture import CaptureError, Recorder, parity, stream
from probes.checkpoints import Quantisation
from probes.hosted import HubName, hub_of
from probes.inputs import build_inputs
from probes.models import open_model
from probes.sharing import share_weights
from probes.sites import Kind, Site, sites_of
from tests.hosts import NO_KEY, NOT_HOSTED, Host
from tests.sequences import (
    assert_equal,
    captured,
    every_type,
    requires_logits_where_wanted,
    sequences,
    with_lora,
)
from tests.tiny_models import WIDTH, tiny

ROWS = [[1, 5, 6, 7], [1, 8]]


# --- Equal to what is read here ------------------------------------------------------------------------


@every_type
def test_every_site_of_a_padded_batch_is_what_hooks_read(hub, simulated, model_type):
    model = hub(model_type)
    inputs = sequences(model)
    found, truth = captured(model, inputs, backend="nnsight_remote"), captured(model, inputs)
    assert set(found) == set(truth) == set(sites_of(model, Kind))
    for site, tensor in truth.items():
        assert_equal(found[site], tensor)
    assert parity(model, inputs, sites_of(model, Kind), backend="nnsight_remote").require().backend == "nnsight_remote"


def test_half_precision_travels(hub, simulated):
    model = hub("llama", dtype="bfloat16")
    parity(model, sequences(model), sites_of(model, Kind), backend="nnsight_remote").require()


@every_type
def test_prompts_of_two_lengths_travel_as_embeddings(hub, simulated, model_type):
    model = hub(model_type)
    prompts = [torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(length)) for length in (2, 3)]
    inputs = build_inputs(model, ROWS, prompts)
    found, truth = captured(model, inputs, backend="nnsight_remote"), captured(model, inputs)
    bare = captured(model, build_inputs(model, ROWS))
    last = Site(1, Kind.RESID_POST)
    assert_equal(found[last], truth[last])
    assert (found[last][0, -1] - bare[last][0, -1]).abs().max() > 1e-3
    parity(model, inputs, sites_of(model, Kind), backend="nnsight_remote").require()


@every_type
def test_positions_and_mask_travel(hub, simulated, model_type):
    model = hub(model_type)
    inputs = sequences(model)
    shown = replace(inputs, attention_mask=torch.ones_like(inputs.attention_mask))
    for changed in (replace(inputs, position_ids=inputs.position_ids * 3), shown):
        parity(model, changed, sites_of(model, Kind), backend="nnsight_remote").require()


@every_type
def test_logits_only_where_wanted(hub, simulated, model_type):
    requires_logits_where_wanted(hub(model_type), "nnsight_remote")


def test_sites_come_in_the_order_of_the_pass(hub, simulated):
    model = hub("llama")
    sites = sites_of(model, Kind)
    seen: dict[str, list[Site]] = {"nnsight": [], "nnsight_remote": []}
    for backend, found in seen.items():
        shown: dict[Site, torch.Tensor] = {}
        stream(model, sequences(model), sites, shown.__setitem__, backend=backend)
        found.extend(shown)
    assert seen["nnsight_remote"] == seen["nnsight"]


# --- What travels --------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch, simulated):
    """The payloads that nnsight made, as they would be posted."""
    payloads: list[bytes] = []
    serialize = RequestModel.serialize.__func__

    def kept(cls, tracer, compress=False):
        payloads.append(serialize(cls, tracer, compress))
        return payloads[-1]

    monkeypatch.setattr(RequestModel, "serialize", classmethod(kept))
    return payloads


def test_nothing_of_ours_travels_but_words_and_the_batch(hub, sent):
    model = hub("llama")
    captured(model, sequences(model), [Kind.PATTERN, Kind.RESID_POST], "nnsight_remote")
    (payload,) = sent
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    assert len(payload) < weights / 2
    # A function of ours would be sent as source, or by name, depending on where Python was started.
    for ours in (b"probes", b"analysis", b"jaxtyping", b"_load_function"):
        assert ours not in payload.replace(b"probes/backends/nnsight_remote.py", b""), ours
    assert b"model.layers.1.self_attn" in payload


@pytest.fixture
def host(tmp_path, hub, monkeypatch):
    """Starts a host that speaks as NDIF does, and lets the backend ask it."""
    monkeypatch.setattr(CONFIG.API, "APIKEY", "a-key")
    monkeypatch.setattr("nnsight.modeling.huggingface._ID_CACHE", {"owner/gpt2": "owner/gpt2"})  # else asks the hub
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    started: list[Host] = []

    def start(fault=""):
        started.append(Host(tmp_path / "gpt2", tmp_path / "host", fault))
        threading.Thread(target=started[0].serve_forever, daemon=True).start()
        monkeypatch.setattr(NnsightRemoteBackend, "remote", started[0].address)
        return started[0]

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


def test_a_host_without_our_code_answers_what_hooks_read(hub, host):
    """By nnsight's own client, over sockets: what its simulation, which runs the block in this process, cannot show."""
    model, asked = hub("gpt2"), host()
    inputs = build_inputs(model, ROWS, [torch.ones(2, WIDTH), torch.ones(3, WIDTH)])
    found, truth = captured(model, inputs, backend="nnsight_remote"), captured(model, inputs)
    assert set(found) == set(truth)
    for site, tensor in truth.items():
        assert_equal(found[site], tensor)
    (request,) = asked.asked
    assert request["model_key"].endswith('{"repo_id": "owner/gpt2", "revision": null, "task": "text-generation"}')
    assert request["env"] == {"attn_implementation": "eager"}
    assert asked.keys == {"a-key"}


def test_what_a_host_says_of_a_failure_is_one_line(hub, host):
    model, _ = hub("gpt2"), host("Traceback:\n  a long one\nOutOfMemoryError: no room\n")
    with pytest.raises(InputError) as told:
        stream(model, sequences(model), [], lambda *_: None, backend="nnsight_remote")
    assert str(told.value) == (
        "nnsight_remote: the host did not run a pass of 'owner/gpt2' (OutOfMemoryError: no room); "
        "nnsight.ndif_status() tells what it holds"
    )


# --- What is refused -----------------------------------------------------------------------------------


def test_a_hub_name_is_remembered_with_its_revision(hub):
    assert hub_of(hub("llama")) == HubName("owner/llama")
    assert hub_of(hub("llama", "owner/{}@refs")) == HubName("owner/llama", "refs")
    with Recorder(hub("llama", "owner/{}@refs"), backend="hooks") as recorder:
        assert hub_of(recorder.model) is not None


def refused(model):
    with pytest.raises(InputError) as told:
        Recorder(model, backend="nnsight_remote")
    assert str(told.value) == NOT_HOSTED


def test_a_model_from_files_is_refused(hub, simulated, tmp_path):
    hub("llama")
    refused(open_model(str(tmp_path / "llama"), dtype="float32", device="cpu").model)
    refused(open_model("atlas", dtype="float32", device="cpu").model)
    refused(tiny("llama"))


def test_a_changed_model_is_refused(hub, simulated):
    model = hub("llama")
    Recorder(model, backend="nnsight_remote")
    refused(share_weights(model))
    refused(with_lora(share_weights(model)))
    Recorder(model, backend="nnsight_remote")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    refused(model)
    replaced = hub("gpt2")
    replaced.transformer.h[0].mlp.c_fc.weight = torch.nn.Parameter(replaced.transformer.h[0].mlp.c_fc.weight.clone())
    refused(replaced)
    refused(with_lora(hub("llama")))
    refused(hub("llama").bfloat16())


def test_a_quantised_repository_made_dense_here_is_refused(hub, simulated, monkeypatch):
    monkeypatch.setattr(models, "quantisation_of", lambda name, folder: Quantisation("compressed-tensors", None))
    monkeypatch.setattr(models, "open_checkpoint_dense", lambda folder, dtype: tiny("llama"))
    refused(hub("llama"))


def test_a_missing_key_is_one_line(hub, monkeypatch):
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    model = hub("llama")
    with pytest.raises(InputError) as told:
        Recorder(model, backend="nnsight_remote")
    assert str(told.value) == NO_KEY
    monkeypatch.setattr(CONFIG.API, "APIKEY", "a-key")
    recorder = Recorder(model, backend="nnsight_remote")
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    with pytest.raises(InputError) as told:
        recorder.stream(sequences(model), [], lambda *_: None)
    assert str(told.value) == NO_KEY


def test_a_host_out_of_reach_is_one_line(hub, monkeypatch):
    monkeypatch.setattr(CONFIG.API, "APIKEY", "a-key")
    monkeypatch.setattr(NnsightRemoteBackend, "remote", "http://127.0.0.1:9")
    monkeypatch.setattr("nnsight.modeling.huggingface._ID_CACHE", {"owner/llama": "owner/llama"})
    model = hub("llama", "owner/{}@refs")
    key = NnsightRemoteBackend(model).traced.to_model_key()
    with Recorder(model, backend="nnsight_remote") as recorder:
        assert '{"repo_id": "owner/llama", "revision": "refs", "task": "text-generation"}' in key
        with pytest.raises(InputError, match=r"^nnsight_remote: the host did not run a pass of 'owner/llama' \(.+\); "):
            recorder.stream(sequences(model), [], lambda *_: None)


def test_a_module_that_is_never_called_stops(hub, simulated):
    model = hub("llama")
    model.model.layers[1].forward = lambda states, **keywords: states
    with pytest.raises(CaptureError, match=r"^A site fired 0 times in one pass of nnsight_remote: .*layers\.1\.mlp"):
        stream(model, sequences(model), sites_of(model, [Kind.MLP_OUT]), lambda *_: None, backend="nnsight_remote")


class OtherWeights(NnsightRemoteBackend):
    """A host whose model of the same name has another weight."""

    def __init__(self, model) -> None:
        super().__init__(model)
        theirs = self.traced._module.model.layers[1].mlp.down_proj
        theirs.weight = torch.nn.Parameter(theirs.weight * 1.1)


def test_a_host_whose_weights_are_others_does_not_pass_the_gate(hub, simulated, monkeypatch):
    model = hub("llama")
    monkeypatch.setitem(HOSTED, "nnsight_remote", OtherWeights)
    recorder = Recorder(model, backend="nnsight_remote")
    with pytest.raises(RuntimeError, match=r"^nnsight_remote differs from Hugging Face by"):
        recorder.parity(sequences(model), sites_of(model, [Kind.RESID_POST])).require()
