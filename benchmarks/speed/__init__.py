"""Each path beside a hand-written minimal loop: time, memory and how both grow."""
