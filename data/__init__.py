"""What models read: facts, text and the atlas. Imports nothing of ours."""
