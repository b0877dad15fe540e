"""What is asked and what is read out: an input line -> a request body, a reply body -> an answer."""
