"""What tokens cost: the prices of the models that a run asks."""
