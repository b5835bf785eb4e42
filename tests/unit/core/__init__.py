"""The core, tested as transcripts: what happened, what came out. No patching, no sleeping, no fixtures."""
