"""What an operator can say in a flavor, through Nova's real API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from nova.api.validation.extra_specs import validators
from nova.tests.functional.api import client

from nova_vmhb import extra_specs
from tests.nova.cloud import Cloud, running
from vmhb_common.model.policy import KNOB, KNOBS, Channel, HeartbeatPolicy, Kind, Knob, as_knobs

#: From this microversion on Nova looks at extra specs.
CHECKED = "2.86"
UNCHECKED = "2.85"


class Api(Cloud):
    """No compute node is needed."""

    COMPUTES = ()


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """Nova's API."""
    with running(Api()) as api:
        yield api


@pytest.fixture
def flavor(api: Api) -> str:
    """A flavor's id."""
    flavor: str = api._create_flavor()
    return flavor


def refused(api: Api, flavor: str, specs: Mapping[str, str], microversion: str = CHECKED) -> str | None:
    """What the API says to these extra specs; None when it takes them, and then they are there."""
    api.admin_api.microversion = microversion
    try:
        api.admin_api.post_extra_spec(flavor, {"extra_specs": specs})
    except client.OpenStackApiException as error:
        assert error.response.status_code == 400
        return str(error.response.json()["badRequest"]["message"])
    finally:
        api.admin_api.microversion = CHECKED
    listed = api.admin_api.api_get(f"/flavors/{flavor}/os-extra_specs").body["extra_specs"]
    assert specs.items() <= listed.items()
    return None


def good(knob: Knob) -> list[str]:
    """What must be taken: the bounds, every choice, every spelling."""
    if knob.kind is Kind.BOOLEAN:
        return ["true", "false", "True", "yes", "no", "1", "0", "on", "off"]
    if knob.kind is Kind.CHOICE:
        return list(knob.choices)
    assert knob.minimum is not None
    assert knob.maximum is not None
    middle = (knob.minimum + knob.maximum) / 2
    numbers = [knob.minimum, middle, knob.maximum]
    return [f"{number:.0f}" if knob.kind is Kind.COUNT else f"{number:g}" for number in numbers]


def bad(knob: Knob) -> list[str]:
    """What must be refused: just out of bounds, of another kind, nothing at all."""
    if knob.kind in (Kind.BOOLEAN, Kind.CHOICE):
        return ["maybe", "true false", "2", " "]
    assert knob.minimum is not None
    assert knob.maximum is not None
    step = 1 if knob.kind is Kind.COUNT else 0.001
    outside = [f"{knob.minimum - step:g}", f"{knob.maximum + step:.10g}"]
    return [*outside, "soon", "nan", "inf", "1,5", "10s", *(["2.5"] if knob.kind is Kind.COUNT else [])]


def rows(values: dict[str, list[str]]) -> list[tuple[str, str]]:
    """(knob, value), for parametrize."""
    return [(name, value) for name, several in values.items() for value in several]


def test_every_knob_has_its_validator() -> None:
    """Found by Nova through the entry point; all of Nova's own are still there."""
    for knob in KNOBS:
        validator = validators.VALIDATORS[knob.extra_spec]
        assert isinstance(validator, extra_specs.KnobValidator)
        assert validator.description == knob.help
    assert {"hw:watchdog_action", "hw:cpu_policy"} <= set(validators.VALIDATORS)


@pytest.mark.parametrize(("name", "value"), rows({knob.name: good(knob) for knob in KNOBS}))
def test_good_values(api: Api, flavor: str, name: str, value: str) -> None:
    """Every row of the table, to its bounds, each by itself."""
    assert refused(api, flavor, {KNOB[name].extra_spec: value}) is None


@pytest.mark.parametrize(("name", "value"), rows({knob.name: bad(knob) for knob in KNOBS}))
def test_bad_values(api: Api, flavor: str, name: str, value: str) -> None:
    """The message names the extra spec, what it was, and what is allowed. Below 2.86 nobody looks."""
    spec = KNOB[name].extra_spec
    message = refused(api, flavor, {spec: value})
    assert message is not None
    assert f"{spec} is {value!r}: say {KNOB[name].allowed}" in message
    assert refused(api, flavor, {spec: value}, UNCHECKED) is None


@pytest.mark.parametrize("name", ["hw:heartbeat_intervall", "hw:heartbeat_", "hw:heartbeats", "hw:heartbeat.interval"])
def test_unknown_names(api: Api, flavor: str, name: str) -> None:
    """A slip of the pen is refused, and the message names what there is."""
    message = refused(api, flavor, {name: "10"})
    assert message is not None
    assert f"'{name}' is not known" in message
    assert all(knob.extra_spec in message for knob in KNOBS)
    assert refused(api, flavor, {name: "10"}, UNCHECKED) is None


def test_one_at_a_time(api: Api, flavor: str) -> None:
    """Through PUT, the other way to set one."""
    url = {"flavor_id": flavor, "spec_id": "hw:heartbeat_interval"}
    api.admin_api.put_extra_spec(**url, body={"hw:heartbeat_interval": "2.5"})
    with pytest.raises(client.OpenStackApiException, match="say a number of seconds"):
        api.admin_api.put_extra_spec(**url, body={"hw:heartbeat_interval": "0"})


def test_numbers_without_quotes(api: Api, flavor: str) -> None:
    """JSON has numbers; Nova's API takes them for text."""
    api.admin_api.post_extra_spec(flavor, {"extra_specs": {"hw:heartbeat_interval": 2.5, "hw:heartbeat_threshold": 4}})


@pytest.mark.parametrize("channel", list(Channel))
def test_the_documented_defaults(api: Api, flavor: str, channel: Channel) -> None:
    """Whoever writes out what holds anyway is not refused."""
    knobs = as_knobs(HeartbeatPolicy(heartbeat=True, channel=channel))
    assert set(knobs) == set(KNOB)
    assert refused(api, flavor, {KNOB[name].extra_spec: value for name, value in knobs.items()}) is None


def test_others_are_left_alone(api: Api, flavor: str) -> None:
    """Nova's own extra specs are judged as ever, and so are names outside its namespaces."""
    assert refused(api, flavor, {"hw:watchdog_action": "reset", "heartbeat": "x", "vmhb:heartbeat": "x"}) is None
    assert "does not appear to be a valid extra spec" in str(refused(api, flavor, {"hw:hearbeat": "true"}))


def test_registering_never_raises(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A Nova that we do not fit loses a validator, not its API."""
    broken = Knob("broken", Kind.COUNT, 1, "Has no bounds.")
    monkeypatch.setattr(extra_specs, "KNOBS", (KNOBS[0], broken, *KNOBS[1:]))
    names = [validator.name for validator in extra_specs.register()]
    assert names == [*(knob.extra_spec for knob in KNOBS), "hw:heartbeat{rest}"]
    assert "cannot be made" in caplog.text
