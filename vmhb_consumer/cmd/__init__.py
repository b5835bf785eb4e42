"""The program. It reads the command line and the configuration, and hands plain values on."""
