"""One module for each step, never changed once anybody has run it. What each says of itself: `migrations/steps.py`."""
