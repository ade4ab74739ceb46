"""Pictures of results: contact sheets, curves, turntables. Pillow only."""
