"""Of vmhb_common."""
