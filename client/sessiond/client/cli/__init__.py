"""The command line, `sessionctl`: one file for each group of commands, loaded when one of them is used."""
