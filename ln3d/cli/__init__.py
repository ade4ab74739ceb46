"""The command line: one file per command, which parses, delegates to the stage of that name, and reports."""
