"""Where a run takes place: CPU, memory, versions, weights. Facts only, and no paths."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import cast

import psutil
from dulwich import porcelain
from dulwich.errors import NotGitRepository
from dulwich.repo import Repo

from benchmark.results import Machine, ModelFacts, Way
from benchmark.texts import SOURCE, sources
from sessiond.client import Client
from sessiond.v1.config_pb2 import Config, FlashAttn
from sessiond.v1.model_service_pb2 import ModelRuntime

_CPUINFO = Path("/proc/cpuinfo")
_FEATURES = ("avx", "avx2", "f16c", "fma", "avx_vnni", "asimd", "sve", "i8mm", "bf16")
_FAMILIES = ("avx512", "amx")
_SETTINGS = ("num_threads", "num_threads_batch", "num_batch", "num_ubatch", "num_gpu_layers", "kv_cache_type")


_Status = tuple[dict[str, list[object]], list[object], list[object]]
"""What differs between the commit and the index, what between that and the files, and files that git does not know."""


def machine(runs: ModelRuntime) -> Machine:
    """This one, now, and what the daemon measured on it."""
    facts = _cpu_facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Machine(
        cpu=facts.get("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        features=[flag for flag in flags if flag in _FEATURES or flag.startswith(_FAMILIES)],
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load_at_start=round(os.getloadavg()[0], 2),
        chosen=_settings(runs.config) if runs.measurements else {},
        ways=[
            Way(_settings(way.config), way.bulk_tokens_per_second, way.small_ms, way.single_ms)
            for way in runs.measurements
        ],
    )


def model_facts(client: Client, config: Config) -> ModelFacts:
    """The daemon's default model, and how a session of that config runs it."""
    model = client.model()
    return ModelFacts(
        name=Path(model.absolute_path).name or model.name,
        digest=model.model_digest,
        size_bytes=model.size_bytes,
        parameters=model.parameters,
        vocab_tokens=model.vocab_tokens,
        backend=model.backend,
        backend_version=model.backend_version,
        notes=list(model.notes),
        settings=_settings(config),
    )


def our_version() -> str:
    """Of the package, and the commit of the checkout, if it is one: "+dirty" where it is not that commit which ran."""
    package = version("sessiond")
    try:
        with Repo(str(SOURCE)) as repo:
            return f"{package} ({repo.head().decode()[:12]}{'+dirty' * _is_dirty(repo)})"
    except (NotGitRepository, KeyError, OSError):
        return package


def _is_dirty(repo: Repo) -> bool:
    """Whether files differ from the commit, or are new. Those that git ignores are of no account."""
    found = cast("_Status", porcelain.status(repo, untracked_files="all"))
    staged, unstaged, untracked = found
    return bool(unstaged or untracked or any(staged.values()))


def texts_digest() -> str:
    """SHA-256 of what all texts are cut from."""
    return hashlib.sha256(sources().encode()).hexdigest()


def _settings(config: Config) -> dict[str, str]:
    told = {name: str(getattr(config, name)) for name in _SETTINGS}
    if not config.HasField("num_gpu_layers"):
        told["num_gpu_layers"] = "left to the backend"
    return told | {"flash_attn": FlashAttn.Name(config.flash_attn)}


def _cpu_facts() -> dict[str, str]:
    """Of the first core; empty where the system does not tell."""
    try:
        first = _CPUINFO.read_text("utf-8", "replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
