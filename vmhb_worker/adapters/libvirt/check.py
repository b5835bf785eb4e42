"""`--check-config`: would the worker get on with this libvirt?"""

from __future__ import annotations

import queue
import threading

import libvirt

from vmhb_worker.adapters.libvirt.connection import start_event_loop


def check(uri: str, timeout: float) -> str | None:
    """What is wrong with libvirt at this URI, and the remedy, in one sentence; None when all is well.

    Returns within `timeout` seconds, whatever hangs.
    """
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(_look_at(uri)), name="libvirt-check", daemon=True).start()
    try:
        return answer.get(timeout=timeout)
    except queue.Empty:
        return f"libvirt at {uri} did not answer within {timeout:g} s: see whether libvirtd hangs, and restart it."


def _look_at(uri: str) -> str | None:
    start_event_loop()
    try:
        connection = libvirt.open(uri)
        driver = connection.getType()
    except libvirt.libvirtError as error:
        return (
            f"Cannot connect to libvirt at {uri} ({error}): see that libvirtd runs, that its socket is mounted here "
            f"and that this user may open it, or set [libvirt] connection_uri."
        )
    if driver != "QEMU":
        return f"libvirt at {uri} drives {driver}, not QEMU: set [libvirt] connection_uri to nova-compute's."
    if _read_only(connection):
        return f"libvirt at {uri} is read-only: set [libvirt] connection_uri to the read-write socket."
    return None


def _read_only(connection: libvirt.virConnect) -> bool:
    """Ask for a conversion that cannot be: it changes nothing, and needs a connection that may write."""
    try:
        connection.domainXMLFromNative("vmhb-check", "", 0)
    except libvirt.libvirtError as error:
        denied = (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_ERR_ACCESS_DENIED)
        return error.get_error_code() in denied
    return False
