"""The known-truth world: what is in the model by construction is written down here."""

from data.atlas.world import FOLDER, World, build_world, load_world

__all__ = ["FOLDER", "World", "build_world", "load_world"]
