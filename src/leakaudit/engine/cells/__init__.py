"""What each kind of cell does, in a process of its own."""
