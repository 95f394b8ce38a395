"""The engine: what the loop leans on."""
