"""What a client expects of the context is checked field by field."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FieldDescriptor

from sessiond.client import ContextManifest, ManifestMismatch, Session
from sessiond.v1 import context_pb2

SEGMENTS = [("a", "xxxx"), ("b", "yyyy"), ("c", "zzzz")]

MANIFEST_FIELDS = [f.name for f in ContextManifest.DESCRIPTOR.fields if f.name != "segments"]
SEGMENT_FIELDS = [f.name for f in context_pb2.ManifestSegment.DESCRIPTOR.fields]


@pytest.fixture
def settled(session: Session) -> Session:
    """A session with a prefix of three segments."""
    session.ensure_prefix(segments=SEGMENTS)
    return session


def _spoil(message: ContextManifest | context_pb2.ManifestSegment, name: str) -> None:
    value = getattr(message, name)
    if isinstance(value, bool):
        setattr(message, name, not value)
    elif isinstance(value, int):
        setattr(message, name, value + 1)
    else:
        setattr(message, name, value + "0")


def _expect_mismatch(session: Session, expect: ContextManifest) -> list[str]:
    """The names that both rpcs report; the session stays as it was."""
    before = session.explain()
    with pytest.raises(ManifestMismatch) as of_prefix:
        session.ensure_prefix(segments=SEGMENTS, expect=expect)
    with pytest.raises(ManifestMismatch) as of_suffix:
        session.prefill_suffix("yz", expect=expect)
    assert session.explain() == before
    assert of_prefix.value.fields == of_suffix.value.fields
    names = [field.name for field in of_prefix.value.fields]
    assert of_prefix.value.metadata() == {"fields": ",".join(names)}
    return names


@pytest.mark.parametrize("name", MANIFEST_FIELDS)
def test_a_wrong_field_is_named(settled: Session, name: str) -> None:
    expect = settled.explain().manifest
    _spoil(expect, name)
    assert _expect_mismatch(settled, expect) == [name]


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("name", SEGMENT_FIELDS)
def test_a_wrong_field_of_a_segment_is_named_with_its_index(settled: Session, name: str, index: int) -> None:
    expect = settled.explain().manifest
    _spoil(expect.segments[index], name)
    assert _expect_mismatch(settled, expect) == [f"segments[{index}].{name}"]


def test_expected_and_actual_values_are_told(settled: Session) -> None:
    expect = settled.explain().manifest
    actual = expect.model_digest
    expect.model_digest = "f" * 64
    with pytest.raises(ManifestMismatch) as caught:
        settled.prefill_suffix("yz", expect=expect)
    [field] = caught.value.fields
    assert (field.name, field.expected, field.actual) == ("model_digest", "f" * 64, actual)


def test_an_empty_manifest_matches_nothing(settled: Session) -> None:
    assert _expect_mismatch(settled, ContextManifest())


def test_an_empty_manifest_does_not_match_an_empty_session(session: Session) -> None:
    with pytest.raises(ManifestMismatch):
        session.ensure_prefix(expect=ContextManifest())


def test_a_missing_segment_is_named(settled: Session) -> None:
    expect = settled.explain().manifest
    del expect.segments[2]
    assert all(name.startswith("segments[2].") for name in _expect_mismatch(settled, expect))


def test_a_segment_too_many_is_named(settled: Session) -> None:
    expect = settled.explain().manifest
    expect.segments.add(id="d", token_start=12, token_end=13)
    assert all(name.startswith("segments[3].") for name in _expect_mismatch(settled, expect))


def test_an_empty_segment_too_many_is_named(settled: Session) -> None:
    """Every field of it is the default, and yet the manifest has one segment more."""
    expect = settled.explain().manifest
    expect.segments.add()
    assert all(name.startswith("segments[3]") for name in _expect_mismatch(settled, expect))


def test_the_right_manifest_passes(settled: Session) -> None:
    expect = settled.explain().manifest
    settled.ensure_prefix(segments=SEGMENTS, expect=expect)
    assert settled.prefill_suffix("yz", expect=expect).status.manifest_digest == expect.digest


def test_every_field_of_the_manifest_is_said() -> None:
    """The tests above go over descriptors: they cannot forget a field, unless its type is new."""
    known = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_INT32}
    known |= {FieldDescriptor.TYPE_INT64}
    for kind in (ContextManifest, context_pb2.ManifestSegment):
        assert {f.type for f in kind.DESCRIPTOR.fields if f.message_type is None} <= known
