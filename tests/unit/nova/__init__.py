"""Of nova_vmhb, as far as it needs none of the services that load it."""
