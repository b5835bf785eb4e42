#!/bin/sh
# Two event alarms, which POST to a URL when a fault of the caller's project is raised, and when one is cleared:
#
#   alarms.sh http://vnfm:8080/ [instance uuid]
#
# Aodh never takes an event alarm back to `ok` by itself: so there are two, and both repeat their actions.
#
# EVENTS="vitrage.alarm.activate vitrage.alarm.deactivate": of Vitrage's alarms instead, those that it deduced as well.
# Credentials: as `openstack` has them (OS_CLOUD, OS_AUTH_URL …). CLIENT: its name, or `aodh`, which takes the same.
set -eu

url=$1
instance=${2:-}

for event in ${EVENTS:-vmhb.fault.raised vmhb.fault.cleared}; do
    case $event in
    # A drill is a fault that somebody made to see who is told.
    vmhb.*) query="traits.drill=string::False" ;;
    *) query="traits.alarm_name!=string::" ;;
    esac
    ${CLIENT:-openstack} alarm create --type event --event-type "$event" --name "vmhb_${event##*.}${instance:+_$instance}" \
        --query "$query${instance:+;traits.resource_id=string::$instance}" --alarm-action "$url" --repeat-actions True
done
