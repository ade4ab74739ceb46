"""What a run is: typed, frozen recipe sections and the strict reader of recipe files."""
