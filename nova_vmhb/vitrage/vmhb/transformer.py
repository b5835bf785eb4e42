"""Vitrage's transformer: one alarm for each fault, on the vertex of the instance or host that it is about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vitrage.common.constants import DatasourceAction, EdgeLabel, EntityCategory
from vitrage.common.constants import DatasourceProperties as DSProps
from vitrage.common.constants import VertexProperties as VProps
from vitrage.datasources.alarm_properties import AlarmProperties
from vitrage.datasources.alarm_transformer_base import AlarmTransformerBase
from vitrage.datasources.nova.host import NOVA_HOST_DATASOURCE
from vitrage.datasources.nova.instance import NOVA_INSTANCE_DATASOURCE
from vitrage.datasources.transformer_base import EntityWrapper, build_key
from vitrage.graph import utils as graph_utils
from vitrage.utils.datetime import format_utcnow

from nova_vmhb.vitrage.faults import BOARD, Board
from nova_vmhb.vitrage.vmhb import VMHB_DATASOURCE

#: No action of Vitrage's processor, so it does nothing but say so.
OVERTAKEN = "overtaken"


class VmhbTransformer(AlarmTransformerBase):
    """Made by Vitrage, once. `transform` runs under the lock of EventsCoordination: here, and only here, there is an
    order in which events change the graph."""

    def __init__(self, transformers: Any, board: Board = BOARD, clock: Callable[[], float] = time.monotonic) -> None:
        """board: the newest of each fault."""
        super().__init__(transformers)
        self._board = board
        self._clock = clock

    def transform(self, entity_event: dict[str, Any]) -> Any:
        """As Vitrage's, of what is the newest about the fault."""
        update = entity_event[DSProps.DATASOURCE_ACTION] == DatasourceAction.UPDATE
        newest = (self._board.take if update else self._board.confirm)(entity_event, self._clock())
        if newest is None:
            return EntityWrapper(None, [], OVERTAKEN)
        # The driver's time is of a thread that may have waited; Vitrage ignores what is older than what it has.
        newest[DSProps.SAMPLE_DATE] = format_utcnow()
        return super().transform(newest)

    def get_vitrage_type(self) -> str:
        """Of our alarms."""
        return VMHB_DATASOURCE

    def _ok_status(self, event: dict[str, Any]) -> bool:
        return bool(event["state"] == "cleared")

    def _create_entity_key(self, event: dict[str, Any]) -> str:
        return str(build_key((EntityCategory.ALARM, VMHB_DATASOURCE, event["fault_id"])))

    def _create_snapshot_entity_vertex(self, event: dict[str, Any]) -> Any:
        return self._vertex(event)

    def _create_update_entity_vertex(self, event: dict[str, Any]) -> Any:
        return self._vertex(event)

    def _create_snapshot_neighbors(self, event: dict[str, Any]) -> list[Any]:
        return self._neighbors(event)

    def _create_update_neighbors(self, event: dict[str, Any]) -> list[Any]:
        return self._neighbors(event)

    def _vertex(self, event: dict[str, Any]) -> Any:
        over = self._ok_status(event)
        return graph_utils.create_vertex(
            self._create_entity_key(event),
            vitrage_category=EntityCategory.ALARM,
            vitrage_type=VMHB_DATASOURCE,
            vitrage_sample_timestamp=event[DSProps.SAMPLE_DATE],
            entity_id=event["fault_id"],
            entity_state=AlarmProperties.INACTIVE_STATE if over else AlarmProperties.ACTIVE_STATE,
            update_timestamp=self._format_update_timestamp(event["occurred_at"], event[DSProps.SAMPLE_DATE]),
            project_id=event["project_id"],
            metadata={
                # Templates match by it: `name: guest_hung`. It may change while the fault lasts.
                VProps.NAME: event["cause"],
                VProps.SEVERITY: event["severity"],
                VProps.RAWTEXT: event["reason"],
                VProps.RESOURCE_ID: event["instance_uuid"] or event["host"],
                **{name: event[name] for name in ("sequence", "confidence", "recommended_action", "withheld", "host")},
            },
        )

    def _neighbors(self, event: dict[str, Any]) -> list[Any]:
        """An instance that Vitrage does not know yet gets a placeholder, which its own datasource fills in later."""
        whose, kind = event["instance_uuid"], NOVA_INSTANCE_DATASOURCE
        if whose is None:
            whose, kind = event["host"], NOVA_HOST_DATASOURCE
        return [self._create_neighbor(event, whose, kind, EdgeLabel.ON, neighbor_category=EntityCategory.RESOURCE)]
