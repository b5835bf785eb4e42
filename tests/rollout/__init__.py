"""Hosts with systemd, libvirtd, Nova and Masakari of their own, and all of us brought in by one playbook."""
