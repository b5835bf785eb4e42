"""What developers and visitors run. Not installed with the package."""
