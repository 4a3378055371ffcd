"""A module that cannot be imported where it runs."""

raise ImportError("the GPU library is not there")
