# What is the same wherever the modules are.

# What pbr installs beside the modules, and packages have elsewhere.
execute_before_dh_install:
	rm -rf debian/tmp/usr/etc debian/tmp/usr/share/nova-vmhb/systemd

# Where units are is another folder in another release of Debian: debhelper knows.
execute_before_dh_installsystemd:
	cp etc/systemd/vmhb-worker.service etc/systemd/nova-vmhb-consumer.service debian/
