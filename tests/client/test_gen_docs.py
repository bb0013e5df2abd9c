"""The generated page has every command; `scripts/gen-docs --check` compares the words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sessiond.client.cli.catalog import CATALOG

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_sessionctl_has_every_command() -> None:
    page = (ROOT / "docs/sessionctl.md").read_text(encoding="utf-8")
    for name in CATALOG:
        assert f"\n## sessionctl {name}\n" in page


def test_check_fails_where_it_is_called_wrongly() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/gen-docs", "--nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--check" in done.stderr
