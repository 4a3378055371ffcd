"""Recipes: the YAML file that states one audit, read safely, validated whole, and resolved to installed plugins."""
