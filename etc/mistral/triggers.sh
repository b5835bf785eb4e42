#!/bin/sh
# Has Mistral start a workflow for each fault that is raised or cleared, by event triggers: without nova-vmhb-consumer.
#
#   MISTRAL_URL=http://mistral:8989/v2 OS_TOKEN=$(openstack token issue -f value -c id) triggers.sh [workflow [input]]
#
# workflow: its id or name, by default vmhb_fault, the one beside this file, which is created if there is none of that
# name. input: JSON, of the workflow: '{"url": "http://vnfm:8080/"}'.
#
# SCOPE=public, the default, takes the role admin: the workflow is started for all projects' faults, in the caller's
# project. SCOPE=private: for those of the caller's project only.
#
# Mistral's listeners on one exchange share one queue, and lose each other's events if their topics differ: so all
# triggers on the exchange vmhb must have the same topic.
set -eu

workflow=${1:-vmhb_fault}
input=${2:-"{}"}
scope=${SCOPE:-public}
topic=${TOPIC:-vmhb_notifications}
here=$(dirname "$(readlink -f "$0")")

ask() {
    curl --silent --show-error --fail-with-body -H "X-Auth-Token: ${OS_TOKEN:-}" "$@"
}

if [ "$workflow" = vmhb_fault ] && ! ask "$MISTRAL_URL/workflows/vmhb_fault" >/dev/null 2>&1; then
    ask -H "Content-Type: text/plain" --data-binary "@$here/vmhb_fault.yaml" "$MISTRAL_URL/workflows?scope=$scope"
fi
id=$(ask "$MISTRAL_URL/workflows/$workflow" | sed 's/.*"id": *"\([0-9a-f-]*\)".*/\1/')

for change in raised cleared; do
    ask -H "Content-Type: application/json" "$MISTRAL_URL/event_triggers" --data @- <<JSON
{"name": "vmhb_$change", "exchange": "vmhb", "topic": "$topic", "event": "vmhb.fault.$change", "workflow_id": "$id",
 "workflow_input": $input, "scope": "$scope"}
JSON
    # The event engine can't take two at once: the first's listener would go on beside the second's, on the same queue,
    # and drop what the second waits for. One that is stopped looks up from its queue every 5 s at most. What comes
    # before it listens it never hears of.
    sleep 8
done
