"""Requests of the contract: what is malformed is refused by name, and all else arrives whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.daemon.engine.scripted import load

from sessiond.adapters.base import ContextSettings, LoraSettings, ModelSettings, Sampling
from sessiond.daemon.server import from_proto
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.fim import FimRequest
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.suffix import MAX_ROLES, MessageInput, SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1 import config_pb2, context_pb2, session_service_pb2
from sessiond.v1.errors import InvalidInput, UnsupportedFeature

Pb = config_pb2.Config
Decode = config_pb2.DecodeConfig
FACTS = load("scripted-kv:").facts


def _open(**config: Any) -> SessionConfig:
    request = session_service_pb2.OpenSessionRequest(config=Pb(**config))
    return from_proto.open_request(request).config


def _fields(error: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [violation.field for violation in error.value.violations]


def test_an_empty_config_leaves_all_open() -> None:
    assert _open() == SessionConfig()


@pytest.mark.parametrize("root", ["/nowhere/at/all", "/" + "a" * 300, "/dev/null", "/dev/null/below"])
def test_a_workspace_that_is_no_folder_is_refused(root: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        from_proto.open_request(session_service_pb2.OpenSessionRequest(workspace_root=root))
    assert _fields(caught) == ["workspace_root"]


def test_every_field_of_a_config_arrives() -> None:
    config = Pb(
        num_ctx=1, num_batch=2, num_ubatch=3, num_threads=4, num_threads_batch=5, num_gpu_layers=0,
        tensor_split=[0.5, 1], main_gpu=6, split_mode=config_pb2.SPLIT_MODE_ROW,
        flash_attn=config_pb2.FLASH_ATTN_OFF, deterministic=True, kv_cache_type="f16", use_mmap=False,
        use_mlock=True, prompt_format="raw", prompt_template_digest="aa", disable_bos=True,
        rope_freq_base=7, rope_freq_scale=8, lora=[config_pb2.Lora(path="/l"), config_pb2.Lora(path="/m", scale=2)],
    )  # fmt: skip
    assert {field.name for field, _ in config.ListFields()} == {f.name for f in Pb.DESCRIPTOR.fields}
    asked = from_proto.open_request(session_service_pb2.OpenSessionRequest(config=config)).config
    assert asked == SessionConfig(
        ModelSettings(0, (0.5, 1.0), 6, "row", False, True, (LoraSettings("/l"), LoraSettings("/m", 2.0))),
        ContextSettings(
            num_ctx=1,
            num_batch=2,
            num_ubatch=3,
            num_threads=4,
            num_threads_batch=5,
            flash_attn=False,
            deterministic=True,
            kv_cache_type="f16",
            rope_freq_base=7,
            rope_freq_scale=8,
        ),
        "raw",
        "aa",
        disable_bos=True,
    )


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"num_ctx": -1}, "config.num_ctx"),
        ({"num_batch": 1 << 25}, "config.num_batch"),
        ({"num_threads": 1 << 20}, "config.num_threads"),
        ({"num_gpu_layers": -1}, "config.num_gpu_layers"),
        ({"main_gpu": -1}, "config.main_gpu"),
        ({"tensor_split": [1, float("nan")]}, "config.tensor_split[1]"),
        ({"tensor_split": [1] * 129}, "config.tensor_split"),
        ({"rope_freq_base": -1}, "config.rope_freq_base"),
        ({"rope_freq_scale": float("inf")}, "config.rope_freq_scale"),
        ({"kv_cache_type": "a\0"}, "config.kv_cache_type"),
        ({"prompt_format": "a" * 300}, "config.prompt_format"),
        ({"flash_attn": 9}, "config.flash_attn"),
        ({"split_mode": 9}, "config.split_mode"),
        ({"lora": [config_pb2.Lora()]}, "config.lora[0].path"),
        ({"lora": [config_pb2.Lora(path="rel")]}, "config.lora[0].path"),
        ({"lora": [config_pb2.Lora(path="/l", scale=1e9)]}, "config.lora[0].scale"),
        ({"lora": [config_pb2.Lora(path=f"/{i}") for i in range(17)]}, "config.lora"),
    ],
)
def test_a_malformed_config(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        _open(**config)
    assert _fields(raised) == [field]


def test_a_workspace_has_one_name(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    asked = [
        from_proto.open_request(session_service_pb2.OpenSessionRequest(workspace_root=str(path)))
        for path in (folder, link, tmp_path / "folder" / ".." / "folder")
    ]
    assert [each.workspace_root for each in asked] == [folder] * 3
    for bad in (tmp_path / "none", "relative"):
        with pytest.raises(InvalidInput) as raised:
            from_proto.open_request(session_service_pb2.OpenSessionRequest(workspace_root=str(bad)))
        assert _fields(raised) == ["workspace_root"]


def test_prefixes() -> None:
    text = context_pb2.PrefixInput(text="é")
    assert from_proto.prefix_request(text) == PrefixRequest((Segment("text", "text", "é"),))
    given = context_pb2.PrefixInput(
        segments=context_pb2.SegmentList(
            segments=[
                context_pb2.SegmentInput(id="a", text="A", path="a.py"),
                context_pb2.SegmentInput(id="b", text="B", cache_class="volatile"),
            ]
        )
    )
    assert from_proto.prefix_request(given).segments == (
        Segment("a", "file", "A", "a.py"),
        Segment("b", "text", "B", stable=False, cache_class="volatile"),
    )
    workspace = context_pb2.PrefixInput(workspace=context_pb2.WorkspaceInput(max_tokens=5))
    assert from_proto.prefix_request(workspace) == PrefixRequest(workspace=True, max_tokens=5)
    assert from_proto.prefix_request(context_pb2.PrefixInput()) == PrefixRequest()


def test_malformed_segments() -> None:
    segments = [
        context_pb2.SegmentInput(id="a"),
        context_pb2.SegmentInput(id="a"),
        context_pb2.SegmentInput(),
        context_pb2.SegmentInput(id="frame"),
        context_pb2.SegmentInput(id="e", text="\0", path="../x"),
        context_pb2.SegmentInput(id="f", path="/x"),
        context_pb2.SegmentInput(id="g", path="a/../b"),
    ]
    given = context_pb2.PrefixInput(segments=context_pb2.SegmentList(segments=segments))
    with pytest.raises(InvalidInput) as raised:
        from_proto.prefix_request(given)
    expected = ["[1].id", "[2].id", "[3].id", "[4].text", "[4].path", "[5].path", "[6].path"]
    assert _fields(raised) == [f"prefix.segments{each}" for each in expected]


def test_suffixes() -> None:
    pb = context_pb2.SuffixInput
    assert from_proto.suffix_request(pb()) == SuffixRequest("")
    assert from_proto.suffix_request(pb(text="x", mode=context_pb2.SUFFIX_MODE_REPLACE)) == SuffixRequest(
        "x", replace=True
    )
    messages = context_pb2.MessageList(messages=[context_pb2.Message(role="user", content="x")])
    assert from_proto.suffix_request(pb(messages=messages)) == SuffixRequest(
        messages=(MessageInput("user", "x"),)
    )
    assert from_proto.suffix_request(pb(fim=context_pb2.FimInput(before="a", after="b"))).fim == FimRequest(
        "a", "b"
    )
    with pytest.raises(InvalidInput) as raised:
        from_proto.suffix_request(pb(text="\0", mode=9))  # type: ignore[arg-type]  # a value of a newer client
    assert _fields(raised) == ["suffix.mode", "suffix.text"]


def test_messages_have_a_bound() -> None:
    one = context_pb2.Message(role="user", content="x")
    for count in (MAX_ROLES, MAX_ROLES + 1):
        given = context_pb2.SuffixInput(messages=context_pb2.MessageList(messages=[one] * count))
        if count == MAX_ROLES:
            assert len(from_proto.suffix_request(given).messages or ()) == count
            continue
        with pytest.raises(InvalidInput) as raised:
            from_proto.suffix_request(given)
        assert _fields(raised) == ["suffix.messages"]


def test_an_expectation_that_is_empty_is_one() -> None:
    assert from_proto.prefix_request(context_pb2.PrefixInput(text="x")).expect is None
    asked = from_proto.prefix_request(context_pb2.PrefixInput(expect=context_pb2.ContextManifest()))
    assert asked.expect is not None and asked.expect["digest"] == ""
    asked_too = from_proto.suffix_request(
        context_pb2.SuffixInput(
            expect=context_pb2.ContextManifest(segments=[context_pb2.ManifestSegment(id="a", token_end=3)])
        )
    )
    assert asked_too.expect is not None
    assert (asked_too.expect["segments[0].id"], asked_too.expect["segments[0].token_end"]) == ("a", "3")


def test_every_field_of_a_decode_arrives() -> None:
    config = Decode(
        max_tokens=1, temperature=2, top_k=3, top_p=0.4, min_p=0.5, typical_p=0.6, repeat_penalty=7,
        repeat_last_n=-1, frequency_penalty=-8, presence_penalty=9, seed=10, stop=["x"],
        samplers=["top_k", "penalties"], logit_bias=[config_pb2.LogitBias(token_id=1, bias=float("-inf"))],
    )  # fmt: skip
    asked = from_proto.decode_request(config, FACTS)
    assert asked.sampling == Sampling(
        10, 2, 3, 0.4, 0.5, 0.6, 7, -1, -8, 9, ("top_k", "penalties"), ((1, float("-inf")),)
    )
    assert (asked.max_tokens, asked.stop) == (1, ("x",))


def test_a_seed_of_nothing_is_any_and_of_zero_is_zero() -> None:
    assert from_proto.decode_request(Decode(seed=0), FACTS).sampling.seed == 0
    assert len({from_proto.decode_request(Decode(), FACTS).sampling.seed for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (Decode(max_tokens=-1), "max_tokens"),
        (Decode(temperature=-0.1), "temperature"),
        (Decode(temperature=float("nan")), "temperature"),
        (Decode(top_p=1.1), "top_p"),
        (Decode(repeat_last_n=-2), "repeat_last_n"),
        (Decode(seed=(1 << 32) - 1), "seed"),
        (Decode(seed=-1), "seed"),
        (Decode(stop=[""]), "stop[0]"),
        (Decode(stop=["a"] * 65), "stop"),
        (Decode(samplers=["x"]), "samplers[0]"),
        (Decode(logit_bias=[config_pb2.LogitBias(token_id=-1)]), "logit_bias[0].token_id"),
        (
            Decode(logit_bias=[config_pb2.LogitBias(token_id=FACTS.vocab.size)]),
            "logit_bias[0].token_id",
        ),
        (Decode(logit_bias=[config_pb2.LogitBias(bias=float("inf"))]), "logit_bias[0].bias"),
        (Decode(speculation=9), "speculation"),  # type: ignore[arg-type]  # a value of a newer client
        (Decode(logprobs=-1), "logprobs"),
        (Decode(logprobs=21), "logprobs"),
    ],
)
def test_a_malformed_decode(config: config_pb2.DecodeConfig, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        from_proto.decode_request(config, FACTS)
    assert _fields(raised) == [f"config.{field}"]


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        (Decode(grammar="x"), "grammar"),
        (Decode(json_schema="{}"), "grammar"),
        (Decode(choices=["a"]), "grammar"),
        (Decode(logprobs=1), "logprobs"),
    ],
)
def test_what_a_backend_does_not_serve_is_not_ignored(config: config_pb2.DecodeConfig, feature: str) -> None:
    facts = load("scripted-prompt:").facts
    with pytest.raises(UnsupportedFeature) as raised:
        from_proto.decode_request(config, facts)
    assert (raised.value.feature, raised.value.backend) == (feature, facts.backend)


def test_every_field_of_a_decode_is_known() -> None:
    """A new field must be served, refused, or said to be ignored."""
    known = set(
        "max_tokens temperature top_k top_p min_p typical_p repeat_penalty repeat_last_n frequency_penalty"
        " presence_penalty seed stop samplers grammar json_schema choices logit_bias logprobs speculation".split()
    )
    assert {field.name for field in Decode.DESCRIPTOR.fields} == known
