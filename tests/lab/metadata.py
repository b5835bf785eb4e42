"""The ``<metadata>`` of a domain: as our driver writes it, and as a stock Nova does.

Plain text, built here from the published formats and not by the code under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

VMHB = "urn:openstack:vmhb:1"
STATE = "urn:openstack:vmhb:state:1"
NOVA = "http://openstack.org/xmlns/libvirt/nova/1.1"


def heartbeat(**knobs: object) -> str:
    """Our own element, one attribute per knob: ``heartbeat(interval=1, action='recover')``."""
    given = {"heartbeat": True, **knobs}
    attributes = "".join(f" {name}={quoteattr(_text(value))}" for name, value in given.items())
    return f"<vmhb:heartbeat xmlns:vmhb={quoteattr(VMHB)} version='1'{attributes}/>"


def nova(
    extra_specs: Mapping[str, object] | None,
    *,
    display_name: str = "lab",
    flavor: str = "m1.lab",
    project: str = "6f70656e737461636b2d70726f6a6563",
    user: str = "6f70656e737461636b2d757365722d31",
    prefix: str = "nova",
) -> str:
    """Nova's element, as version 34 writes it; ``extra_specs=None`` as Nova before 2025.2.

    Nova rewrites the element with ``prefix='instance'`` when an interface is attached.
    """
    p = prefix
    specs = ""
    if extra_specs is not None:
        each = "".join(
            f"<{p}:extraSpec name={quoteattr(name)}>{escape(_text(value))}</{p}:extraSpec>"
            for name, value in extra_specs.items()
        )
        specs = f"<{p}:extraSpecs>{each}</{p}:extraSpecs>"
    return f"""\
<{p}:instance xmlns:{p}={quoteattr(NOVA)}>
  <{p}:package version="34.0.0"/>
  <{p}:name>{escape(display_name)}</{p}:name>
  <{p}:creationTime>2026-01-01 00:00:00</{p}:creationTime>
  <{p}:flavor name={quoteattr(flavor)} id="8c1a4bc4-2d3a-4d4a-9f7e-000000000001">
    <{p}:memory>112</{p}:memory>
    <{p}:disk>0</{p}:disk>
    <{p}:swap>0</{p}:swap>
    <{p}:ephemeral>0</{p}:ephemeral>
    <{p}:vcpus>1</{p}:vcpus>
    {specs}
  </{p}:flavor>
  <{p}:owner>
    <{p}:user uuid={quoteattr(user)}>lab</{p}:user>
    <{p}:project uuid={quoteattr(project)}>lab</{p}:project>
  </{p}:owner>
  <{p}:root type="image" uuid="8c1a4bc4-2d3a-4d4a-9f7e-000000000002"/>
  <{p}:ports/>
</{p}:instance>"""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
