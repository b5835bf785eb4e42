"""On the real thing: libvirt, QEMU, RabbitMQ. As root."""
