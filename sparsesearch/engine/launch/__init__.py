"""From a recipe to a launch: every error of a recipe is found here, before any long work."""
