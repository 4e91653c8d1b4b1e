"""The mathematics: each file's first lines are its formula."""
