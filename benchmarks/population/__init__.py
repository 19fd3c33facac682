"""How time, memory and disk grow with the neurons of a recording."""
