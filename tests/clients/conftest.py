"""A fake provider, a real Pillion in front of it, and real SDKs in front of that.

A failing test shows the configuration, the gateway's log and what the providers saw.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fake import Fake, Lane  # noqa: E402
from pillion import BINARY, KEY, Gateway  # noqa: E402


def pytest_configure(config):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: build it with `cargo build --release` or set PILLION_BIN", 1)


@pytest.fixture(scope="session")
def fake():
    with Fake() as running:
        yield running


@pytest.fixture
def lane(fake):
    return fake.lane()


@pytest.fixture
def lanes(fake, request):
    """Makes lanes."""
    return lambda count: [fake.lane() for _ in range(count)]


@pytest.fixture
def gateway(request, tmp_path):
    """Starts a gateway for these deployments: `gateway(deployment(…), …, router={…})`."""
    running: list[Gateway] = []
    request.node.gateways = running

    def start(*entries: dict, router: dict | None = None, litellm: dict | None = None, general: dict | None = None,
              env: dict | None = None, **more) -> Gateway:
        config = {"model_list": list(entries), "router_settings": {"num_retries": 0, **(router or {})}}
        config |= {"litellm_settings": litellm} if litellm else {}
        config |= {"general_settings": general} if general else {}
        gateway = Gateway({**config, **more}, tmp_path / f"gateway{len(running)}", env)
        running.append(gateway)
        return gateway

    yield start
    for one in running:
        code = one.stop()
        assert code == 0, f"the gateway ended with {code}:\n{one.log}"
        assert "panicked" not in one.log, one.log
        assert KEY not in one.log, "the provider's key is in the log"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed:
        return
    for number, one in enumerate(getattr(item, "gateways", [])):
        report.sections.append((f"gateway {number}: configuration", one.file.read_text()))
        report.sections.append((f"gateway {number}: log", one.log))
    for name, value in getattr(item, "funcargs", {}).items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Lane):
                saw = "\n".join(f"{s.method} {s.path} {s.raw[:2000]!r}" for s in one.seen)
                report.sections.append((f"{name} {one.name} saw", saw))
