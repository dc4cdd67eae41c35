"""From a recipe to a launch: everything that can be wrong is found here, before any long work."""
