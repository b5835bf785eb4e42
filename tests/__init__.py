"""Unit tests (no machine needed), functional tests (real libvirt, QEMU and RabbitMQ), and the lab that they run in."""
