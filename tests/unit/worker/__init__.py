"""Of vmhb_worker, besides the core and the engine: those are beside this package."""
