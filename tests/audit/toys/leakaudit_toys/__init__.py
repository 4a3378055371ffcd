"""Toy plugins that exercise the contract: what attacks and defenses may do, and what they must not get away with."""
