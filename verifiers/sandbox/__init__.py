"""Walls around code that a model wrote: a zygote, forks of it, and a judge outside the room."""
