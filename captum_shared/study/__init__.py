"""A neuron or a whole recording explained, without ink: what is asked, what was found, and the run in between."""
