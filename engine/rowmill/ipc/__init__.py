"""Between the processes of a run: what they say to each other, how they are started, what memory they hold."""
