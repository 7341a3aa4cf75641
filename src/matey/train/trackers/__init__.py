"""What the records of a run are handed to, besides its own log, for other programs to show."""
