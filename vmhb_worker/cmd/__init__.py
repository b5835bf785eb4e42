"""The programs. They read the command line and the configuration, and hand plain values on."""
