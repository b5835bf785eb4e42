"""A whole OpenStack on this machine: Keystone, Placement, Glance, Nova with two compute nodes, Masakari, and our parts.

All of it from PyPI (``.venv-cloud``), on loopback, with everything it keeps in one folder. libvirt, QEMU, the guest and
RabbitMQ are the lab's (`tests.lab`); there is no Neutron but one that says that it has nothing (``neutron.py``), since
its servers have no ports. ``tools/cloud`` is the way to it for people, ``conftest.py`` for tests. Both speak with the
one process that holds the cloud (``holder.py``): when that ends, however it ends, the cloud does.
"""
